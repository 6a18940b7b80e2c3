// A map without tiles: places on a plane in metres, a grid and a scale in kilometres, and moving about in it by mouse, touch
// and keyboard. What is drawn on it is the page's.

import { svg, t, num } from "./core.js";

const EARTH_M = 6_371_008.8;
const LARGEST = 24;
const PADDING = 26;
// Half of what is seen of a single station's surroundings.
const SMALLEST_M = 1500;

/** Make a plane of the points: lon and lat to metres east and south of their middle. */
export function plane(points) {
  const [south, north] = bounds(points.map((point) => point.lat));
  const [west, east] = bounds(points.map((point) => point.lon));
  const lat0 = (south + north) / 2;
  const lon0 = (west + east) / 2;
  const k = (EARTH_M * Math.PI) / 180;
  const cos = Math.cos((lat0 * Math.PI) / 180);
  const place = (lat, lon) => [(lon - lon0) * k * cos, (lat0 - lat) * k];
  const half = (from, to, scale) => Math.max(((to - from) / 2) * k * scale, SMALLEST_M);
  return { place, halfWidth: half(west, east, cos), halfHeight: half(south, north, 1), metresPerDegree: [k * cos, k] };
}
const bounds = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

/**
 * Put a map into `holder`. `draw(view)` is called whenever what is seen changed: view has x(m), y(m) in pixels, metres (a pixel's),
 * zoom (1 is the whole city), width, height. Returns {svg, layer(class), refresh(), centre(x, y, zoom), buttons}.
 */
export function makeMap(holder, ground, label, draw) {
  const root = svg("svg", { role: "img", "aria-label": label, tabindex: 0 });
  const grid = svg("g", { class: "grid" });
  root.append(grid);
  holder.prepend(root);
  const scale = svg("g", { class: "scale" }, svg("path"), svg("text", { "text-anchor": "middle" }));

  let [width, height, zoom, cx, cy] = [0, 0, 1, 0, 0];
  let frame = 0;
  const whole = () => Math.max((2 * ground.halfWidth) / Math.max(width - 2 * PADDING, 50), (2 * ground.halfHeight) / Math.max(height - 2 * PADDING, 50));
  const metres = () => whole() / zoom;

  function refresh() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      now();
    });
  }
  function now() {
    if (!width) return;
    const m = metres();
    const view = { x: (x) => width / 2 + (x - cx) / m, y: (y) => height / 2 + (y - cy) / m, metres: m, zoom, width, height };
    gridLines(view);
    draw(view);
  }
  function gridLines(view) {
    const step = [100, 200, 500, 1000, 2000, 5000, 10000].find((metre) => metre / view.metres > 70) ?? 20000;
    const lines = [];
    const path = [];
    const [left, top] = [cx - (width / 2) * view.metres, cy - (height / 2) * view.metres];
    for (let x = Math.ceil(left / step) * step; view.x(x) < width; x += step) path.push(`M${view.x(x).toFixed(1)} 0V${height}`);
    for (let y = Math.ceil(top / step) * step; view.y(y) < height; y += step) path.push(`M0 ${view.y(y).toFixed(1)}H${width}`);
    lines.push(svg("path", { d: path.join("") }));
    grid.replaceChildren(...lines);
    const span = step / view.metres;
    const [right, bottom] = [width - 14, height - 14];
    scale.firstChild.setAttribute("d", `M${right - span} ${bottom - 5}v5h${span}v-5`);
    scale.lastChild.setAttribute("x", right - span / 2);
    scale.lastChild.setAttribute("y", bottom - 8);
    scale.lastChild.textContent = step < 1000 ? `${num(step)} ${t("units.m")}` : `${num(step / 1000)} ${t("units.km")}`;
    root.append(scale);
  }
  function clamp() {
    zoom = Math.min(LARGEST, Math.max(1, zoom));
    const free = (half, pixels) => Math.max(0, half + PADDING * metres() - (pixels / 2) * metres());
    const [dx, dy] = [free(ground.halfWidth, width), free(ground.halfHeight, height)];
    cx = Math.min(dx, Math.max(-dx, cx));
    cy = Math.min(dy, Math.max(-dy, cy));
    // At the whole city a finger scrolls the page; closer, it moves the map.
    root.classList.toggle("zoomed", zoom > 1.01);
  }
  function zoomBy(factor, atX = width / 2, atY = height / 2) {
    const before = metres();
    const [x, y] = [cx + (atX - width / 2) * before, cy + (atY - height / 2) * before];
    zoom = Math.min(LARGEST, Math.max(1, zoom * factor));
    const after = metres();
    [cx, cy] = [x - (atX - width / 2) * after, y - (atY - height / 2) * after];
    clamp();
    refresh();
  }
  function moveBy(dx, dy) {
    [cx, cy] = [cx - dx * metres(), cy - dy * metres()];
    clamp();
    refresh();
  }
  function reset() {
    [zoom, cx, cy] = [1, 0, 0];
    clamp();
    refresh();
  }
  function centre(x, y, closer) {
    [cx, cy, zoom] = [x, y, Math.max(zoom, closer)];
    clamp();
    refresh();
  }

  const pointers = new Map();
  let moved = 0;
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  const where = (event) => {
    const box = root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  root.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    if (pointers.size === 0) moved = 0;
    pointers.set(event.pointerId, where(event));
  });
  root.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const at = where(event);
    if (pointers.size === 2) {
      const from = spread();
      pointers.set(event.pointerId, at);
      const to = spread();
      zoomBy(to.distance / Math.max(from.distance, 1), to.x, to.y);
      moveBy(to.x - from.x, to.y - from.y);
      moved = 99;
      return;
    }
    pointers.set(event.pointerId, at);
    moved += Math.abs(at.x - before.x) + Math.abs(at.y - before.y);
    if (moved > 4 && (event.pointerType === "mouse" || zoom > 1.01)) {
      root.setPointerCapture(event.pointerId);
      root.classList.add("moving");
      moveBy(at.x - before.x, at.y - before.y);
    }
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    root.classList.remove("moving");
  };
  for (const kind of ["pointerup", "pointercancel", "pointerleave"]) root.addEventListener(kind, end);
  // With Ctrl (or a pinch on a touchpad, which looks the same); the wheel alone scrolls the page.
  root.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const at = where(event);
      zoomBy(Math.exp(-event.deltaY / 180), at.x, at.y);
    },
    { passive: false },
  );
  root.addEventListener("dblclick", (event) => {
    const at = where(event);
    zoomBy(2, at.x, at.y);
  });
  const keys = {
    ArrowLeft: () => moveBy(60, 0),
    ArrowRight: () => moveBy(-60, 0),
    ArrowUp: () => moveBy(0, 60),
    ArrowDown: () => moveBy(0, -60),
    "+": () => zoomBy(1.5),
    "=": () => zoomBy(1.5),
    "-": () => zoomBy(1 / 1.5),
    0: reset,
  };
  root.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  new ResizeObserver(() => {
    [width, height] = [holder.clientWidth, holder.clientHeight];
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    clamp();
    now();
  }).observe(holder);

  return {
    svg: root,
    layer(name) {
      const group = svg("g", { class: name });
      root.append(group);
      return group;
    },
    refresh,
    centre,
    wasMoved: () => moved > 4,
    buttons(zoomIn, zoomOut, zoomReset) {
      zoomIn.addEventListener("click", () => zoomBy(1.8));
      zoomOut.addEventListener("click", () => zoomBy(1 / 1.8));
      zoomReset.addEventListener("click", reset);
    },
  };
}

/**
 * Choose labels, most important first: {x, y, gap, text} are centred over or under their place, on none of `places` ([x, y])
 * and on no other label. Returns [{x, y, text}].
 */
export function fitLabels(labels, places, view, most) {
  const taken = [];
  const chosen = [];
  for (const { x, y, gap, text } of labels) {
    if (chosen.length >= most) break;
    const half = text.length * 3 + 6;
    for (const middle of [y - gap, y + gap]) {
      const [left, top, right, bottom] = [x - half, middle - 8, x + half, middle + 8];
      if (left < 2 || right > view.width - 52 || top < 2 || bottom > view.height - 34) continue;
      if (taken.some((other) => left < other[2] && right > other[0] && top < other[3] && bottom > other[1])) continue;
      if (places.some(([px, py]) => px > left - 5 && px < right + 5 && py > top - 4 && py < bottom + 4)) continue;
      taken.push([left, top, right, bottom]);
      chosen.push({ x, y: middle, text });
      break;
    }
  }
  return chosen;
}
