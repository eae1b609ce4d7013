// Drawings, as inline SVG. Each says in words what it shows.

import { decimal, h, number, share, svg } from "./dom.js";

// A bar from 0 to 1, or to `most`, with its value beside it.
export function bar(label, value, { most = 1, from = null, kind = "", said = null } = {}) {
  const shown = said ?? decimal(value);
  const filled = Math.max(0, Math.min(1, (value ?? 0) / most)) * 100;
  return h("div", { class: `bar ${kind}` },
    h("span", { class: "bar-label" }, label),
    svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "rail", width: 100, height: 8 }),
      svg("rect", { class: "filled", width: filled, height: 8 }),
      from !== null && svg("rect", { class: "mark", x: Math.min(99, (from / most) * 100), width: 1, height: 8 })),
    h("span", { class: "bar-value" }, shown));
}

// Bars below one another begin and end together.
export const bars = (...drawn) => h("div", { class: "bars" }, drawn);

// Parts of a whole, side by side, with a legend.
export function parts(title, pieces, whole) {
  const total = whole || pieces.reduce((sum, one) => sum + one[1], 0) || 1;
  let at = 0;
  const drawn = pieces.map(([, value], index) => {
    const width = (value / total) * 100;
    const piece = svg("rect", { class: `part-${index % 6}`, x: at, width, height: 12 });
    at += width;
    return piece;
  });
  const words = pieces.map(([label, value]) => `${label} ${number(value)}`).join(", ");
  return h("figure", { class: "parts" },
    svg("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${words}` },
      svg("rect", { class: "rail", width: 100, height: 12 }), drawn),
    h("ul", { class: "legend" }, pieces.map(([label, value], index) =>
      h("li", {}, h("span", { class: `swatch part-${index % 6}`, "aria-hidden": "true" }), label, " ", h("b", {}, number(value)), ` (${share(value / total)})`))));
}

// What a figure was over the last minutes; `push` adds one.
export class Line {
  constructor(label, format, kind = "") {
    this.values = [];
    this.format = format;
    this.label = label;
    this.path = svg("path", { class: "line" });
    this.area = svg("path", { class: "area" });
    this.drawing = svg("svg", { viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img", "aria-label": label }, this.area, this.path);
    this.value = h("b", {}, "–");
    this.most = h("small", {}, "");
    this.node = h("div", { class: `figure ${kind}` }, h("span", { class: "figure-label" }, label), this.value, this.drawing, this.most);
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > 120) this.values.shift();
    const known = this.values.filter((one) => one !== null);
    const top = Math.max(...known, 1e-9);
    const step = 120 / Math.max(this.values.length - 1, 1);
    const points = this.values.map((one, index) => [index * step, 28 - 26 * ((one ?? 0) / top)]);
    const way = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
    this.path.setAttribute("d", points.length > 1 ? way : "");
    this.area.setAttribute("d", points.length > 1 ? `${way}L120,30L0,30Z` : "");
    this.value.textContent = value === null ? "–" : this.format(value);
    this.most.textContent = known.length > 1 ? `most: ${this.format(top)}` : "";
    this.drawing.setAttribute("aria-label", `${this.label}: now ${this.value.textContent}, at most ${this.format(top)}`);
  }
}

// A column for each of some days.
export function columns(title, days) {
  const top = Math.max(...days.map((one) => one[1]), 1);
  const width = 100 / Math.max(days.length, 1);
  const words = days.map(([label, value]) => `${label}: ${number(value)}`).join(", ");
  return h("figure", { class: "columns" },
    svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${title}. ${words}` },
      days.map(([, value], index) => svg("rect", {
        class: "filled", x: index * width + width * 0.1, width: width * 0.8, y: 40 - 38 * (value / top), height: 38 * (value / top),
      }))),
    h("figcaption", {}, title));
}
