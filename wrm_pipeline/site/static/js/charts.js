// Charts by ECharts, one way for all: a summary in words, a line with the values under the pointer (mouse, touch or arrow
// keys), and all numbers as a table. Lines break where there is no data. Times are ticked by the city's clock.

import { clockOf, date, el, empty, hourText, num, t, time, byId } from "./core.js";
import { numbersOnDemand, plainTable } from "./tables.js";

const charts = new Set();
const library = new Promise((resolve) => {
  const found = () => resolve(window.echarts ?? null);
  if (window.echarts || document.readyState === "complete") found();
  byId("chart-library").addEventListener("load", found);
  window.addEventListener("load", found); // also comes when the library failed
});
const style = getComputedStyle(document.documentElement);
const token = (name) => style.getPropertyValue(`--${name}`).trim();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.draw()));

/**
 * Draw a chart into a <figure class="chart">, or draw it anew with other numbers.
 *
 * spec: x "time" (t: epoch seconds), "date" (t: YYYY-MM-DD) or "hour" (t: 0 to 23); series [{name, colour, values} or
 * {name, colour, low, high} for a band; bar, dashed, stack, format]; summary and note, in words; format(value) of values;
 * axisFormat(value) of the axis; top: the least end of the axis; wholeNumbers: false where the axis may have fractions.
 */
export async function chart(figure, spec) {
  const plot = figure.querySelector(".plot");
  const details = figure.querySelector("details.numbers");
  const nothing = !spec.t.length || spec.series.every((series) => (series.values ?? series.low).every((value) => value === null));
  details.hidden = nothing;
  figure.querySelector("figcaption").textContent = nothing ? "" : [spec.summary, spec.note].filter(Boolean).join(" ");
  plot.setAttribute("aria-label", spec.summary ?? t("no_data_part"));
  if (nothing) {
    figure.chart?.dispose();
    figure.querySelector(".readout").replaceChildren();
    empty(plot);
    figure.dataset.drawn = "true";
    return;
  }
  const format = spec.format ?? ((value) => num(value, 0));
  const headings = [t(spec.x === "date" ? "day_column" : "time_column"), ...spec.series.flatMap((s) => (s.low ? [`${s.name} ↓`, `${s.name} ↑`] : [s.name]))];
  numbersOnDemand(details, () =>
    plainTable(
      spec.summary,
      headings,
      spec.t.flatMap((_, at) => (isGap(spec, at) ? [] : [[label(spec, at), ...spec.series.flatMap((s) => (s.low ? [format(s.low[at]), format(s.high[at])] : [(s.format ?? format)(s.values[at])]))]])),
    ),
  );
  const echarts = await library;
  if (echarts === null) {
    empty(plot, t("loading_failed_charts"));
  } else {
    figure.chart ??= new Chart(figure, plot, echarts);
    figure.chart.show(spec, format);
  }
  figure.dataset.drawn = "true";
}

const isGap = (spec, at) => spec.series.every((series) => (series.values ?? series.low)[at] === null);
const label = (spec, at) => (spec.x === "date" ? date(spec.t[at], "weekday") : spec.x === "hour" ? hourText(spec.t[at]) : time(spec.t[at], "weekday"));
const millis = (spec, value) => (spec.x === "date" ? Date.parse(value) : value * 1000);

class Chart {
  constructor(figure, plot, echarts) {
    this.figure = figure;
    this.readout = figure.querySelector(".readout");
    this.plot = plot;
    this.echarts = echarts;
    plot.replaceChildren();
    this.made = echarts.init(plot, null, { renderer: "canvas" });
    this.made.on("updateAxisPointer", (event) => {
      const value = event.axesInfo?.[0]?.value;
      if (value !== undefined) this.read(this.nearest(value));
    });
    this.made.getZr().on("globalout", () => this.read(this.last()));
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("blur", () => this.made.dispatchAction({ type: "hideTip" }));
    this.width = 0;
    new ResizeObserver(() => {
      if (!plot.clientWidth || plot.clientWidth === this.width) return;
      this.made.resize();
      this.draw();
    }).observe(plot);
    charts.add(this);
  }

  dispose() {
    this.made.dispose();
    charts.delete(this);
    this.figure.chart = undefined;
  }

  show(spec, format) {
    this.spec = spec;
    this.format = format;
    this.draw();
    this.read(this.last());
  }

  last() {
    for (let at = this.spec.t.length - 1; at > 0; at -= 1) if (!isGap(this.spec, at)) return at;
    return 0;
  }

  nearest(value) {
    if (this.spec.x === "hour") return value;
    let [low, high] = [0, this.spec.t.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (millis(this.spec, this.spec.t[middle]) < value) low = middle + 1;
      else high = middle;
    }
    const before = Math.max(0, low - 1);
    return value - millis(this.spec, this.spec.t[before]) < millis(this.spec, this.spec.t[low]) - value ? before : low;
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -24, PageDown: 24, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const end = this.spec.t.length - 1;
    let at = Math.min(end, Math.max(0, (this.at ?? end) + step));
    while (isGap(this.spec, at) && at > 0 && at < end) at += Math.sign(step);
    const series = this.spec.series.findIndex((one) => (one.values ?? one.low)[at] !== null);
    if (series < 0) return;
    this.made.dispatchAction({ type: "showTip", seriesIndex: this.first[series], dataIndex: at });
    this.read(at);
  }

  /** Write the values at a place above the chart: also the legend. */
  read(at) {
    this.at = at;
    const items = this.spec.series.map((series) => {
      const swatch = el("i", { class: `swatch${series.low ? " band" : series.bar ? " block" : ""}${series.dashed ? " dashed" : ""}` });
      swatch.style.setProperty("--swatch", `var(--${series.colour})`);
      const value = series.low ? (series.low[at] === null ? "–" : `${this.format(series.low[at])}–${this.format(series.high[at])}`) : (series.format ?? this.format)(series.values[at]);
      return el("span", { class: "item" }, swatch, `${series.name} `, el("b", { text: isGap(this.spec, at) ? t("gap") : value }));
    });
    this.readout.replaceChildren(el("span", { class: "when", text: label(this.spec, at) }), ...items);
  }

  draw() {
    const { spec } = this;
    if (!spec) return;
    this.width = this.plot.clientWidth;
    const [ink, line, gap, surface] = [token("ink-2"), token("line"), token("none"), token("page")];
    const xs = spec.x === "hour" ? null : spec.t.map((value) => millis(spec, value));
    const point = (values) => (xs ? values.map((value, at) => [xs[at], value]) : values);
    const room = (this.width - 70) / spec.t.length;
    const series = [];
    this.first = [];
    spec.series.forEach((one, at) => {
      const colour = token(one.colour);
      this.first.push(series.length);
      const common = { name: one.name, symbol: "none", connectNulls: false, silent: true, animation: false, z: 10 - at };
      const only = (values) => values.filter((value) => value !== null).length === 1;
      if (one.low) {
        const hidden = { ...common, type: "line", stack: `band${at}`, stackStrategy: "all", lineStyle: { opacity: 0 }, z: 1 };
        const spread = one.high.map((value, i) => (value === null ? null : value - one.low[i]));
        series.push({ ...hidden, data: point(one.low) }, { ...hidden, data: point(spread), areaStyle: { color: colour, opacity: 0.22 } });
      } else if (one.bar) {
        series.push({ ...common, type: "bar", stack: one.stack, data: point(one.values), itemStyle: { color: colour, borderColor: surface, borderWidth: room > 8 ? 0.5 : 0 }, barWidth: Math.max(1, room * 0.8) });
      } else {
        series.push({
          ...common,
          type: "line",
          stack: one.stack,
          data: point(one.values),
          lineStyle: { color: colour, width: spec.t.length > 500 ? 1.1 : 1.75, type: one.dashed ? [4, 3] : "solid" },
          itemStyle: { color: colour },
          // A single point has no line.
          symbol: only(one.values) ? "circle" : "none",
          symbolSize: 7,
        });
      }
    });
    const gaps = xs ? spec.t.flatMap((_, at) => (isGap(spec, at) && at + 1 < xs.length ? [[{ xAxis: xs[at] }, { xAxis: xs[at + 1] }]] : [])) : [];
    if (gaps.length) series[0].markArea = { silent: true, itemStyle: { color: gap, opacity: 0.8 }, data: gaps };
    const values = spec.series.flatMap((one) => one.high ?? one.values).filter((value) => value !== null);
    const stacked = spec.series.filter((one) => one.stack);
    const highest = Math.max(...values, ...(stacked.length ? spec.t.map((_, at) => stacked.reduce((sum, one) => sum + (one.values[at] ?? 0), 0)) : []));
    const end = Math.max(highest, spec.top ?? 0);
    const axisFormat = spec.axisFormat ?? this.format;
    const axisText = { color: ink, fontSize: 12, hideOverlap: true };
    const xAxis = { axisLine: { lineStyle: { color: line } }, axisPointer: { show: true, type: "line", snap: true, label: { show: false }, lineStyle: { color: ink, width: 1, type: "solid" } }, splitLine: { show: false } };
    if (spec.x === "hour") {
      Object.assign(xAxis, { type: "category", data: spec.t.map(hourText), boundaryGap: spec.series.some((one) => one.bar), axisTick: { show: false }, axisLabel: { ...axisText, interval: (at) => at % 6 === 0 } });
    } else {
      const bars = spec.series.some((one) => one.bar);
      const half = bars ? (spec.x === "date" ? 43_200_000 : 1_800_000) : 0;
      let [from, to] = [xs[0] - half, xs.at(-1) + half];
      if (from === to) [from, to] = [from - 3_600_000, to + 3_600_000];
      const ticks = ticksOf(from / 1000, to / 1000, this.width, spec.x === "date");
      Object.assign(xAxis, {
        type: "time",
        min: from,
        max: to,
        axisTick: { customValues: ticks.map((tick) => tick.at * 1000), lineStyle: { color: line } },
        // In the middle under the axis, the first one would touch the 0 beside it.
        axisLabel: { ...axisText, alignMinLabel: "left", customValues: ticks.map((tick) => tick.at * 1000), formatter: (value) => ticks.find((tick) => tick.at * 1000 === value)?.text ?? "" },
      });
    }
    this.made.setOption(
      {
        animation: false,
        textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
        aria: { enabled: true, label: { enabled: false }, decal: { show: stacked.length > 1 && spec.series.some((one) => one.bar) } },
        grid: { left: 10 + 7 * Math.max(2, axisFormat(axisFor(end, spec.wholeNumbers !== false).max).length), right: 14, top: 12, bottom: 28 },
        tooltip: { trigger: "axis", showContent: false },
        xAxis,
        yAxis: {
          type: "value",
          min: 0,
          ...axisFor(end, spec.wholeNumbers !== false),
          axisLabel: { ...axisText, formatter: axisFormat },
          splitLine: { lineStyle: { color: line } },
        },
        series,
      },
      true,
    );
  }
}

// Ends of an axis and the parts to divide it in, times a power of ten.
const ENDS = [[1, 5], [1.5, 3], [2, 4], [2.5, 5], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]];
const WHOLE_ENDS = [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]];
/** The end of an axis from zero that holds a value, and the distance of its ticks: {max, interval}. */
function axisFor(value, whole) {
  const power = Math.max(10 ** Math.floor(Math.log10(Math.max(value, 1e-4))), whole ? 1 : 0);
  const [end, parts] = (whole && power === 1 ? WHOLE_ENDS : ENDS).find(([end]) => end * power >= value);
  return { max: end * power, interval: (end * power) / parts };
}

/** Seconds of a wall clock's time: of the city, or of UTC for dates. */
function secondsOf([year, month, day, hour], utc) {
  const guess = Date.UTC(year, month - 1, day, hour) / 1000;
  if (utc) return guess;
  const behind = (at) => {
    const clock = clockOf(at);
    return Date.UTC(clock.year, clock.month - 1, clock.day, clock.hour, clock.minute) / 1000 - at;
  };
  const first = guess - behind(guess);
  return guess - behind(first);
}
function clockIn(at, utc) {
  if (!utc) return clockOf(at);
  const moment = new Date(at * 1000);
  return { year: moment.getUTCFullYear(), month: moment.getUTCMonth() + 1, day: moment.getUTCDate(), hour: moment.getUTCHours() };
}

/** Ticks at round times of the wall clock, so that a day of 23 or 25 hours begins where it does: [{at, text}]. */
function ticksOf(from, to, width, utc) {
  const room = Math.max(2, Math.floor(width / 84));
  const spanDays = (to - from) / 86_400;
  const text = (at, style) => (utc ? date(new Date(at * 1000).toISOString().slice(0, 10), style) : time(at, style));
  const ticks = [];
  const add = (at, style) => {
    if (at >= from && at <= to) ticks.push({ at, text: style === "clock" ? time(at, "clock") : text(at, style) });
  };
  const start = clockIn(from, utc);
  const hours = utc ? undefined : [1, 3, 6, 12].find((step) => (spanDays * 24) / step <= room);
  const days = [1, 2, 7, 14].find((step) => spanDays / step <= room);
  if (hours) {
    for (let day = 0; day <= spanDays + 1; day += 1)
      for (let hour = 0; hour < 24; hour += hours) add(secondsOf([start.year, start.month, start.day + day, hour], utc), hour ? "clock" : "dayMonth");
  } else if (days) {
    // Weeks begin on Monday: 1 January 1970 was a Thursday.
    const count = Math.floor(Date.UTC(start.year, start.month - 1, start.day) / 86_400_000) + 3;
    for (let day = (days - (count % days)) % days; day <= spanDays + 1; day += days) add(secondsOf([start.year, start.month, start.day + day, 0], utc), "dayMonth");
  } else {
    const months = [1, 3, 6, 12, 24].find((step) => spanDays / 30.4 / step <= room) ?? 60;
    for (let month = 1 - ((start.month - 1) % 1); month <= spanDays / 28 + 13; month += 1) {
      if ((month - 1) % months === 0) add(secondsOf([start.year, month, 1, 0], utc), utc ? "monthYear" : "month");
    }
  }
  return ticks;
}

/** Put a null between days that do not follow each other, so that the line breaks: columns of days to columns. */
export function breakAtMissingDays(columns, key = "date") {
  const names = Object.keys(columns);
  const broken = Object.fromEntries(names.map((name) => [name, []]));
  columns[key].forEach((day, at) => {
    const before = columns[key][at - 1];
    if (before && Date.parse(day) - Date.parse(before) > 86_400_000) {
      const missing = new Date(Date.parse(before) + 86_400_000).toISOString().slice(0, 10);
      for (const name of names) broken[name].push(name === key ? missing : null);
    }
    for (const name of names) broken[name].push(columns[name][at]);
  });
  return broken;
}

/** The rows of columns from a time (epoch seconds or date) on. */
export function since(columns, key, from) {
  const start = columns[key].findIndex((value) => value >= from);
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, start < 0 ? [] : values.slice(start)]));
}
export const known = (values) => values.filter((value) => value !== null);
export const meanOf = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
export const highestOf = (values) => values.reduce((high, value) => Math.max(high, value), -Infinity);
export const lowestOf = (values) => values.reduce((low, value) => Math.min(low, value), Infinity);
