// Making the page of values. A text becomes a text node, whatever is in it: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

// What nobody can see, or what turns the direction of a line, is written out where it could pass for something else.
const UNSEEN = new RegExp([
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1d173}-\\u{1d17a}]",
  // Letters that no font draws, but for those that make a flag of an emoji.
  "(?<!\\u{1f3f4}[\\u{e0020}-\\u{e007f}]*)[\\u{e0000}-\\u{e007f}]",
  // What chooses among the forms of a sign, where there is none before it, or more than one.
  "(?<![\\p{Emoji}\\p{L}\\p{S}])[\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}]", "(?<=[A-Za-z])[\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}]",
].join("|"), "gu");
// A joiner inside of one emoji is seen: it makes them one.
const JOINED = /(?<=\p{Extended_Pictographic}[\ufe0f\u{1f3fb}-\u{1f3ff}]?)\u200d(?=\p{Extended_Pictographic})/gu;
const written = (one) => `\u27e8${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
// More marks on one letter than any script has reach over the lines above and below.
const PILED = /(?<=\p{M}{6})\p{M}+/gu;
const counted = (marks) => `\u27e8${[...marks].length} more marks\u27e9`;
const seen = (text, write) => text.replace(PILED, counted).split(JOINED).map((part) => part.replace(UNSEEN, write)).join("\u200d");
export const plain = (text) => seen(String(text), written);
export const plainLines = (part) => seen(part, (one) => (one === "\r" ? "" : written(one)));

// What is pressed again while it is being done is not done twice.
function once(handle) {
  let busy = false;
  return async (event) => {
    if (busy) return event.preventDefault();
    busy = true;
    try {
      await handle(event);
    } finally {
      busy = false;
    }
  };
}

// What is shown of this, whoever wrote it.
const shown = (children) => children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false)
  .map((one) => (one instanceof Node ? one : plainLines(String(one))));

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "onclick" || name === "onsubmit") node.addEventListener(name.slice(2), once(value));
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "value") node.value = value;
    else if (name === "checked" || name === "selected") node[name] = true;
    else if (name === "title" || name === "aria-label") node.setAttribute(name, plain(value));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...shown(children));
  return node;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export function show(node, ...children) {
  node.replaceChildren(...shown(children));
  return node;
}

export const brief = (text, most = 120) => (text.length > most ? `${text.slice(0, most)}…` : text);

// A name or an id: one line, its letters in their own direction.
export const name = (text) => h("bdi", { class: "name" }, plain(text));

const SHORT = 400;
const MOST = 200_000;
// A text that somebody wrote: in its own direction, its lines kept, long ones shortened until asked for.
export function text(value, { short = SHORT, marks = [] } = {}) {
  const whole = String(value);
  const node = h("div", { class: "text", dir: "auto" });
  const put = (part) => show(node, ...marked(part, marks));
  const end = cut(whole, short);
  if (end === whole.length) {
    put(whole);
    return node;
  }
  const less = `${[...whole.slice(0, end)].slice(0, -1).join("")} …`;
  const longer = whole.length > MOST ? `${whole.slice(0, MOST)} …` : whole;
  // What was cut on the way here ends so, and is not all.
  const label = whole.endsWith("…") || longer !== whole ? "Show more" : `Show all ${number(whole.length)} characters`;
  const more = button(label, () => {
    const open = more.getAttribute("aria-expanded") === "false";
    put(open ? longer : less);
    more.textContent = open ? "Show less" : label;
    more.setAttribute("aria-expanded", open);
  }, { class: "quiet", "aria-expanded": "false" });
  put(less);
  return h("div", {}, node, more);
}

// Where a text is cut: after so many characters, or as many lines as they would fill.
function cut(whole, short) {
  const end = whole.length <= short * 1.2 ? whole.length : short;
  let at = -1;
  for (let lines = Math.max(3, short / 40); lines > 0; lines -= 1) {
    at = whole.indexOf("\n", at + 1);
    if (at < 0) return end;
  }
  return whole.slice(at).trim() ? Math.min(end, at + 1) : end;
}

function marked(part, marks) {
  const words = marks.filter((one) => one).map((one) => one.toLowerCase());
  if (!words.length) return [part];
  const found = [];
  let last = 0;
  // The terms of a search are stems: a word that begins with one is what matched.
  for (const match of part.matchAll(/[\p{L}\p{N}_]+/gu)) {
    const word = match[0].toLowerCase();
    if (!words.some((one) => word.startsWith(one))) continue;
    found.push(part.slice(last, match.index), h("mark", {}, match[0]));
    last = match.index + match[0].length;
  }
  found.push(part.slice(last));
  return found;
}

// -- how values are written ------------------------------------------------------------------------------------------

const NUMBERS = new Intl.NumberFormat();
export const number = (value) => NUMBERS.format(value);
export const some = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(value && value < 0.001 ? 2 : 1)} %`);
export const decimal = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "\u2212"));

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)}\u00a0${units[at]}`; // never on two lines
}

export const milliseconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(2)} ms` : `${Math.round(value)} ms`);

const DATES = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
// What is told on demand: to the second, and in which zone.
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const DAYS = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const SPANS = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const STEPS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

// How long ago, or null where the date says more.
export function ago(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  if (Math.abs(seconds) > 60 * 86_400) return null;
  const [unit, size] = STEPS.find((one) => Math.abs(seconds) >= one[1]) || STEPS.at(-1);
  return SPANS.format(Math.trunc(seconds / size), unit);
}

export function when(iso, { both = false, day = false } = {}) {
  if (!iso) return "–";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return plain(iso);
  const said = DATES.format(at);
  const span = ago(iso);
  return h("time", { datetime: iso, title: EXACT.format(at), class: both && "both" }, day || both ? [day ? DAYS.format(at) : said, span && ` (${span})`] : (span ?? DAYS.format(at)));
}

// -- pieces ----------------------------------------------------------------------------------------------------------

export const button = (label, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, label);
export const link = (label, href, attributes = {}) => h("a", { href, ...attributes }, label);
export const tag = (label, kind = "") => h("span", { class: `tag ${kind}` }, label);
export const facts = (...pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
export const card = (title, ...children) => h("section", { class: "card" }, title && h("h2", {}, title), children);
export const nothing = (...words) => h("p", { class: "nothing" }, words);

let numbered = 0;
export function field(label, control, hint) {
  control.id ||= `field-${(numbered += 1)}`;
  const said = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (said) control.setAttribute("aria-describedby", said.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, said);
}

export const choice = (options, chosen, attributes = {}) =>
  h("select", attributes, options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)));

// The head of a column of figures, which stand below one another.
export const count = (label) => ({ label });

export function table(caption, heads, rows, { empty = "Nothing here." } = {}) {
  if (!rows.length) return nothing(empty);
  const kind = heads.map((one) => (one.label === undefined ? null : "count"));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((one, at) => h("th", { scope: "col", class: kind[at] }, one.label ?? one)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, at) => h("td", { class: kind[at] }, cell)))))));
}

let saidUntil = 0;
export function say(words, kind = "") {
  const node = document.getElementById("said");
  show(node, h("p", { class: kind }, words));
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => show(node), kind === "bad" ? 20_000 : 8_000);
}

// A question before something is done; with `typed`, that has to be typed first. Answers whether it was confirmed.
export function ask({ title, words, yes, typed = null, danger = false, extra = null, no = "Cancel" }) {
  return new Promise((answer) => {
    const input = typed === null ? null : h("input", { autocomplete: "off", spellcheck: "false" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "first", disabled: typed !== null }, yes);
    const heading = h("h2", { id: "question" }, title);
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", {
        method: "dialog",
        onsubmit: (event) => { event.preventDefault(); if (!go.disabled) end(true); },
      }, heading, h("p", {}, words), extra,
      input && field(h("span", {}, "Type ", h("code", { class: "typed" }, typed), " to confirm"), input),
      h("p", { class: "actions" }, go, no && button(no, () => end(false)))));
    const end = (value) => { dialog.close(); dialog.remove(); answer(value); };
    input?.addEventListener("input", () => { go.disabled = ![typed, plain(typed)].some((one) => input.value.normalize("NFC") === one.normalize("NFC")); });
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); end(false); });
    document.body.append(dialog);
    dialog.showModal();
    (input || go).focus();
  });
}
