// The page "Station": station.html?id=15001 shows one station, without an id it is the list to choose from.

import { chart, highestOf, known, lowestOf, meanOf, since } from "./charts.js";
import { byId, date, distance, el, empty, hourText, length, load, mark, nameIn, nameOf, notice, num, onChoice, page, plain, rows, share, t, time, words } from "./core.js";
import { fillTable, plainTable, numbersOnDemand, together } from "./tables.js";

const id = new URLSearchParams(location.search).get("id") ?? "";
const CLASSES = ["workday", "saturday", "sunday_or_holiday"];
const DAY_S = 86_400;
let station = null;
let snapshot = null;

// A station's file is named by its digits; anything else in the address is no station, and no path.
if (/^\d{1,18}$/.test(id)) {
  const other = byId("other-language");
  other.href = `${other.getAttribute("href")}?id=${id}`;
  byId("picker").hidden = true;
  byId("station-parts").hidden = false;
  // How much room its name and its state take is not known before: nothing is shown until then, so that nothing moves.
  byId("main").classList.add("waiting");
  snapshot = load("now.json");
  await page({ station: open, history, typical, days, forecast, versions, outages });
} else {
  await page({ picker: () => picker(id ? t("unknown_station", { id: nameIn(id) }) : null) });
}

async function picker(message) {
  byId("picker").hidden = false;
  if (message) notice("unknown-station", message);
  const data = await load("stations.json");
  const list = byId("picker-list");
  const stations = rows(data?.stations);
  if (!stations.length) {
    empty(list.parentElement.appendChild(el("div")), data ? undefined : t("failed_file", { file: "data/stations.json" }));
    return;
  }
  const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });
  stations.sort((a, b) => b.is_current - a.is_current || collator.compare(a.name, b.name));
  for (const one of stations) {
    one.plain = plain([one.name, one.id, ...one.previous_names].join(" "));
    const notes = [one.is_current ? null : `${t("closed")}, ${t("last_seen", { time: time(one.last_seen_at, "day") })}`, one.previous_names.length ? t("former", { names: one.previous_names.map(nameIn).join(", ") }) : null].filter(Boolean);
    one.node = el(
      "li",
      {},
      el(
        "a",
        { href: `station.html?id=${encodeURIComponent(one.id)}`, "data-id": one.id },
        el("span", { class: "name" }, nameOf(one.name), notes.length ? el("small", { text: notes.join("; ") }) : null),
        el("small", { text: one.id }),
      ),
    );
  }
  const search = byId("picker-search");
  const show = () => {
    const wanted = plain(search.value.trim());
    const found = stations.filter((one) => one.plain.includes(wanted));
    list.replaceChildren(...found.map((one) => one.node));
    byId("picker-matches").textContent = found.length ? t("matches", { n: found.length }) : t("no_matches");
  };
  search.addEventListener("input", show);
  show();
}

async function open() {
  // The list tells a number that never was from a file that cannot be read.
  const listed = (await load("stations.json"))?.stations.id.includes(id) ?? true;
  if (listed) station = await load(`stations/${id}.json`);
  try {
    if (station !== null) {
      showFacts();
      showNow(await snapshot);
      return;
    }
  } finally {
    byId("main").classList.remove("waiting");
  }
  byId("station-parts").hidden = true;
  await picker(listed ? null : t("unknown_station", { id: nameIn(id) }));
}

function showFacts() {
  byId("station-name").replaceChildren(nameOf(station.name));
  document.title = `${nameIn(station.name)} – ${document.title.split(" – ").at(-1)}`;
  byId("lead").textContent = [
    station.id,
    t("docks_n", { n: num(station.docks) }),
    `${num(station.lat, 4)}, ${num(station.lon, 4)}`,
    station.first_seen_at ? t("first_seen", { date: time(station.first_seen_at, "day") }) : null,
    station.is_current ? null : `${t("closed")}, ${t("last_seen", { time: time(station.last_seen_at, "day") })}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function showNow(data) {
  const row = rows(data?.stations).find((one) => one.id === id);
  const holder = byId("station-now");
  if (!row) {
    holder.replaceChildren(el("span", { class: "of", text: data ? t("last_seen", { time: time(station.last_seen_at) }) : t("failed_file", { file: "data/now.json" }) }));
    return;
  }
  const sinceText = row.since === null ? null : t(row.since_known === false ? "since_at_least" : "since", { time: time(row.since, "short") });
  holder.replaceChildren(
    el("span", {}, el("span", { class: "big", text: num(row.bikes) }), " ", el("span", { class: "of", text: t("bikes_unit", { n: row.bikes }) })),
    el("span", { class: "of", text: `${t("docks_n", { n: num(row.docks) })} · ${t("free_docks", { n: num(Math.max(0, row.docks - row.bikes)) })}` }),
    el("span", { class: "state" }, mark(row.state, row.docks ? row.bikes / row.docks : 0), [t(`states.${row.state}`), sinceText].filter(Boolean).join(" ")),
    el("span", { class: "of", text: row.in_newest ? time(row.seen_at) : t("not_in_newest", { time: time(row.seen_at) }) }),
  );
}

function bandOf(columns) {
  return [
    { name: t("median"), colour: "series-1", values: columns.p50 },
    { name: t("band"), colour: "series-1", low: columns.p10, high: columns.p90 },
  ];
}

async function history() {
  if (!station) return;
  const all = station.all.columns;
  const newest = all.t?.at(-1) ?? 0;
  await onChoice("range", (range) => {
    const hourly = range === "14";
    const columns = hourly ? station.hours : range === "all" ? all : since(all, "t", newest - Number(range) * DAY_S);
    const seen = known(columns.p50 ?? []);
    const shown = station.all.shown < station.all.points;
    return chart(byId("history"), {
      x: "time",
      t: columns.t ?? [],
      series: bandOf(columns),
      top: 4,
      summary: seen.length
        ? t("history_summary", {
            name: nameIn(station.name),
            start: time(columns.t[0], "day"),
            end: time(columns.t.at(-1), "day"),
            low: num(lowestOf(known(columns.p10))),
            high: num(highestOf(known(columns.p90))),
          })
        : null,
      note: hourly ? t("hours_shown", { n: num(seen.length) }) : t(shown ? "sampled" : "not_sampled", { shown: num(station.all.shown), points: num(station.all.points) }),
    });
  });
}

async function typical() {
  if (!station) return;
  const cells = rows(station.typical);
  if (station.window) byId("typical-window").textContent = t("typical_window", { start: date(station.window.start), end: date(station.window.end) });
  const top = highestOf(known(cells.map((cell) => cell.p90)));
  for (const dayClass of CLASSES) {
    const byHour = new Map(cells.filter((cell) => cell.day_class === dayClass).map((cell) => [cell.hour, cell]));
    const hours = Array.from({ length: 24 }, (_, hour) => hour);
    const column = (key) => hours.map((hour) => byHour.get(hour)?.[key] ?? null);
    const seen = hours.filter((hour) => (byHour.get(hour)?.p50 ?? null) !== null).sort((a, b) => byHour.get(a).mean - byHour.get(b).mean);
    const figure = byId(`typical-${dayClass}`);
    await chart(figure, {
      x: "hour",
      t: seen.length ? hours : [],
      series: bandOf({ p50: column("p50"), p10: column("p10"), p90: column("p90") }),
      top: Math.max(top, 4),
      summary: seen.length
        ? t("typical_summary", {
            day_class: words("day_classes_long")[dayClass],
            high_hour: hourText(seen.at(-1)),
            high: num(byHour.get(seen.at(-1)).mean, 1),
            low_hour: hourText(seen[0]),
            low: num(byHour.get(seen[0]).mean, 1),
          })
        : null,
    });
    // All that is known of the hours, the shares too.
    const names = words("typical_columns");
    numbersOnDemand(figure.querySelector("details.numbers"), () =>
      plainTable(
        words("day_classes_long")[dayClass],
        [names.hour, names.p10, names.p50, names.p90, names.mean, names.empty, names.full, names.service, names.days],
        [...byHour.values()].map((cell) => [hourText(cell.hour), num(cell.p10), num(cell.p50), num(cell.p90), num(cell.mean, 1), share(cell.empty), share(cell.full), share(cell.service), num(cell.days)]),
      ),
    );
  }
}

async function days() {
  if (!station) return;
  const columns = station.days;
  const dates = columns.date ?? [];
  // In hours, so that the axis has whole ones.
  const inHours = (minutes) => (minutes ?? []).map((value) => (value === null ? null : value / 60));
  await chart(byId("days"), {
    x: "date",
    t: dates,
    series: [
      { name: t("series.empty"), colour: "series-2", values: inHours(columns.minutes_empty), bar: true, stack: "day" },
      { name: t("series.full"), colour: "series-3", values: inHours(columns.minutes_full), bar: true, stack: "day" },
    ],
    format: (value) => (value === null ? length(null) : length(value * 60)),
    axisFormat: (value) => `${num(value)} ${t("units.h")}`,
    top: 1,
    summary: dates.length
      ? t("days_summary", {
          name: nameIn(station.name),
          start: date(dates[0]),
          end: date(dates.at(-1)),
          empty: length(meanOf(known(columns.minutes_empty)) ?? 0),
          full: length(meanOf(known(columns.minutes_full)) ?? 0),
        })
      : null,
  });
}

async function forecast() {
  if (!station) return;
  const data = await load("forecast.json");
  const lines = rows(data?.stations[id]);
  fillTable(
    byId("forecast"),
    {
      horizon: { cell: (row) => t("in_minutes", { n: num(row.horizon_min) }) },
      time: { cell: (row) => time(row.for_time, "clock") },
      method: { cell: (row) => t(`methods.${row.method}`) },
      bikes: { cell: (row) => num(row.bikes, 1), number: true },
      mae: { cell: (row) => num(row.mae, 2), number: true },
      skill: { cell: (row) => share(row.skill, 0), number: true },
    },
    lines,
  );
  if (!data?.made_at) return;
  const system = rows(data.system);
  const parts = [...new Set(system.map((row) => row.horizon_min))].map((horizon) => {
    const of = (method) => num(system.find((row) => row.horizon_min === horizon && row.method === method)?.mae ?? null, 2);
    return t("forecast_part", { horizon: num(horizon), mae: of("persistence"), naive: of("seasonal_naive") });
  });
  const tests = Math.max(0, ...system.map((row) => row.tests));
  byId("forecast-note").textContent = [t("forecast_made", { time: time(data.made_at) }), t("skill_note"), parts.length ? t("forecast_system", { parts: parts.join("; "), n: num(tests) }) : null].filter(Boolean).join(" ");
}

function versions() {
  if (!station) return;
  const changeOf = (row) => {
    const known = words("changes");
    const parts = row.change.split("+").map((part) => known[part] ?? part);
    return [parts.join(", "), row.moved_m ? t("moved_by", { distance: distance(row.moved_m) }) : null, row.reused ? t("reused") : null].filter(Boolean).join("; ");
  };
  fillTable(
    byId("versions"),
    {
      from: { cell: (row) => time(row.valid_from, "day") },
      to: { cell: (row) => (row.valid_to === null ? t("still_valid") : time(row.valid_to, "day")), class: "when" },
      name: { cell: (row) => together(nameOf(row.name), row.previous_name ? el("small", {}, " ", t("former", { names: nameIn(row.previous_name) })) : null), class: "words" },
      docks: { cell: (row) => num(row.docks), number: true },
      change: { cell: changeOf, class: "words" },
    },
    station.versions,
  );
}

function outages() {
  if (!station) return;
  const lines = rows(station.outages);
  fillTable(
    byId("outages"),
    {
      kind: { cell: (row) => together(mark(row.kind), t(`kinds.${row.kind}`)), value: (row) => row.kind },
      start: { cell: (row) => together(time(row.started_at, "weekday"), row.start_known ? null : el("small", { text: ` ${t("before")}` })), value: (row) => row.started_at, class: "when" },
      end: { cell: (row) => (row.is_open ? el("span", { class: "badge warn", text: t("open") }) : together(time(row.ended_at, "weekday"), row.end_known ? null : el("small", { text: ` ${t("after")}` }))), value: (row) => (row.is_open ? Infinity : row.ended_at), class: "when" },
      length: { cell: (row) => `${row.start_known && (row.is_open || row.end_known) ? "" : "≥ "}${length(row.minutes)}`, value: (row) => row.minutes, number: true },
      penalty: { cell: (row) => length(row.penalty_minutes), value: (row) => row.penalty_minutes, number: true },
    },
    lines,
    { limit: 15, more: byId("outages-more"), none: t("no_episodes") },
  );
  byId("outages-note").textContent = t("outages_note", { shown: num(lines.length), total: num(station.outages_total) });
}
