// The page "Fleet": bikes by day and hour, flows, moves of free-standing bikes, and where bikes stand.

import { breakAtMissingDays, chart, highestOf, known, lowestOf, since } from "./charts.js";
import { byId, date, distance, el, empty, figures, hourText, length, load, num, onChoice, page, rows, share, svg, t, time, words } from "./core.js";
import { makeMap, plane } from "./map.js";
import { bar, fillTable, numbersOnDemand, plainTable, together } from "./tables.js";

const DAY_S = 86_400;
// Bikes per km²; a cell of 250 m with one bike has 16.
const STEPS = [16, 32, 80, 160, 320];
let data = null;
let density = null;
const name = (key) => t(`series.${key}`);
const ends = (columns, key, format) => ({ start: format(columns[key][0]), end: format(columns[key].at(-1)) });

await page({
  figures: async () => {
    [data, density] = await Promise.all([load("fleet.json"), load("density.json")]);
    const days = data?.days;
    const last = (days?.date?.length ?? 0) - 1;
    if (last < 0) return;
    const note = `${date(days.date[last])}${days.minutes_observed[last] < 1380 ? `, ${t("day_running").toLocaleLowerCase()}` : ""}`;
    figures(
      { total: num(days.total[last]), at_stations: num(days.at_stations[last]), free_in_zone: num(days.free_in_zone[last]), battery_low: num(days.battery_low[last]), idle_14_days: num(days.idle_14_days[last]) },
      { total: note, at_stations: share(days.total[last] ? days.at_stations[last] / days.total[last] : null, 0), free_in_zone: share(days.total[last] ? days.free_in_zone[last] / days.total[last] : null, 0) },
    );
  },
  "fleet-days": async () => {
    const days = data?.days?.date?.length ? breakAtMissingDays(data.days) : null;
    const format = (value) => num(value);
    const newest = (key) => num(days[key].at(-1));
    await chart(byId("fleet-days"), {
      x: "date",
      t: days?.date ?? [],
      series: [
        { name: name("at_stations"), colour: "series-1", values: days?.at_stations ?? [] },
        { name: name("free_in_zone"), colour: "series-2", values: days?.free_in_zone ?? [] },
        { name: name("off_zone"), colour: "series-4", values: days?.off_zone ?? [], dashed: true },
      ],
      format,
      summary: days && t("fleet_summary", { ...ends(days, "date", date), at_stations: newest("at_stations"), free_in_zone: newest("free_in_zone"), off_zone: newest("off_zone") }),
    });
    await chart(byId("fleet-care"), {
      x: "date",
      t: days?.date ?? [],
      series: [
        { name: name("idle_14_days"), colour: "series-3", values: days?.idle_14_days ?? [] },
        { name: name("battery_low"), colour: "series-2", values: days?.battery_low ?? [], dashed: true },
      ],
      format,
      summary: days && t("care_summary", { ...ends(days, "date", date), battery_low: newest("battery_low"), idle_14_days: newest("idle_14_days") }),
    });
  },
  "system-hours": () => onChoice("range", drawHours),
  flows: drawFlows,
  moves: () => {
    const moves = rows(data?.moves);
    const all = moves.reduce((sum, row) => sum + row.count, 0);
    if (data?.window) byId("moves-window").textContent = t("typical_window", { start: date(data.window.start), end: date(data.window.end) });
    const speed = (value) => (value === null ? "–" : `${num(value, 1)} ${t("units.kmh")}`);
    fillTable(
      byId("moves"),
      {
        kind: { cell: (row) => together(t(`move_kinds.${row.kind}`), el("small", { text: t(`move_meanings.${row.kind}`) })) },
        count: { cell: (row) => num(row.count), number: true },
        share: { cell: (row) => together(share(row.count / all), bar(row.count / all)), number: true },
        minutes: { cell: (row) => length(row.minutes_p50), number: true },
        distance: { cell: (row) => distance(row.distance_m_p50), number: true },
        speed: { cell: (row) => speed(row.speed_kmh_p50), number: true },
      },
      all ? moves : [],
    );
  },
  density: drawDensity,
});

async function drawHours(range) {
  const hourly = range === "14";
  const all = data?.all.columns ?? {};
  const newest = all.t?.at(-1) ?? 0;
  const columns = hourly || !all.t ? (data?.hours ?? {}) : range === "all" ? all : since(all, "t", newest - Number(range) * DAY_S);
  const times = columns.t ?? [];
  const note = hourly
    ? t("hours_shown", { n: num(known(columns.at_stations ?? []).length) })
    : t((data?.all.shown ?? 0) < (data?.all.points ?? 0) ? "sampled" : "not_sampled", { shown: num(data?.all.shown ?? 0), points: num(data?.all.points ?? 0) });
  const seen = known(columns.at_stations ?? []);
  const span = times.length ? { start: time(times[0], "day"), end: time(times.at(-1), "day") } : {};
  await chart(byId("system-hours"), {
    x: "time",
    t: times,
    series: [
      { name: name("at_stations"), colour: "series-1", values: columns.at_stations ?? [] },
      { name: name("free_in_zone"), colour: "series-2", values: columns.free_in_zone ?? [], dashed: true },
    ],
    summary: seen.length ? t("hours_summary", { ...span, low: num(lowestOf(seen)), high: num(highestOf(seen)) }) : null,
    note,
  });
  await chart(byId("system-stations"), {
    x: "time",
    t: times,
    series: [
      { name: name("stations_empty"), colour: "series-2", values: columns.stations_empty ?? [] },
      { name: name("stations_full"), colour: "series-3", values: columns.stations_full ?? [], dashed: true },
    ],
    summary: seen.length ? t("stations_summary", { ...span, empty: num(highestOf(known(columns.stations_empty))), full: num(highestOf(known(columns.stations_full))) }) : null,
    note,
  });
}

async function drawFlows() {
  const profile = rows(data?.profile);
  if (data?.sampling_interval_s) byId("sampling-note").textContent = t("sampling", { seconds: num(data.sampling_interval_s) });
  const top = highestOf(known(profile.flatMap((cell) => [cell.inflow, cell.outflow])));
  for (const dayClass of ["workday", "saturday", "sunday_or_holiday"]) {
    const byHour = new Map(profile.filter((cell) => cell.day_class === dayClass).map((cell) => [cell.hour, cell]));
    const hours = Array.from({ length: 24 }, (_, hour) => hour);
    const column = (key) => hours.map((hour) => byHour.get(hour)?.[key] ?? null);
    const most = [...byHour.values()].filter((cell) => cell.outflow !== null).sort((a, b) => b.outflow - a.outflow)[0];
    await chart(byId(`flows-${dayClass}`), {
      x: "hour",
      t: most ? hours : [],
      series: [
        { name: name("outflow"), colour: "series-1", values: column("outflow") },
        { name: name("inflow"), colour: "series-3", values: column("inflow"), dashed: true },
      ],
      top: Math.max(top, 1),
      summary: most ? t("flows_summary", { day_class: words("day_classes_long")[dayClass], hour: hourText(most.hour), n: num(most.outflow) }) : null,
    });
  }
  const hours = data?.hours ?? {};
  const seen = known(hours.outflow ?? []);
  await chart(byId("flows-recent"), {
    x: "time",
    t: hours.t ?? [],
    series: [
      { name: name("outflow"), colour: "series-1", values: hours.outflow ?? [] },
      { name: name("inflow"), colour: "series-3", values: hours.inflow ?? [], dashed: true },
    ],
    summary: seen.length ? t("recent_flows_summary", { start: time(hours.t[0], "day"), end: time(hours.t.at(-1), "day"), n: num(highestOf(seen)) }) : null,
  });
}

function drawDensity() {
  const cells = rows(density?.cells);
  const holder = byId("density");
  const details = byId("density-numbers");
  details.hidden = !cells.length;
  if (!cells.length) {
    empty(holder, density ? undefined : t("failed_file", { file: "data/density.json" }));
    return;
  }
  byId("density-date").textContent = `${date(density.utc_date)} (UTC).`;
  const level = (value) => STEPS.filter((step) => value >= step).length;
  const ground = plane(cells);
  const [mx, my] = ground.metresPerDegree;
  const [width, height] = [density.d_lon * mx, density.d_lat * my];
  const map = makeMap(holder, ground, t("density_label", { n: num(cells.length) }), (view) => {
    layer.setAttribute("transform", `matrix(${1 / view.metres} 0 0 ${1 / view.metres} ${view.x(0)} ${view.y(0)})`);
  });
  const layer = map.layer("cells");
  for (const cell of cells) {
    const [x, y] = ground.place(cell.lat, cell.lon);
    layer.append(
      svg(
        "rect",
        { class: "cell", "data-level": level(cell.per_km2), x: (x - width / 2).toFixed(1), y: (y - height / 2).toFixed(1), width: width.toFixed(1), height: height.toFixed(1) },
        svg("title", { text: `${num(cell.per_km2)} / ${t("units.km")}²` }),
      ),
    );
  }
  map.buttons(...["in", "out", "reset"].map((kind) => holder.querySelector(`[data-zoom="${kind}"]`)));
  const captions = [`< ${num(STEPS[0])}`, ...STEPS.map((step, at) => (at + 1 < STEPS.length ? `${num(step)}–${num(STEPS[at + 1])}` : `≥ ${num(step)}`))];
  byId("density-legend").replaceChildren(
    el("ul", {}, el("li", { text: `${t("density_legend")}:` }), ...captions.map((caption, at) => el("li", {}, el("i", { class: "shade", "data-level": at }), caption))),
  );
  const densest = [...cells].sort((a, b) => b.per_km2 - a.per_km2).slice(0, 50);
  byId("density-note").textContent = density.outside.bikes ? t("density_outside", { bikes: num(density.outside.bikes), cells: num(density.outside.cells) }) : "";
  const names = words("density_columns");
  numbersOnDemand(details, () =>
    plainTable(
      t("density_note", { n: num(densest.length), total: num(cells.length) }),
      [names.place, names.stations, names.station_bikes, names.free_bikes, names.per_km2],
      densest.map((cell) => [`${num(cell.lat, 4)}, ${num(cell.lon, 4)}`, num(cell.stations), num(cell.station_bikes, 1), num(cell.free_bikes, 1), num(cell.per_km2)]),
    ),
  );
}
