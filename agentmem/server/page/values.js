// What is kept by key and is no sentence: files, arrays, tables.

import { CLIP, get, segment } from "./api.js";
import { shape } from "./content.js";
import { brief, bytes, count, field, h, link, name, number, show, table, tag, when } from "./dom.js";
import { parts, path, whom } from "./parts.js";

const PAGE = 50;

export async function values(page) {
  const prefix = page.query.get("prefix") || "";
  const after = page.query.get("after") || "";
  const at = parts(page.query.get("at") || "null");
  const found = await get("/v1/values", { ...page.whose, ...(at ? { namespace: at } : {}), prefix, after, limit: PAGE }, page.signal);
  const here = (query) => page.to("values", { user: page.me.any_user ? page.user : null, at: path(at), ...query });
  const end = found.at(-1);
  // A key may be longer than what is shown of it.
  const last = found.length < PAGE ? null : end.key.length <= CLIP ? end.key
    : (await get(`/v1/memories/${segment(end.id)}`, { ...page.whose, touch: false, data: false }, page.signal, 4_096)).key;
  const input = h("input", { type: "search", value: prefix, spellcheck: "false" });
  return [
    h("h1", {}, "Values of ", whom(page), at && [" at ", name(at.join(" / "))]),
    h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = here({ prefix: input.value }); } },
      field("Key begins with", input), h("button", { type: "submit" }, "Find")),
    page.me.agent_id === null && namespaces(page, here),
    table("Values", ["Key", "Kind", count("Size"), "Shape", "Lies in", count("Version"), "Changed", "Ends"], found.map((one) => [
      page.link(name(brief(one.key)), "memory", { id: one.id }), tag(one.kind), bytes(one.size), shape(one), one.tier,
      number(one.version), when(one.updated_at), one.expires_at ? when(one.expires_at) : "–",
    ]), { empty: "No values." }),
    h("p", { class: "actions" }, after && link("First page", here({ prefix }), { class: "button" }), last !== null && link("Next page", here({ prefix, after: last }), { class: "button" })),
  ];
}

// Values lie beside each other in the namespaces of their programs, and the list has those of one.
function namespaces(page, here) {
  const list = h("p", {}, "Counting …");
  const node = h("details", {}, h("summary", {}, "Namespaces"), list);
  node.addEventListener("toggle", async () => {
    const all = await get("/v1/namespaces", { ...page.whose, limit: 400 }, page.signal).catch(() => []);
    const ours = all.filter((one) => one.namespace[0] === "$values").map((one) => [one.namespace.slice(1), one.records]);
    show(list, ours.length ? ours.map(([names, records]) => [link(names.length ? name(names.join(" / ")) : "the root", here({ at: path(names) }), {}), ` ${number(records)} `]) : "None but the root.");
  }, { once: true });
  return node;
}
