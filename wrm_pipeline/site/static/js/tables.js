// Tables: rows from objects, sorted by the buttons in the headings, shortened until the reader asks for all.

import { el, t } from "./core.js";

const collator = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });

/**
 * Fill the table inside `holder`.
 *
 * columns: {key: {cell: row => string | Node, value?: row => what it sorts by, number?: bool, first?: "descending"}},
 * in the order of the headings; the first column is the row's heading. options: `limit` with `more` (a button), `attributes` of a
 * row, `sort` [key, direction] or nothing for the order given, `none` the text of an empty table.
 * Returns {show(rows), rows: the <tr> in place by row}.
 */
export function fillTable(holder, columns, given, options = {}) {
  const table = holder.querySelector("table");
  const body = table.tBodies[0];
  const keys = Object.keys(columns);
  const cells = new Map();
  let shown = given;
  let [sortKey, direction] = options.sort ?? [null, "ascending"];
  let all = false;

  function rowOf(row) {
    if (!cells.has(row)) {
      const made = el("tr", options.attributes?.(row) ?? {});
      keys.forEach((key, at) => {
        const column = columns[key];
        const cell = at === 0 ? el("th", { scope: "row" }) : el("td", { class: [column.number ? "number" : null, column.class].filter(Boolean).join(" ") || null });
        cell.append(column.cell(row));
        made.append(cell);
      });
      cells.set(row, made);
    }
    return cells.get(row);
  }
  function sorted() {
    if (!sortKey) return shown;
    const value = columns[sortKey].value;
    const sign = direction === "ascending" ? 1 : -1;
    // What is unknown comes last, either way.
    return [...shown].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "string" ? collator.compare(x, y) : x - y);
    });
  }
  function draw() {
    const ordered = sorted();
    const cut = all || !options.limit ? ordered : ordered.slice(0, options.limit);
    body.replaceChildren(...cut.map(rowOf));
    if (!ordered.length) body.append(el("tr", {}, el("td", { class: "nothing", colspan: keys.length, text: options.none ?? t("no_data_part") })));
    if (options.more) {
      options.more.hidden = !options.limit || ordered.length <= options.limit;
      options.more.textContent = all ? t("show_less") : t("show_all", { n: ordered.length });
    }
    for (const heading of table.tHead.querySelectorAll("th")) {
      if (heading.dataset.column === sortKey) heading.setAttribute("aria-sort", direction);
      else heading.removeAttribute("aria-sort");
    }
  }
  for (const button of table.tHead.querySelectorAll("button[data-sort]")) {
    button.addEventListener("click", () => {
      const key = button.dataset.sort;
      const first = columns[key].number ? "descending" : "ascending";
      direction = key === sortKey ? (direction === "ascending" ? "descending" : "ascending") : first;
      sortKey = key;
      draw();
    });
  }
  options.more?.addEventListener("click", () => {
    all = !all;
    draw();
  });
  draw();
  return {
    show(some) {
      shown = some;
      draw();
    },
    rowOf,
  };
}

/** Make a plain table: headings, and rows of text or nodes; columns of `numbers` (indices) are right-aligned. */
export function plainTable(caption, headings, lines, numbers = null) {
  const isNumber = (at) => (numbers === null ? at > 0 : numbers.includes(at));
  return el(
    "table",
    {},
    el("caption", { class: "hidden", text: caption }),
    el("thead", {}, el("tr", {}, ...headings.map((heading, at) => el("th", { scope: "col", class: isNumber(at) ? "number" : null, text: heading })))),
    el(
      "tbody",
      {},
      ...lines.map((line) =>
        el("tr", {}, ...line.map((value, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: isNumber(at) ? "number" : null }, value))),
      ),
    ),
  );
}

/** Fill a <details class="numbers"> when it is first opened: thousands of cells that few look at. */
export function numbersOnDemand(details, make) {
  const holder = details.querySelector(".scroll");
  let done = null;
  const fill = () => {
    if (!details.open || done === make) return;
    done = make;
    holder.replaceChildren(make());
  };
  details.ontoggle = fill;
  done = null;
  fill();
}

/** A small bar behind a number, for the eye; the number stays the text. */
export function bar(fraction, kind = "") {
  const fill = el("i", { class: kind });
  fill.style.setProperty("inline-size", `${Math.min(1, Math.max(0, fraction)) * 100}%`);
  return el("span", { class: "meter", "aria-hidden": "true" }, fill);
}

/** Text or nodes, one after the other. */
export function together(...parts) {
  const fragment = document.createDocumentFragment();
  fragment.append(...parts.filter((part) => part !== null && part !== undefined));
  return fragment;
}
