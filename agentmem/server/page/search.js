// A search as an agent would do it, with the reasons of each hit.

import { CLIP, call } from "./api.js";
import { button, card, choice, decimal, field, h, milliseconds, number, some, tag, text } from "./dom.js";
import { bar, bars } from "./draw.js";
import { LAYERS, dataOf, since, source, whom } from "./parts.js";

const PAGE = 10;
const COUNTED = 10_000; // what lies in archives is counted so far
const PARTS = [
  ["vector", "Meaning"], ["exact", "Its words"], ["similar", "Words like them"], ["context", "Turns beside it"],
  ["date", "Date asked for"], ["recency", "Recency"], ["importance", "Importance"], ["rating", "Rating"],
];
const TELLS = ["telling", "Tells rather than asks"];

// What says nothing of a memory, and is not drawn: nobody rated it, or said how important it is.
const SILENT = { importance: 0.5, rating: 0.5, vector: null, exact: null };

export async function search(page) {
  const asked = page.query.get("q") || "";
  const mode = page.query.get("mode") || "hybrid";
  const layer = page.query.get("layer") || "";
  const offset = Math.max(0, Number(page.query.get("offset")) || 0);
  const query = h("input", { type: "search", value: asked, required: true, dir: "auto", maxlength: 10_000 });
  const how = choice([["hybrid", "Meaning and words"], ["vector", "Meaning"], ["keyword", "Words"]], mode);
  const where = choice([["", "All layers"], ...Object.keys(LAYERS).map((one) => [one, one])], layer);
  const form = h("form", { class: "row", role: "search", onsubmit: (event) => {
    event.preventDefault();
    const next = page.to("search", { user: page.me.any_user ? page.user : null, q: query.value, mode: how.value === "hybrid" ? "" : how.value, layer: where.value });
    if (next === location.hash) page.reload(); else location.hash = next;
  } }, field("Question", query), field("By", how), field("In", where), h("button", { type: "submit", class: "first" }, "Search"));
  const head = [h("h1", {}, "Search"), h("p", {}, "As an agent would find it; looking here does not count as a use."), form];
  if (!asked) return [...head, h("p", { class: "nothing" }, "Memories of ", whom(page), ". Ask a question.")];
  const found = await call("POST", "/v1/search", {
    query: page.whose, signal: page.signal, clip: CLIP,
    body: { query: asked, mode, limit: PAGE, offset, explain: true, touch: false, data: false, ...(layer ? { layers: [layer] } : {}) },
  });
  const trace = found.trace;
  return [...head,
    h("p", { class: "trace" }, `${number(found.hits.length)} found among ${number(trace.candidates)} looked at${trace.engines.length ? `, by ${trace.engines.join(", ")}` : ""}${trace.cached ? ", from the cache" : ""}: `,
      Object.entries(trace.milliseconds).map(([stage, one]) => `${stage} ${milliseconds(one)}`).join(", "),
      found.skipped_archived ? `; ${found.skipped_archived < COUNTED ? some(found.skipped_archived, "lies", "lie") : `${number(COUNTED)} or more lie`} in archives` : ""),
    found.hits.length === 0 && h("p", { class: "nothing" }, "Nothing that answers this."),
    h("ol", { class: "hits" }, found.hits.map((one, index) => hit(page, one, offset + index, found.hits[index + 1]))),
    h("p", { class: "actions" }, offset > 0 && page.link("Better ones", "search", { q: asked, mode, layer, offset: Math.max(0, offset - PAGE) || "" }, { class: "button" }),
      found.hits.length === PAGE && page.link("More", "search", { q: asked, mode, layer, offset: offset + PAGE }, { class: "button" }))];
}

// What put a hit above the next one: in which parts they differ.
function above(one, next, place) {
  const apart = [...PARTS, TELLS].map(([part, label]) => [label.toLowerCase(), (one.details[part] ?? 0) - (next.details[part] ?? 0)]).filter(([, by]) => Math.abs(by) >= 0.005);
  const said = apart.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).map(([label, by]) => `${label} ${by > 0 ? "+" : "\u2212"}${decimal(Math.abs(by))}`).join(", ");
  const by = one.score - next.score;
  return h("p", { class: "nothing" }, by === 0 ? `Level with number ${place + 1}.` : `${by < 0.0005 ? "Just" : decimal(by, 3)} above number ${place + 1}${said ? `: ${said}` : ""}.`);
}

function hit(page, one, index, next) {
  const { record, details } = one;
  const matched = details.matched_terms;
  return h("li", { class: "card" },
    h("div", { class: "hit" },
      h("div", {},
        h("p", { class: "rank" }, h("b", {}, `${index + 1}.`), ` score ${decimal(one.score, 3)}`, one.similarity === null ? "" : `, similarity ${decimal(one.similarity, 3)}`),
        text(record.content || dataOf(record), { marks: [...matched, ...details.similar_terms] }),
        h("p", { class: "record-facts" }, h("span", {}, since(record)), source(record, page), tag(record.layer, record.layer), tag(record.kind),
          page.link("Details", "memory", { id: record.id }, { "aria-label": `Details of ${record.id}` }))),
      h("div", { class: "why", role: "group", "aria-label": `Why it is number ${index + 1}` },
        h("h2", { class: "small" }, "Why"),
        bars(PARTS.filter(([part]) => details[part] !== null && details[part] !== (SILENT[part] ?? 0)).map(([part, label]) =>
          bar(label, details[part], { kind: details[part] < 0 ? "bad" : part })),
          details.telling < 0.9 && bar(TELLS[1], details.telling, { kind: "telling" })),
        matched.length > 0 && h("p", {}, "Has: ", matched.map((term) => [h("mark", {}, term), " "])),
        details.similar_terms.length > 0 && h("p", {}, "Alike: ", details.similar_terms.map((term) => [h("mark", {}, term), " "])),
        next && above(one, next, index + 1))));
}
