// A heatmap that is a table: weekdays by hours, the share in each cell written and shaded. On a phone it stands upright.

import { el, hourText, num, t } from "./core.js";

const LEVELS = 7;

/**
 * Draw into `holder`. days: [{key, label, long}]; value(key, hour) is a share or null; `floor` is what is not shaded at all.
 * Returns {highest, lowest}: {day, hour, value} or null.
 */
export function heat(holder, { measure, caption, days, value, floor }) {
  const cells = days.flatMap((day) => hours().map((hour) => ({ day, hour, value: value(day.key, hour) }))).filter((cell) => cell.value !== null);
  if (!cells.length) return { highest: null, lowest: null };
  const byValue = [...cells].sort((a, b) => a.value - b.value);
  const [lowest, highest] = [byValue[0], byValue.at(-1)];
  const bottom = floor ?? lowest.value;
  const level = (share) => Math.round((LEVELS * Math.max(0, share - bottom)) / Math.max(highest.value - bottom, 1e-9));
  const cellOf = (day, hour) => {
    const share = value(day.key, hour);
    if (share === null) return el("td", { title: t("gap"), text: "·" });
    const extreme = (day === highest.day && hour === highest.hour) || (day === lowest.day && hour === lowest.hour);
    return el("td", { "data-level": level(share), class: extreme ? "extreme" : null, title: `${day.long}, ${hourText(hour)}: ${num(share * 100, 1)} %`, text: num(share * 100) });
  };
  const upright = matchMedia("(max-width: 720px)").matches;
  const [across, down] = upright ? [days, hours()] : [hours(), days];
  const head = (item) => (typeof item === "number" ? (upright ? hourText(item) : String(item)) : item.label);
  holder.replaceChildren(
    el(
      "table",
      { class: "heat", "data-measure": measure },
      el("caption", { class: "hidden", text: `${caption}, %` }),
      el("thead", {}, el("tr", {}, upright ? el("th", { scope: "col", class: "corner", text: t("heat_corner") }) : el("td", { class: "corner" }), ...across.map((item) => el("th", { scope: "col", text: head(item) })))),
      el(
        "tbody",
        {},
        ...down.map((row) => el("tr", {}, el("th", { scope: "row", text: head(row) }), ...across.map((column) => (upright ? cellOf(column, row) : cellOf(row, column))))),
      ),
    ),
  );
  return { highest, lowest };
}
const hours = () => Array.from({ length: 24 }, (_, hour) => hour);
