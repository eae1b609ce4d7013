// A value's content, to be looked at: as text, rows, pixels, or its first bytes. Nothing of it is given to the browser
// as what it says it is: a page stays a text, a picture is drawn, and the rest can be kept as a file.

import { bytesOf, download, get, segment } from "./api.js";
import { brief, button, bytes, card, count, facts, h, name, number, plain, plainLines, show, table, tag, when } from "./dom.js";
import { act } from "./parts.js";

const PART = 32_768;
const SMALL = 90_000;
const LARGEST = 16 * 1_048_576;
const PIXELS = 40_000_000;
const HEX = 512;

// What a value is, and its content; null for a record that is none, or is none any more.
export async function valueOf(page, record, none) {
  if (record.namespace[0] !== "$values" || record.key === null) return null;
  const at = `/v1/values/${segment(record.key)}`;
  const asked = { ...page.whose, namespace: record.namespace.slice(1) };
  const info = await get(at, asked, page.signal).catch(none);
  if (info === null || info.id !== record.id) return null;
  const look = { ...asked, touch: false };
  const file = (record.key.split("/").pop().replace(/[^\p{L}\p{N}_.-]+/gu, "_").slice(-80).replace(/^[._]+/, "")) || "value";
  return {
    shown: [
      facts(["Kind", tag(info.kind)], ["Size", bytes(info.size)], info.shape && ["Shape", shape(info)], ["Lies in", tag(info.tier)], ["Version", number(info.version)], ["Changed", when(info.updated_at, { both: true })]),
      await content(page, record.id, info, `${at}/content`, look, `${at}/head`),
    ],
    action: button("Download", () => act(page, "It is in your downloads.", () => download(`${at}/content`, look, file), { stay: true })),
  };
}

export const shape = (info) => (info.shape ? `${info.shape.map(number).join(" × ") || "one number"}${info.dtype ? ` ${plain(info.dtype).slice(0, 80)}` : ""}` : "–");

async function content(page, id, info, at, look, head) {
  if (info.size === 0 && !info.shape) return h("p", { class: "nothing" }, "It is empty.");
  if (info.kind === "array" || info.kind === "table") {
    const found = await get(head, { ...look, limit: 20 }, page.signal).catch((error) => { if (error.status === 422) return error; throw error; });
    return found instanceof Error ? h("p", { class: "nothing" }, plain(found.message)) : rows(found);
  }
  const from = Math.min(Math.max(0, Math.floor(Number(page.query.get("from"))) || 0), Math.max(0, info.size - 1));
  const part = await bytesOf(at, look, from, Math.min(info.size, from + PART), page.signal);
  if (info.kind !== "str" && info.kind !== "json") {
    const type = info.kind === "pickle" ? null : picture(part);
    if (type && from === 0) return drawn(page, type, info, at, look, part);
    if (info.kind === "pickle" || !readable(part)) return hex(part);
  }
  return words(page, id, info, part, from);
}

const cell = (one) => h("bdi", { class: "cell" }, plain(one));

function rows(found) {
  const heads = found.columns ?? (found.rows[0] || []).map((_, place) => number(place));
  const more = found.width > heads.length;
  return [
    table("The first rows", ["Row", ...heads.map(cell), ...(more ? ["…"] : [])], found.rows.map((cells, place) =>
      [cell(number(place)), ...cells.map(cell), ...(more ? ["…"] : [])]), { empty: "It has no rows." }),
    found.rows.length < found.total || more ? h("p", { class: "nothing" }, `The first ${number(found.rows.length)} of ${number(found.total)} rows${more ? `, ${number(heads.length)} of ${number(found.width)} cells of each` : ""}.`) : null,
  ];
}

// -- texts -----------------------------------------------------------------------------------------------------------

function readable(part) {
  try {
    return !/[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(new TextDecoder("utf-8", { fatal: true }).decode(part.subarray(begin(part), whole(part))));
  } catch {
    return false;
  }
}

// A part may begin and end within a character.
const begin = (part) => { let at = 0; while (at < 3 && at < part.length && (part[at] & 0xc0) === 0x80) at += 1; return at; };
function whole(part) {
  for (let back = 1; back <= 3 && back <= part.length; back += 1) {
    const one = part[part.length - back];
    if ((one & 0xc0) === 0x80) continue;
    return one >= 0xc0 && back < (one >= 0xf0 ? 4 : one >= 0xe0 ? 3 : 2) ? part.length - back : part.length;
  }
  return part.length;
}

function words(page, id, info, part, from) {
  const last = from + part.length >= info.size;
  const first = from ? begin(part) : 0;
  const end = last ? part.length : whole(part);
  const read = new TextDecoder("utf-8", { ignoreBOM: true }).decode(part.subarray(first, end));
  const node = h("pre", { tabindex: 0, dir: "auto", class: "content" }, plainLines(info.kind === "json" && from === 0 ? indented(read) : read));
  if (last && from === 0) return node;
  const there = (at) => page.link(at < from ? "Part before" : "Next part", "memory", { id, from: at || null }, { class: "button" });
  return [node, h("p", { class: "actions" }, h("span", {}, `Bytes ${number(from + first)} to ${number(from + end)} of ${number(info.size)}`), from > 0 && there(Math.max(0, from - PART)), !last && there(from + end))];
}

// JSON on lines, without making numbers of its digits: they are shown as they are.
function indented(text) {
  let deep = 0;
  let made = "";
  const line = () => `\n${"  ".repeat(Math.min(deep, 40))}`;
  let before = "";
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"?|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const opens = before === "{" || before === "[";
    if (token === "}" || token === "]") { deep -= 1; made += opens ? token : line() + token; }
    else {
      if (opens) made += line();
      if (token === "{" || token === "[") deep += 1;
      made += token === "," ? `,${line()}` : token === ":" ? ": " : token.startsWith("\"") ? quoted(token) : token;
    }
    before = token;
  }
  return made;
}

function quoted(token) {
  try { return JSON.stringify(JSON.parse(token)); } catch { return token; }
}

// -- bytes -----------------------------------------------------------------------------------------------------------

function hex(part) {
  const lines = [];
  for (let at = 0; at < Math.min(HEX, part.length); at += 16) {
    const row = [...part.subarray(at, Math.min(at + 16, HEX))];
    lines.push(`${at.toString(16).padStart(6, "0")}  ${row.map((one) => one.toString(16).padStart(2, "0")).join(" ").padEnd(47)}  ${row.map((one) => (one > 0x1f && one < 0x7f ? String.fromCharCode(one) : ".")).join("")}`);
  }
  return [h("pre", { tabindex: 0, class: "hex", "aria-label": "The first bytes" }, lines.join("\n")), part.length > HEX && h("p", { class: "nothing" }, `The first ${HEX} bytes.`)];
}

const SIGNS = { "image/png": [0x89, 0x50, 0x4e, 0x47], "image/jpeg": [0xff, 0xd8, 0xff], "image/gif": [0x47, 0x49, 0x46, 0x38], "image/webp": [0x52, 0x49, 0x46, 0x46] };
function picture(part) {
  const found = Object.keys(SIGNS).find((type) => SIGNS[type].every((one, place) => part[place] === one));
  return found === "image/webp" && String.fromCharCode(...part.subarray(8, 12)) !== "WEBP" ? null : found;
}

// How large a picture says it is, before anything is unpacked: a small file may say that it is a very large one.
function extent(type, part) {
  const view = new DataView(part.buffer, part.byteOffset, part.length);
  try {
    if (type === "image/png") return [view.getUint32(16), view.getUint32(20)];
    if (type === "image/gif") return [view.getUint16(6, true), view.getUint16(8, true)];
    if (type === "image/webp") {
      const kind = String.fromCharCode(...part.subarray(12, 16));
      if (kind === "VP8X") return [24, 27].map((at) => 1 + view.getUint16(at, true) + (part[at + 2] << 16));
      if (kind === "VP8L") { const said = view.getUint32(21, true); return [1 + (said & 0x3fff), 1 + ((said >> 14) & 0x3fff)]; }
      return kind === "VP8 " ? [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff] : null;
    }
    for (let at = 2; part[at] === 0xff; at += 2 + view.getUint16(at + 2)) {
      const kind = part[at + 1];
      if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
  } catch { /* it ends before it says so */ }
  return null;
}

// A picture becomes pixels, whatever else is in the file; it has no address, and none that is in it is followed.
async function drawn(page, type, info, at, look, part) {
  const size = extent(type, part);
  if (size === null || !size[0] || !size[1] || size[0] * size[1] > PIXELS || info.size > LARGEST) return [h("p", { class: "nothing" }, "A picture that is too large to be shown, or none that can be."), hex(part)];
  const said = `${type.slice(6).toUpperCase()}, ${number(size[0])} × ${number(size[1])}`;
  const node = h("div", {});
  const draw = async () => {
    const all = part.length === info.size ? part : await bytesOf(at, look, 0, info.size, page.signal);
    let image;
    try {
      image = await createImageBitmap(new Blob([all], { type }));
    } catch {
      return show(node, h("p", { class: "nothing" }, "It begins like a picture, and is none."), hex(part));
    }
    const least = Math.min(1, 800 / image.width, 800 / image.height);
    const canvas = h("canvas", { width: Math.max(1, Math.round(image.width * least)), height: Math.max(1, Math.round(image.height * least)), role: "img", "aria-label": `The picture (${said})` });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    image.close();
    return show(node, h("p", {}, said), canvas);
  };
  if (info.size <= SMALL) await draw();
  else show(node, h("p", {}, said), button(`Show the picture (${bytes(info.size)})`, draw));
  return node;
}

export const carried = (page, found) => card("Carries", table("Values that it carries", ["Key", "Kind", count("Size"), "Shape"], found.map((one) => [
  page.link(name(brief(one.key)), "memory", { id: one.id }), tag(one.kind), bytes(one.size), shape(one)])));
