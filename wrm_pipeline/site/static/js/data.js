// The page "Data": what was received and set aside, checks, downloads. The definitions are in the page itself.

import { breakAtMissingDays, chart } from "./charts.js";
import { byId, codeOf, date, el, empty, lang, load, num, page, rows, share, size, t, time, words } from "./core.js";
import { bar, fillTable, numbersOnDemand, plainTable, together } from "./tables.js";

const DAY_MS = 86_400_000;
const TRAILING_DAYS = 28;
let quality = null;

// A link to a definition opens it, and what it is in.
function openTarget() {
  const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  const details = target?.closest?.("details");
  if (!details) return;
  details.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();

await page({
  "made-from": async () => {
    const [meta, found] = await Promise.all([load("meta.json"), load("quality.json")]);
    quality = found;
    if (meta === null) return;
    const facts = {
      days: num(meta.days),
      first: time(meta.first_snapshot_at),
      newest: time(meta.newest_snapshot_at),
      interval: t("every_minutes", { n: num(meta.interval_s / 60, meta.interval_s % 60 ? 1 : 0) }),
      zone: meta.time_zone,
      stations: num(meta.stations),
      version: meta.code_version,
    };
    for (const [key, text] of Object.entries(facts)) document.querySelector(`#made-from [data-fact="${key}"] dd`).textContent = text;
  },
  coverage,
  "dead-letters": letters,
  flags,
  checks,
  downloads,
});
openTarget();

function levelOf(day) {
  if (day.coverage === null || day.snapshots === 0) return "none";
  return day.coverage >= 0.99 ? "all" : day.coverage >= 0.9 ? "most" : day.coverage >= 0.5 ? "some" : "low";
}

function coverage() {
  const days = rows(quality?.days);
  const held = rows(quality?.not_in_marts);
  const holder = document.querySelector("#coverage .calendar-holder");
  const details = document.querySelector("#coverage details.numbers");
  details.hidden = !days.length;
  if (!days.length) {
    empty(holder, quality ? undefined : t("failed_file", { file: "data/quality.json" }));
    return;
  }
  const byDate = new Map(days.map((day) => [day.utc_date, day]));
  const heldDates = new Set(held.map((day) => day.utc_date));
  const isoOf = (ms) => new Date(ms).toISOString().slice(0, 10);
  const end = Date.parse(days.at(-1).utc_date);
  // Weeks are columns; the newest 53 of them at most, the table has all days. Monday is row 0: 1970 began on a Thursday.
  const monday = (ms) => ms - ((Math.floor(ms / DAY_MS) + 3) % 7) * DAY_MS;
  const first = Math.max(Date.parse(days[0].utc_date), monday(end) - 52 * 7 * DAY_MS);
  const weeks = [];
  for (let week = monday(first); week <= end; week += 7 * DAY_MS) weeks.push(week);
  const names = words("weekdays");
  const monthOf = (ms) => new Date(ms).getUTCMonth();
  const begins = weeks.map((week, at) => at === 0 || monthOf(week) !== monthOf(week - 7 * DAY_MS));
  const head = weeks.map((week, at) => {
    // The month stands over its first whole week: not over the last column, nor where the next name comes too soon.
    const next = begins.indexOf(true, at + 1);
    const fits = begins[at] && (next < 0 || next - at >= 3) && at < Math.max(weeks.length - 1, 1);
    return el("th", { scope: "col", text: fits ? date(isoOf(week), "month") : "" });
  });
  const cellOf = (ms) => {
    const iso = isoOf(ms);
    const day = byDate.get(iso);
    if (ms < first || ms > end) return el("td");
    const level = heldDates.has(iso) ? "held" : day ? levelOf(day) : "none";
    const text = heldDates.has(iso)
      ? t("coverage_held", { date: date(iso, "weekday") })
      : day
        ? t("coverage_cell", { date: date(iso, "weekday"), coverage: share(day.coverage), snapshots: num(day.snapshots), expected: num(day.snapshots_expected), gap: num(day.longest_gap_minutes) })
        : t("coverage_none", { date: date(iso, "weekday") });
    return el("td", {}, el("i", { class: "day", "data-level": level, title: text }));
  };
  // The picture of the calendar; its words are the summary and the table below.
  holder.replaceChildren(
    el(
      "div",
      { role: "img", "aria-label": byId("coverage-heading").textContent },
      el("table", { class: "calendar", "aria-hidden": "true" }, el("thead", {}, el("tr", {}, el("td"), ...head)), el("tbody", {}, ...names.map((weekday, row) => el("tr", {}, el("th", { scope: "row", text: row % 2 ? "" : weekday }), ...weeks.map((week) => cellOf(week + row * DAY_MS)))))),
    ),
  );
  holder.scrollLeft = holder.scrollWidth;
  const mean = days.reduce((sum, day) => sum + (day.coverage ?? 0), 0) / days.length;
  byId("coverage-summary").textContent = t("coverage_summary", { count: days.length, n: num(days.length), full: num(days.filter((day) => day.coverage >= 0.99).length), mean: share(mean) });
  const columns = words("coverage_columns");
  numbersOnDemand(details, () =>
    plainTable(
      byId("coverage-heading").textContent,
      [columns.date, columns.coverage, columns.snapshots, columns.expected, columns.gap, columns.raw, columns.kept, columns.dead, columns.duplicate, columns.faulty],
      [...days].reverse().map((day) => [date(day.utc_date), share(day.coverage), num(day.snapshots), num(day.snapshots_expected), num(day.longest_gap_minutes), num(day.rows_raw), num(day.rows_kept), num(day.rows_dead), num(day.rows_duplicate), num(day.faulty_files)]),
    ),
  );
}

function trailing() {
  const days = rows(quality?.days);
  const from = days.length ? Date.parse(days.at(-1).utc_date) - (TRAILING_DAYS - 1) * DAY_MS : 0;
  return days.map((day, at) => ({ ...day, at })).filter((day) => Date.parse(day.utc_date) >= from);
}
function total(days, key) {
  return days.reduce((sum, day) => sum + day[key], 0);
}

async function letters() {
  const newest = trailing();
  const [raw, dead] = [total(newest, "rows_raw"), total(newest, "rows_dead")];
  const days = quality?.days?.utc_date?.length ? breakAtMissingDays(quality.days, "utc_date") : null;
  await chart(byId("letters-days"), {
    x: "date",
    t: days?.utc_date ?? [],
    series: [{ name: t("series.dead"), colour: "series-2", values: days?.dead_share ?? [], bar: true }],
    format: (value) => share(value),
    wholeNumbers: false,
    top: 0.01,
    summary: newest.length ? (dead ? t("letters_summary", { dead: num(dead), raw: num(raw), share: share(dead / raw) }) : t("letters_none")) : null,
  });
  fillTable(
    byId("dead-letters"),
    {
      rule: { cell: (row) => codeOf(row.rule) },
      rows: { cell: (row) => num(row.rows), number: true },
      newest: { cell: (row) => date(row.newest_utc_date), class: "when" },
    },
    rows(quality?.letters),
    { none: newest.length ? t(!quality.letters ? "letters_not_read" : dead ? "letters_none_left" : "letters_none") : undefined },
  );
}

function flags() {
  const newest = trailing();
  const kept = total(newest, "rows_kept");
  const found = Object.entries(quality?.flags ?? {})
    .map(([flag, counts]) => ({ flag, rows: newest.reduce((sum, day) => sum + (counts[day.at] ?? 0), 0) }))
    .sort((a, b) => b.rows - a.rows);
  fillTable(
    byId("flags"),
    {
      flag: { cell: (row) => codeOf(row.flag) },
      meaning: { cell: (row) => words("flags")[row.flag] ?? "", class: "words" },
      rows: { cell: (row) => num(row.rows), number: true },
      share: { cell: (row) => together(share(kept ? row.rows / kept : null), bar(kept ? row.rows / kept : 0)), number: true },
    },
    newest.length ? found : [],
  );
}

function checks() {
  const held = rows(quality?.not_in_marts);
  if (held.length) {
    byId("held").replaceChildren(el("h3", { text: t("held_heading") }), el("ul", {}, ...held.map((day) => el("li", { lang: "en", text: day.reason }))));
  }
  const lines = rows(quality?.checks);
  const result = (row) => (row.passed ? "passed" : row.blocks ? "blocked" : "warned");
  const badge = { passed: "good", warned: "warn", blocked: "bad" };
  const rank = ["blocked", "warned", "passed"];
  lines.sort((a, b) => rank.indexOf(result(a)) - rank.indexOf(result(b)));
  if (lines.length) byId("checks-summary").textContent = t("checks_summary", { passed: num(lines.filter((row) => row.passed).length), n: num(lines.length) });
  fillTable(
    byId("checks"),
    {
      name: { cell: (row) => codeOf(row.name) },
      result: { cell: (row) => el("span", { class: `badge ${badge[result(row)]}`, text: t(`check_results.${result(row)}`) }) },
      summary: { cell: (row) => el("span", { text: row.summary, lang: lang === "en" ? null : "en" }), class: "words" },
      layer: { cell: (row) => row.layer },
      day: { cell: (row) => date(row.utc_date), class: "when" },
    },
    lines,
    { none: quality && quality.checks === null ? t("checks_none") : undefined },
  );
}

async function downloads() {
  const data = await load("downloads.json");
  const tables = new Map();
  for (const row of rows(data?.files)) tables.set(row.mart, [...(tables.get(row.mart) ?? []), row]);
  const link = (row) =>
    el("a", { href: `../${row.path}`, download: true, title: row.sha256 ? `sha256 ${row.sha256}` : null, "aria-label": `${row.mart}, ${formatOf(row)}, ${size(row.bytes)}` }, `${formatOf(row)} ${size(row.bytes)}`);
  fillTable(
    byId("downloads"),
    {
      mart: { cell: ([row]) => together(el("a", { href: `#def-${row.mart}` }, codeOf(row.mart)), el("small", { text: byId(`def-${row.mart}`)?.querySelector(".title").textContent ?? "" })) },
      files: { cell: (files) => together(...files.flatMap((row, at) => (at ? [" · ", link(row)] : [link(row)]))), class: "files" },
      rows: { cell: ([row]) => num(row.rows), number: true },
      from: { cell: ([row]) => date(row.from), class: "when" },
      to: { cell: ([row]) => date(row.to), class: "when" },
    },
    [...tables.values()],
    { none: data ? t("no_files") : t("failed_file", { file: "data/downloads.json" }) },
  );
}
function formatOf(row) {
  return row.format === "parquet" ? "Parquet" : row.format.toUpperCase();
}
