// The page "Now": the newest snapshot on a map and in a table; search, filter and choice work on both.

import { byId, el, empty, figures, length, load, mark, nameOf, num, page, plain, rows, share, shapes, svg, t, time } from "./core.js";
import { fitLabels, makeMap, plane } from "./map.js";
import { bar, fillTable, together } from "./tables.js";

const STATES = ["ok", "low", "empty", "full", "overfull", "no_docks"];
// What is farther out is told in the table: one wrong place would shrink the city to a dot.
const CITY = { south: 50.9, north: 51.4, west: 16.6, east: 17.5 };
const inCity = ({ lat, lon }) => lat >= CITY.south && lat <= CITY.north && lon >= CITY.west && lon <= CITY.east;
const LAND_M = 500;

let stations = [];
let free = [];
let snapshotAt = null;
let map = null;
let table = null;
let chosen = null;
let matching = new Set();

await page({
  figures: async () => {
    const data = await load("now.json");
    if (data === null) {
      empty(byId("map"), t("failed_file", { file: "data/now.json" }));
      return;
    }
    snapshotAt = data.snapshot_at;
    stations = rows(data.stations);
    for (const station of stations) {
      station.free = Math.max(0, station.docks - station.bikes);
      station.level = station.docks ? station.bikes / station.docks : 0;
      station.plain = plain(`${station.name} ${station.id}`);
    }
    free = rows(data.free);
    matching = new Set(stations);
    if (!stations.length) {
      empty(byId("map"));
      return;
    }
    const count = (...states) => stations.filter((station) => states.includes(station.state)).length;
    const of = (n) => `${share(n / stations.length, 0)} · ${t("of", { n: num(stations.length) })}`;
    figures(
      {
        at_stations: num(stations.reduce((sum, station) => sum + station.bikes, 0)),
        free: num(free.length),
        empty: num(count("empty")),
        full: num(count("full", "overfull")),
        off_zone: num(data.off_zone),
      },
      { at_stations: t("docks_n", { n: num(stations.reduce((sum, station) => sum + station.docks, 0)) }), empty: of(count("empty")), full: of(count("full", "overfull")) },
    );
  },
  map: () => {
    if (stations.length) drawMap();
  },
  table: drawTable,
  filters: () => {
    const choice = byId("filter-state");
    choice.append(el("option", { value: "", text: t("all_states") }));
    for (const state of STATES) {
      const n = stations.filter((station) => station.state === state).length;
      if (n) choice.append(el("option", { value: state, text: `${t(`states.${state}`)} (${num(n)})` }));
    }
    byId("filter-search").addEventListener("input", filter);
    choice.addEventListener("change", filter);
    byId("show-free").addEventListener("change", () => map?.svg.classList.toggle("no-free", !byId("show-free").checked));
    if (stations.length) filter();
  },
});

function filter() {
  const wanted = plain(byId("filter-search").value.trim());
  const state = byId("filter-state").value;
  const found = stations.filter((station) => station.plain.includes(wanted) && (!state || station.state === state));
  matching = new Set(found);
  table.show(found);
  byId("matches").textContent = found.length ? t("matches", { n: found.length }) : t("no_matches");
  map?.refresh();
}

function sinceText(station, style) {
  if (station.since === null) return "";
  return t(`${style}${station.since_known === false ? "_at_least" : ""}`, {
    time: time(station.since, "short"),
    age: length(Math.max(0, snapshotAt - station.since) / 60),
  });
}

function drawTable() {
  const link = (station) => el("a", { href: `station.html?id=${encodeURIComponent(station.id)}` }, nameOf(station.name));
  const notes = (station) =>
    [station.in_newest ? null : t("not_in_newest", { time: time(station.seen_at, "short") }), inCity(station) ? null : t("outside_map")].filter(Boolean);
  table = fillTable(
    byId("stations-table"),
    {
      name: { cell: (s) => together(link(s), el("small", { text: [s.id, ...notes(s)].join(" · ") })), value: (s) => s.name },
      bikes: { cell: (s) => together(num(s.bikes), bar(s.level, s.state)), value: (s) => s.bikes, number: true },
      docks: { cell: (s) => num(s.docks), value: (s) => s.docks, number: true },
      free: { cell: (s) => num(s.free), value: (s) => s.free, number: true, class: "roomy" },
      state: { cell: (s) => together(mark(s.state, s.level), el("span", { text: t(`states.${s.state}`) }), s.since === null ? null : el("small", { class: "tight", text: sinceText(s, "since_short") })), value: (s) => STATES.indexOf(s.state), class: "state" },
      since: { cell: (s) => sinceText(s, "since_short"), value: (s) => s.since, class: "since roomy" },
    },
    stations,
    { attributes: (s) => ({ "data-id": s.id, "data-state": s.state }), none: stations.length ? t("no_matches") : t("no_data_part"), sort: stations.length ? ["name", "ascending"] : undefined },
  );
  byId("stations-table").querySelector("tbody").addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-id]");
    if (row && !event.target.closest("a")) choose(stations.find((station) => station.id === row.dataset.id), { move: true });
  });
}

function drawMap() {
  const placed = stations.filter(inCity);
  if (!placed.length) {
    empty(byId("map"), t("map_empty"));
    return;
  }
  const ground = plane(placed);
  map = makeMap(byId("map"), ground, t("map_label", { n: placed.length }), draw);
  map.buttons(byId("map-zoom-in"), byId("map-zoom-out"), byId("map-zoom-reset"));
  const land = map.layer("land");
  const freeLayer = map.layer("free-bikes");
  const marks = map.layer("stations");
  const labels = map.layer("labels");
  for (const station of placed) [station.x, station.y] = ground.place(station.lat, station.lon);
  // Small ones are drawn last, so that none hides under a large one.
  const ordered = [...placed].sort((a, b) => b.docks - a.docks);
  for (const station of ordered) {
    land.append(svg("circle", { cx: station.x.toFixed(0), cy: station.y.toFixed(0), r: LAND_M }));
    // The area of a mark grows with its docks.
    station.r = 3.2 + Math.sqrt(Math.min(station.docks, 60)) * 0.85;
    station.node = svg("g", { class: "station", "data-id": station.id, "data-state": station.state }, ...shapes(station.state, station.r, station.level));
    marks.append(station.node);
  }
  for (const bike of free) {
    [bike.x, bike.y] = ground.place(bike.lat, bike.lon);
    bike.node = svg("circle", { class: "free", r: 2 });
    freeLayer.append(bike.node);
  }
  const byDocks = [...placed].sort((a, b) => b.docks - a.docks || Number(a.id) - Number(b.id));

  function draw(view) {
    const size = (view.width < 500 ? 0.78 : 1) * view.zoom ** 0.33;
    land.setAttribute("transform", `matrix(${1 / view.metres} 0 0 ${1 / view.metres} ${view.x(0)} ${view.y(0)})`);
    for (const station of placed) {
      [station.px, station.py] = [view.x(station.x), view.y(station.y)];
      station.node.setAttribute("transform", `translate(${station.px.toFixed(1)} ${station.py.toFixed(1)}) scale(${size.toFixed(3)})`);
      station.node.classList.toggle("dim", !matching.has(station));
      station.node.classList.toggle("chosen", station === chosen);
    }
    for (const bike of free) bike.node.setAttribute("transform", `translate(${view.x(bike.x).toFixed(1)} ${view.y(bike.y).toFixed(1)}) scale(${Math.min(size, 1.6).toFixed(2)})`);
    const wanted = [chosen, ...byDocks].filter((station) => station && inCity(station) && matching.has(station));
    const candidates = [...new Set(wanted)].map((station) => ({ x: station.px, y: station.py, gap: station.r * size + 9, text: short(station.name) }));
    const places = placed.filter((station) => matching.has(station)).map((station) => [station.px, station.py]);
    const few = matching.size <= 12 ? 12 : view.width < 500 ? 4 : 9;
    labels.replaceChildren(...fitLabels(candidates, places, view, Math.round(few * view.zoom ** 1.2)).map((label) => svg("text", { x: label.x.toFixed(1), y: (label.y + 4).toFixed(1), text: label.text })));
  }
  map.svg.addEventListener("click", (event) => {
    if (map.wasMoved()) return;
    const box = map.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const near = placed.map((station) => [Math.hypot(station.px - x, station.py - y), station]).sort((a, b) => a[0] - b[0])[0];
    choose(near[0] < 22 ? near[1] : null);
  });
}

function short(name) {
  return name.length > 24 ? `${name.slice(0, 23)}…` : name;
}

function choose(station, { move = false } = {}) {
  for (const row of byId("stations-table").querySelectorAll("tr.chosen")) row.classList.remove("chosen");
  chosen = station;
  const card = byId("selected");
  card.hidden = !station;
  if (station) {
    const row = table.rowOf(station);
    row.classList.add("chosen");
    const panel = row.closest(".scroll");
    if (!move && panel && panel.scrollHeight > panel.clientHeight) panel.scrollTop = row.offsetTop - panel.clientHeight / 2;
    const close = el("button", { type: "button", class: "close", "aria-label": t("close"), text: "×" });
    close.addEventListener("click", () => choose(null));
    card.replaceChildren(
      close,
      el("strong", {}, nameOf(station.name)),
      el("span", {}, t("bikes_of_docks", { bikes: num(station.bikes), docks: num(station.docks) }), " · ", t("free_docks", { n: num(station.free) })),
      el("span", { class: "state" }, mark(station.state, station.level), [t(`states.${station.state}`), sinceText(station, "since")].filter(Boolean).join(" ")),
      el("a", { href: `station.html?id=${encodeURIComponent(station.id)}`, text: t("details") }),
    );
    if (move && map && inCity(station)) map.centre(station.x, station.y, 3);
  }
  map?.refresh();
}
