// What every page needs: the words, numbers and times as the reader's language writes them, elements made without HTML,
// data files, notices, and the age of the newest snapshot.

export const lang = document.body.dataset.lang;
export const zone = document.body.dataset.timeZone;
const locale = lang === "pl" ? "pl-PL" : "en-GB";
const texts = (await import(`./texts.${lang}.js`)).default;

// Over 15 minutes three polls were missed; over an hour the numbers are history.
const OLD_S = 15 * 60;
const VERY_OLD_S = 60 * 60;
const NONE = "–";

/** Make text of a path in texts/<language>.yaml; {name} is replaced by values.name, and {n} also chooses the plural. */
const plurals = new Intl.PluralRules(locale);
export function t(path, values = {}) {
  let found = path.split(".").reduce((node, key) => node?.[key], texts);
  if (found?.other !== undefined) found = found[plurals.select(values.count ?? values.n)] ?? found.other;
  if (typeof found !== "string") throw new Error(`no text ${path}`);
  return found.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? values[key] : whole));
}
export const words = (path) => path.split(".").reduce((node, key) => node?.[key], texts);

const numberFormats = new Map();
/** A number, or a dash for what is unknown. */
export function num(value, digits = 0) {
  if (value === null || value === undefined) return NONE;
  if (!numberFormats.has(digits))
    numberFormats.set(digits, new Intl.NumberFormat(locale, { maximumFractionDigits: digits, minimumFractionDigits: digits }));
  return numberFormats.get(digits).format(value);
}
const shareFormat = [0, 1].map(
  (digits) => new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }),
);
/** A share of 0 to 1, in percent. What is not nothing is not shown as 0.0 %. */
export function share(value, digits = 1) {
  if (value === null || value === undefined) return NONE;
  const least = 10 ** (-digits - 2);
  return value > 0 && value < least / 2 ? `< ${shareFormat[digits].format(least)}` : shareFormat[digits].format(value);
}

const timeFormat = (options) => new Intl.DateTimeFormat(locale, { timeZone: zone, ...options });
const formats = {
  full: timeFormat({ day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" }),
  short: timeFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
  weekday: timeFormat({ weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" }),
  clock: timeFormat({ hour: "2-digit", minute: "2-digit" }),
  day: timeFormat({ day: "numeric", month: "short", year: "numeric" }),
  dayMonth: timeFormat({ day: "numeric", month: "short" }),
  month: timeFormat({ month: "short", year: "numeric" }),
  parts: timeFormat({ year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", hourCycle: "h23" }),
};
/** A time (epoch seconds) of the city's clock. style: full, short, weekday, clock, day, dayMonth, month. */
export const time = (seconds, style = "full") =>
  seconds === null || seconds === undefined ? NONE : formats[style].format(seconds * 1000);
/** The city's clock at a time: {year, month, day, hour, minute}. */
export function clockOf(seconds) {
  const found = {};
  for (const part of formats.parts.formatToParts(seconds * 1000)) if (part.type !== "literal") found[part.type] = Number(part.value);
  return found;
}
const dateFormats = Object.fromEntries(
  Object.entries({ day: { day: "numeric", month: "short", year: "numeric" }, dayMonth: { day: "numeric", month: "short" }, month: { month: "short" }, monthYear: { month: "short", year: "numeric" }, weekday: { weekday: "short", day: "numeric", month: "short", year: "numeric" } }).map(
    ([style, options]) => [style, new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options })],
  ),
);
/** A date (YYYY-MM-DD), which has no zone. */
export const date = (text, style = "day") => (text ? dateFormats[style].format(Date.parse(text)) : NONE);
export const hourText = (hour) => `${String(hour).padStart(2, "0")}:00`;

/** A length of time. */
export function length(minutes) {
  if (minutes === null || minutes === undefined) return NONE;
  if (minutes < 60) return `${num(minutes)} ${t("units.min")}`;
  const whole = Math.round(minutes);
  const [days, hours, rest] = [Math.floor(whole / 1440), Math.floor((whole % 1440) / 60), whole % 60];
  if (days >= 2) return `${num(days)} ${t("units.d")}${hours && days < 14 ? ` ${hours} ${t("units.h")}` : ""}`;
  return `${num(days * 24 + hours)} ${t("units.h")}${rest ? ` ${rest} ${t("units.min")}` : ""}`;
}
export const distance = (metres) =>
  metres === null || metres === undefined ? NONE : metres < 1000 ? `${num(metres)} ${t("units.m")}` : `${num(metres / 1000, 1)} ${t("units.km")}`;
const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
/** A size in bytes; 1 kB is 1,000 bytes. */
export function size(bytes) {
  let [value, unit] = [bytes, 0];
  while (value >= 1000 && unit < 3) [value, unit] = [value / 1000, unit + 1];
  return new Intl.NumberFormat(locale, { style: "unit", unit: units[unit], unitDisplay: "short", maximumFractionDigits: value < 10 && unit ? 1 : 0 }).format(value);
}
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "always", style: "short" });
function ago(seconds) {
  if (seconds < 3600) return relative.format(-Math.max(0, Math.floor(seconds / 60)), "minute");
  return seconds < 48 * 3600 ? relative.format(-Math.floor(seconds / 3600), "hour") : relative.format(-Math.floor(seconds / 86400), "day");
}
/** Lower case without accents, for searching. */
export const plain = (text) => text.toLocaleLowerCase(locale).replace(/ł/g, "l").normalize("NFD").replace(/\p{M}/gu, "");

/** Make an element. Text and names only ever enter as text nodes. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  set(node, attributes);
  node.append(...children);
  return node;
}
function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
}
export const byId = (id) => document.getElementById(id);
/** A name of the feed, whatever it holds: set apart from the text around it, so that its direction stays its own. */
export const nameOf = (name) => el("bdi", { text: name || t("nameless") });
/** The same inside of a text, cut: between the characters "first strong isolate" and "pop directional isolate". */
export const nameIn = (name) => `\u2068${(name.length > 60 ? `${name.slice(0, 59)}…` : name) || t("nameless")}\u2069`;
/** A name with underscores, which may break after each of them. */
export const codeOf = (name) => el("code", {}, ...name.split("_").flatMap((part, at) => (at ? ["_", el("wbr"), part] : [part])));
/** Rows of objects of columns: {"id": [..], "name": [..]} to [{id, name}, ..]. */
export function rows(columns) {
  const keys = Object.keys(columns ?? {});
  return keys.length ? Array.from(columns[keys[0]], (_, at) => Object.fromEntries(keys.map((key) => [key, columns[key][at]]))) : [];
}

/** Read a file of site/data/, or say that it could not be read and return null. */
const dataRoot = new URL("../../data/", import.meta.url);
export async function load(file) {
  try {
    const answer = await fetch(new URL(file, dataRoot));
    if (!answer.ok) throw new Error(`${answer.status}`);
    return await answer.json();
  } catch {
    notice("failed-file", t("failed_file", { file: `data/${file}` }), { file });
    return null;
  }
}

/** Put a message at the top of the page; one a kind and file. */
export function notice(kind, text, { file, heading, age } = {}) {
  const key = `${kind} ${file ?? ""}`;
  const made = el("p", { class: "notice", "data-kind": kind, "data-file": file, "data-age": age, "data-key": key }, heading ? el("strong", { text: `${heading}. ` }) : null, text);
  const old = [...byId("notices").children].find((child) => child.dataset.key === key);
  if (old?.textContent === made.textContent) return;
  if (old) old.replaceWith(made);
  else byId("notices").append(made);
}
function withdraw(kind) {
  for (const child of [...byId("notices").children]) if (child.dataset.kind === kind) child.remove();
}

/** Say that a part has no data, where its content would be. */
export function empty(holder, text = t("no_data_part")) {
  holder.closest("section")?.setAttribute("data-empty", "");
  holder.replaceChildren(el("p", { class: "nothing", text }));
}

/** Draw a part of the page; a fault in one part leaves the others alone. */
async function part(name, draw) {
  try {
    await draw();
  } catch (error) {
    notice("failed-part", t("failed_part", { part: name }), { file: name });
    reportError(error);
  }
}

/**
 * Draw the page: `parts` maps a name to a function. The header's snapshot comes from meta.json, `ready` marks the end.
 * The first part loads what the others need; these begin in order and do not wait for each other, since a part with charts waits
 * for the library.
 */
export async function page(parts) {
  const meta = load("meta.json").then(showSnapshot);
  const [[first, loadIt], ...others] = Object.entries(parts);
  await part(first, loadIt);
  await Promise.all(others.map(([name, draw]) => part(name, draw)));
  await meta;
  document.body.dataset.ready = "true";
}

function showSnapshot(meta) {
  if (meta === null) return;
  const [label, age] = [byId("snapshot-time"), byId("snapshot-age")];
  const at = meta.newest_snapshot_at;
  document.body.dataset.snapshot = at ?? "none";
  if (at === null) {
    document.querySelector(".status-label").remove();
    label.textContent = t("no_snapshot");
    notice("no-data", t("no_data_how"), { heading: t("no_data") });
    return;
  }
  label.textContent = time(at);
  label.dateTime = new Date(at * 1000).toISOString();
  const tick = () => {
    const seconds = Math.max(0, Date.now() / 1000 - at);
    age.textContent = ago(seconds);
    age.dataset.age = seconds > VERY_OLD_S ? "very-old" : seconds > OLD_S ? "old" : "fresh";
    if (seconds <= OLD_S) withdraw("old");
    else notice("old", t(seconds > VERY_OLD_S ? "very_old" : "old"), { age: age.dataset.age });
  };
  tick();
  setInterval(tick, 20_000);
}

/** Fill a <dl class="figures">: {name: text}. */
export function figures(values, notes = {}) {
  for (const [name, value] of Object.entries(values)) {
    const box = document.querySelector(`#key-figures [data-figure="${name}"]`);
    box.querySelector(".value").textContent = value;
    if (notes[name]) box.querySelector(".note").textContent = notes[name];
  }
}

/** Call back with the chosen value now and at each change; fieldsets of radio buttons made by parts.html. */
export function onChoice(name, change) {
  const inputs = document.querySelectorAll(`input[name="${name}"]`);
  for (const input of inputs) input.addEventListener("change", () => change(input.value));
  return change([...inputs].find((input) => input.checked).value);
}

/** The mark of a state, as on the map and in its legend. */
export function mark(state, level = 0.5) {
  const node = svg("svg", { class: "mark", viewBox: "-10 -10 20 20", "aria-hidden": "true", focusable: "false", "data-state": state });
  node.append(...shapes(state, 7.5, level));
  return node;
}
/** The shapes of a state's mark about (0, 0): the form tells the state, whatever its colour. */
export function shapes(state, r, level) {
  if (state === "no_docks") return [svg("path", { class: "cross", d: `M${-r * 0.65} ${-r * 0.65}L${r * 0.65} ${r * 0.65}M${-r * 0.65} ${r * 0.65}L${r * 0.65} ${-r * 0.65}` })];
  if (state === "full" || state === "overfull") {
    const half = r * 0.93;
    const body = svg("rect", { class: "body", x: -half, y: -half, width: 2 * half, height: 2 * half, rx: 1.5 });
    return state === "full" ? [body] : [body, svg("path", { class: "plus", d: `M${-r * 0.52} 0H${r * 0.52}M0 ${-r * 0.52}V${r * 0.52}` })];
  }
  const body = svg("circle", { class: "body", r });
  if (state === "empty" || level <= 0) return [body];
  // A level under 16 % would not be seen; one over 90 % would look full.
  const y = r * (1 - 2 * Math.min(Math.max(level, 0.16), 0.9));
  const x = Math.sqrt(r * r - y * y);
  return [body, svg("path", { class: "level", d: `M${-x} ${y}A${r} ${r} 0 ${y < 0 ? 1 : 0} 0 ${x} ${y}Z` })];
}
