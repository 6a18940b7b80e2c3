// The page "Reliability": shares by weekday and hour, the worst stations, episodes.

import { byId, date, el, empty, figures, hourText, length, load, mark, nameOf, num, onChoice, page, rows, share, t, time, words } from "./core.js";
import { heat } from "./heat.js";
import { bar, fillTable, together } from "./tables.js";

let data = null;
const link = (row) => el("a", { href: `station.html?id=${encodeURIComponent(row.id)}` }, nameOf(row.name));

await page({
  figures: async () => {
    data = await load("reliability.json");
    if (data?.window) {
      const { start, end, days } = data.window;
      byId("window").textContent = t("window", { start: date(start), end: date(end), n: num(days) });
      // Weighted by what was observed, as each share is.
      const week = rows(data.week).filter((cell) => cell.minutes > 0);
      const minutes = week.reduce((sum, cell) => sum + cell.minutes, 0);
      const mean = (key) => (minutes ? week.reduce((sum, cell) => sum + cell[key] * cell.minutes, 0) / minutes : null);
      const penalty = data.stations.penalty_minutes.reduce((sum, value) => sum + value, 0) / 60 / Math.max(days, 1);
      figures({ service: share(mean("service")), empty: share(mean("empty")), full: share(mean("full")), penalty: t("penalty_a_day", { n: num(penalty) }) });
    }
  },
  heatmap: () => {
    const holder = document.querySelector("#heatmap .heat-holder");
    if (!data?.week.weekday.length) {
      empty(holder, data ? undefined : t("failed_file", { file: "data/reliability.json" }));
      return;
    }
    const cells = new Map(rows(data.week).map((cell) => [`${cell.weekday} ${cell.hour}`, cell]));
    const [labels, long] = [words("weekdays"), words("weekdays_long")];
    const days = labels.map((label, at) => ({ key: at + 1, label, long: long[at] }));
    let measure = "empty";
    const draw = () => {
      const { highest, lowest } = heat(holder, {
        measure,
        caption: t(`heat_caption.${measure}`),
        days,
        value: (weekday, hour) => cells.get(`${weekday} ${hour}`)?.[measure] ?? null,
        floor: measure === "service" ? undefined : 0,
      });
      if (highest === lowest) return;
      const place = (cell, day, hour, amount) => ({ [day]: cell.day.long, [hour]: hourText(cell.hour), [amount]: share(cell.value) });
      byId("heat-summary").textContent = t(`heat_summary.${measure}`, { ...place(highest, "day", "hour", "share"), ...place(lowest, "low_day", "low_hour", "low_share") });
    };
    onChoice("measure", (value) => {
      measure = value;
      draw();
    });
    matchMedia("(max-width: 720px)").addEventListener("change", draw);
  },
  worst: () => {
    const stations = rows(data?.stations);
    const most = Math.max(...stations.map((row) => row.penalty_minutes), 1);
    const part = (key) => ({ cell: (row) => together(share(row[key]), bar(row[key] ?? 0, key)), value: (row) => row[key], number: true });
    fillTable(
      byId("worst"),
      {
        name: { cell: (row) => together(link(row), el("small", { text: row.id })), value: (row) => row.name },
        penalty: { cell: (row) => together(length(row.penalty_minutes), bar(row.penalty_minutes / most, "penalty")), value: (row) => row.penalty_minutes, number: true },
        empty: part("empty"),
        full: part("full"),
        service: part("service"),
        episodes: { cell: (row) => num(row.outages_empty + row.outages_full), value: (row) => row.outages_empty + row.outages_full, number: true },
        longest: { cell: (row) => length(row.longest_minutes), value: (row) => row.longest_minutes, number: true },
        docks: { cell: (row) => num(row.docks), value: (row) => row.docks, number: true },
      },
      stations,
      { limit: 15, more: byId("worst-more"), sort: ["penalty", "descending"] },
    );
  },
  episodes: () => {
    const episodes = rows(data?.episodes);
    const table = fillTable(
      byId("episodes"),
      {
        name: { cell: (row) => together(link(row), el("small", { text: row.id })), value: (row) => row.name },
        kind: { cell: (row) => together(mark(row.kind), t(`kinds.${row.kind}`)), value: (row) => row.kind, class: "state" },
        start: { cell: (row) => startOf(row), value: (row) => row.started_at, class: "when" },
        end: { cell: (row) => endOf(row), value: (row) => (row.is_open ? Infinity : row.ended_at), class: "when" },
        length: { cell: (row) => lengthOf(row), value: (row) => row.minutes, number: true },
        penalty: { cell: (row) => length(row.penalty_minutes), value: (row) => row.penalty_minutes, number: true },
      },
      episodes,
      { limit: 20, more: byId("episodes-more"), none: t("no_episodes") },
    );
    if (data?.window) byId("episodes-note").textContent = t("episodes_note", { shown: num(episodes.length), total: num(data.episodes_total), days: num(data.episodes_days) });
    byId("episodes-kind").addEventListener("change", (event) => {
      const kind = event.target.value;
      table.show(kind === "all" ? episodes : episodes.filter((row) => row.kind === kind));
    });
  },
});

function startOf(row) {
  return together(time(row.started_at, "short"), row.start_known ? null : el("small", { text: ` ${t("before")}` }));
}
function endOf(row) {
  if (row.is_open) return el("span", { class: "badge warn", text: t("open") });
  return together(time(row.ended_at, "short"), row.end_known ? null : el("small", { text: ` ${t("after")}` }));
}
function lengthOf(row) {
  return `${row.start_known && (row.is_open || row.end_known) ? "" : "≥ "}${length(row.minutes)}`;
}
