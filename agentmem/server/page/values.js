// What is kept by key and is no sentence: files, arrays, tables.

import { get } from "./api.js";
import { bytes, field, h, link, name, number, table, tag, when } from "./dom.js";
import { whom } from "./parts.js";

const PAGE = 50;

export async function values(page) {
  const prefix = page.query.get("prefix") || "";
  const after = page.query.get("after") || "";
  const found = await get("/v1/values", { ...page.whose, prefix, after, limit: PAGE }, page.signal);
  const here = (query) => page.to("values", { user: page.me.any_user ? page.user : null, ...query });
  const input = h("input", { type: "search", value: prefix, spellcheck: "false" });
  return [
    h("h1", {}, "Values of ", whom(page)),
    h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = here({ prefix: input.value }); } },
      field("Key begins with", input), h("button", { type: "submit" }, "Find")),
    table("Values", ["Key", "Kind", "Size", "Shape", "Version", "Changed", "Ends"], found.map((one) => [
      page.link(name(one.key), "memory", { id: one.id }), tag(one.kind), bytes(one.size), one.shape ? `${one.shape.map(number).join(" × ")}${one.dtype ? ` ${one.dtype}` : ""}` : "–",
      number(one.version), when(one.updated_at), one.expires_at ? when(one.expires_at) : "–",
    ]), { empty: "No values." }),
    h("p", { class: "actions" }, after && link("First page", here({ prefix }), { class: "button" }), found.length === PAGE && link("Next page", here({ prefix, after: found.at(-1).key }), { class: "button" })),
  ];
}
