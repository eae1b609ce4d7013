// One memory: what it says, where it comes from, why it is where it is, and all that happened to it.

import { Problem, call, download, get, segment } from "./api.js";
import { ask, brief, button, card, decimal, facts, h, link, name, plain, some, table, tag, text, when } from "./dom.js";
import { bar, bars } from "./draw.js";
import { carried, valueOf } from "./content.js";
import { DONE, LAYERS, act, since, source, whom } from "./parts.js";

const LONG = 8_000;
const EVENTS = 100;
const NAMES = 50;
const none = (error) => { if (error instanceof Problem && ([403, 404, 422].includes(error.status) || error.title === "NoAddress")) return null; throw error; };

export async function memory(page) {
  const id = page.query.get("id") || "";
  const at = `/v1/memories/${segment(id)}`;
  const { signal, whose } = page;
  const [record, history, why] = await Promise.all([
    get(at, { ...whose, deleted: true, touch: false }, signal, LONG).catch(none), get(`${at}/history`, { ...whose, last: EVENTS }, signal, 300).catch(none), get(`${at}/explain`, whose, signal).catch(none),
  ]);
  if (record === null) {
    return [h("h1", {}, "One memory"), h("p", { class: "nothing" }, "There is no such memory of ", whom(page), ", or it was erased."), history && timeline(page, id, null, history)];
  }
  const evidence = record.kind === "fact" ? await get(`${at}/evidence`, { ...whose, namespace: record.namespace }, signal).catch(none) : null;
  const sources = await Promise.all((evidence || []).slice(0, 12).map((one) => said(page, one)));
  const live = why?.state === "live";
  const value = live ? await valueOf(page, record, none).catch(none) : null;
  const space = record.namespace.slice(value ? 1 : 0);
  const carries = Array.isArray(record.metadata.attachments) ? await get(`${at}/attachments`, whose, signal).catch(none) : null;
  return [
    h("h1", {}, value ? ["Value ", name(brief(record.key)), " of "] : "One memory of ", whom(page)),
    h("div", { class: "card" }, value ? value.shown : record.namespace[0] === "$values" ? h("p", { class: "nothing" }, live ? "A value that cannot be shown here." : "A value; restored, it can be looked at.") : text(record.content || "(no text)", { short: 2_000 }),
      record.content.length > LONG && button("Download all of it", () => act(page, "It is in your downloads.", () => download(at, { ...whose, deleted: true, touch: false }, "memory.json"), { stay: true })),
      facts(
        ["State", [tag(why?.state ?? "unknown", why?.state), record.pinned && tag("pinned")]],
        ["Since", [since(record)]],
        (!value || record.agent_id || record.run_id) && ["Who told", source(record, page)],
        ["Added", when(record.created_at, { both: true })],
        !value && ["Changed", when(record.updated_at, { both: true })],
        record.expires_at && ["Ends", when(record.expires_at, { both: true })],
        record.retired_at && ["No longer so", when(record.retired_at, { both: true })],
        record.superseded_by && ["In its place", page.link(name(record.superseded_by), "memory", { id: record.superseded_by })],
        !value && ["Kind", tag(record.kind)], !value && ["Version", record.version],
        ["Last used", record.last_accessed ? when(record.last_accessed) : "never"],
        record.rating !== null && ["Rated", record.rating],
        record.key && ["Key", name(record.key)],
        space.length > 0 && ["Namespace", name(space.join(" / "))],
        ["Id", name(record.id)],
      ),
      actions(page, record, why, at, value?.action)),
    carries?.length > 0 && carried(page, carries),
    sources.length > 0 && card("Who told us", h("ol", { class: "sources" }, sources)),
    h("div", { class: "grid" },
      why && card("Why it is where it is", reasons(why)),
      Object.keys(record.metadata).length > 0 && card("Metadata", table("Metadata", ["Name", "Value"], Object.entries(record.metadata).slice(0, NAMES).map(([term, value]) =>
        [name(brief(term)), text(typeof value === "string" ? value : JSON.stringify(value), { short: 200 })])),
        Object.keys(record.metadata).length > NAMES && h("p", { class: "nothing" }, `The first ${NAMES} names.`)),
      record.data !== null && !value && card("Data", h("pre", { tabindex: 0 }, plainJson(record.data)))),
    timeline(page, id, record, history || [], live),
  ];
}

const plainJson = (value) => { const made = JSON.stringify(value, null, 1); return made.length > 20_000 ? `${made.slice(0, 20_000)} …` : made; };

async function said(page, one) {
  const record = one.id ? await get(`/v1/memories/${segment(one.id)}`, { ...page.whose, deleted: true, touch: false, data: false }, undefined, Math.min(Math.max(600, one.end ?? 0), LONG)).catch(none) : null;
  if (record === null) return h("li", {}, tag(one.state, one.state), " its words are gone");
  const letters = [...record.content];
  const quote = one.first === null ? record.content : letters.slice(one.first, one.end).join("");
  return h("li", {}, quote ? h("blockquote", {}, text(quote)) : h("p", {}, "Far down in a long text."), h("p", { class: "record-facts" }, source(record, page), when(record.occurred_at || record.created_at, { both: true }),
    one.state !== "live" && tag(one.state, one.state), page.link("Details", "memory", { id: record.id }, { "aria-label": `Details of ${record.id}` })));
}

function reasons(why) {
  return [
    h("p", {}, "In ", tag(why.layer, why.layer), ` (${LAYERS[why.layer]}) since `, when(why.since, { both: true }), ": ", h("b", {}, plain(why.because)), "."),
    h("p", {}, why.target_layer === null ? "There is no layer above."
      : why.eligible ? ["The next sweep promotes it to ", tag(why.target_layer, why.target_layer), "."]
        : ["For ", tag(why.target_layer, why.target_layer), " it lacks: ", h("b", {}, why.lacks.map(asked).join(", ") || "nothing"), why.gate === "any" ? " (any of them is enough)." : "."]),
    why.due_at && h("p", {}, "Due ", when(why.due_at, { both: true }), ` by ${why.due_rule}.`),
    why.restorable_until && h("p", {}, "Can be restored until ", when(why.restorable_until, { both: true }), "."),
    h("h3", {}, `Score ${decimal(why.score)}`, why.scorer === "formula" ? "" : ` by model ${why.scorer}`),
    bars(Object.entries(why.components).map(([part, value]) => bar(part, value))),
    why.requirements.length > 0 && [h("h3", {}, "What the next layer asks for"), bars(why.requirements.map((one) =>
      bar(h("span", {}, one.met ? "✓ " : "✗ ", asked(one.name)), one.value, { most: Math.max(one.threshold * 1.3, one.value, 1e-9), from: one.threshold, kind: one.met ? "good" : "middling", said: `${trim(one.value)} of more than ${trim(one.threshold)}` })))],
    h("p", {}, why.accesses ? ["Used ", some(why.accesses, "time"), why.first_access ? [", first ", when(why.first_access), ", last ", when(why.last_access)] : ""] : "Never used", "."),
  ];
}

// What a layer asks for, in words.
const ASKED = { accesses: "uses", span_hours: "hours from the first use to the last", unpinned: "to be unpinned" };
const asked = (one) => ASKED[one] ?? one;
const trim = (value) => String(Math.round(value * 100) / 100);

function actions(page, record, why, at, more = null) {
  const post = (verb, body = {}) => call("POST", `${at}/${verb}`, { query: page.whose, body });
  const live = why?.state === "live";
  return h("p", { class: "actions" }, more,
    page.may("write") && !live && why?.state !== "archived" && button("Restore", () => act(page, "It is back.", () => post("restore")), { class: "first" }),
    page.may("write") && live && [
      button(record.pinned ? "Unpin" : "Pin", () => act(page, record.pinned ? "The rules have it again." : "It stays where it is.", () => post(record.pinned ? "unpin" : "pin"))),
      record.layer !== "assets" && button("Promote", () => act(page, "It was promoted.", () => post("promote"))),
      record.layer !== "interact" && button("Demote", () => act(page, "It was demoted.", () => post("demote"))),
      button("Delete", () => act(page, "It is deleted, and can be restored.", () => call("DELETE", at, { query: page.whose, version: record.version }))),
    ],
    page.may("erase") && button("Erase …", async () => {
      if (!await ask({ title: "Erase this memory?", words: "It goes for good, out of its history too. Nothing brings it back.", yes: "Erase for good", typed: "erase", danger: true })) return;
      await act(page, (made) => `It was erased.${made.pending.length ? ` Still going: ${made.pending.join(", ")}.` : ""}`, () => post("erase"));
    }, { class: "danger" }));
}

// -- its history --------------------------------------------------------------------------------------------------------

const BACK = new Set(["ADD", "UPDATE", "RESTORE", "PROMOTE", "DEMOTE"]);

function timeline(page, id, record, events, live) {
  const node = h("section", { class: "card" }, h("h2", {}, "History"));
  if (events.length === EVENTS) node.append(h("p", {}, `The last ${EVENTS} events.`));
  node.append(h("ol", { class: "life" }, events.map((one) => h("li", { class: one.event },
    h("div", { class: "life-head" }, h("b", {}, DONE[one.event] || one.event), when(one.at, { both: true }), h("span", {}, `version ${one.version}`),
      record && live && page.may("write") && BACK.has(one.event) && one.version < record.version && button(`Go back to version ${one.version}`, () => act(page, `It is as it was in version ${one.version}.`, () =>
        call("POST", `/v1/memories/${segment(id)}/restore`, { query: page.whose, body: { version: one.version } })))),
    details(one)))));
  return node;
}

function details(event) {
  const { data } = event;
  const told = [];
  if (data.rule) told.push(h("p", {}, data.rule === "by hand" ? h("b", {}, "By hand") : ["By the rule ", h("b", {}, plain(data.rule))], data.from ? [": from ", tag(data.from, data.from), " to ", tag(data.to, data.to)] : ""));
  if (data.components) told.push(bars(data.score !== undefined && bar("score", data.score, { kind: "score" }), Object.entries(data.components).map(([part, value]) => bar(part, value))));
  if (data.met && Object.keys(data.met).length) told.push(h("p", {}, "Met: ", Object.entries(data.met).map(([term, value]) => `${term} ${typeof value === "number" ? trim(value) : JSON.stringify(value)}`).join(", ")));
  const rest = Object.entries(data).filter(([term]) => !["rule", "from", "to", "components", "score", "met"].includes(term));
  if (rest.length) {
    const before = ["UPDATE", "RESTORE"].includes(event.event);
    told.push(h("dl", { class: "before" }, rest.map(([term, value]) => h("div", {}, h("dt", {}, before ? `${plain(term)} was` : plain(term)), h("dd", {}, value === null ? "–" : text(typeof value === "string" ? value : JSON.stringify(value), { short: 200 }))))));
  }
  return told;
}
