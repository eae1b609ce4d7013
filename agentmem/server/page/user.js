// What is known of one user, since when, and who told; and how to take it along, or have it forgotten.

import { call, download, get, segment } from "./api.js";
import { ask, button, card, choice, facts, field, h, link, name, number, plain, say, show, some, table, text, when } from "./dom.js";
import { LAYERS, act, changes, pager, records, whom } from "./parts.js";

const PAGE = 25;
const TABS = { known: "Known", deleted: "Deleted", expired: "Expired", blocks: "Blocks" };

export async function user(page) {
  const tab = Object.hasOwn(TABS, page.query.get("tab") ?? "") ? page.query.get("tab") : "known";
  const here = (query) => page.to("user", { user: page.me.any_user ? page.user : null, ...query });
  const body = await { known, deleted: gone, expired: gone, blocks }[tab](page, here, tab);
  const question = h("input", { type: "search", required: true, dir: "auto", maxlength: 10_000 });
  const whole = page.me.agent_id === null && page.me.namespace === null && page.user !== null;
  return [
    h("h1", {}, "What is known of ", whom(page)),
    h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = page.to("search", { user: page.me.any_user ? page.user : null, q: question.value }); } },
      field("Question", question), h("button", { type: "submit" }, "Search")),
    h("p", { class: "actions" },
      button("Export", async () => {
        say("The export is being made …");
        await act(page, "It is in your downloads.", () => download("/v1/memories/stream", { ...page.whose, touch: false, order: "oldest" }, `${filename(page.user)}.ndjson`), { stay: true });
      }),
      whole && page.may("erase") && button("Erase this user …", () => forget(page), { class: "danger" }),
      page.link("Sessions", "sessions", {}, { class: "button" }),
      page.link("Proposals", "consolidation", {}, { class: "button" })),
    changes(page),
    h("ul", { class: "tabs" }, Object.entries(TABS).map(([one, label]) => h("li", {}, link(label, here({ tab: one === "known" ? "" : one }), { "aria-current": one === tab ? "page" : null })))),
    body,
  ];
}

const filename = (user) => `memories-${(user ?? "nobody").replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 80)}`;

async function known(page, here) {
  const asked = Object.fromEntries(["kind", "layer", "agent", "at", "order", "cursor"].map((one) => [one, page.query.get(one) || ""]));
  const oldest = asked.order === "oldest";
  const which = { ...(asked.at ? { under: asked.at } : {}), ...(asked.agent ? { agent_id: asked.agent } : {}) };
  const [found, count] = await Promise.all([
    get("/v1/memories", {
      ...page.whose, limit: PAGE, touch: false, data: false, order: oldest ? "oldest" : "newest", cursor: asked.cursor,
      kinds: asked.kind, layers: asked.layer, ...which,
    }, page.signal),
    get("/v1/memories/count", { ...page.whose, kinds: asked.kind, layers: asked.layer, ...which }, page.signal),
  ]);
  const change = (more) => { location.hash = here({ kind: asked.kind, layer: asked.layer, agent: asked.agent, order: asked.order, at: asked.at, ...more }); };
  const kind = h("input", { value: asked.kind, placeholder: "all kinds", spellcheck: "false", list: "kinds-known" });
  const agent = page.me.agent_id === null && h("input", { value: asked.agent, placeholder: "all agents", spellcheck: "false" });
  const layer = choice([["", "All layers"], ...Object.entries(LAYERS).map(([one, long]) => [one, `${one} (${long})`])], asked.layer);
  const order = choice([["", "Newest first"], ["oldest", "Oldest first"]], asked.order);
  return [
    h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); change({ kind: kind.value, layer: layer.value, agent: agent && agent.value, order: order.value }); } },
      field("Kind", kind), h("datalist", { id: "kinds-known" }, ["fact", "message"].map((one) => h("option", { value: one }))),
      agent && field("Agent", agent), field("Layer", layer), field("Order", order), h("button", { type: "submit" }, "Show")),
    asked.at ? h("p", {}, "In the namespace ", name(asked.at), ". ", link("All", here({}))) : namespaces(page, here),
    h("p", {}, some(count.count, "memory", "memories")),
    count.count === 0 && page.user !== null && page.me.any_user && page.may("admin") && await erased(page),
    records(page, found.records, { caption: "Memories", empty: "Nothing is known." }),
    pager(found.cursor, (cursor) => here({ ...asked, cursor }), asked.cursor && here({ ...asked, cursor: "" })),
  ];
}

// What the store says of somebody who was erased.
async function erased(page) {
  const found = await get(`/v1/users/${segment(page.user)}/erasures`, {}, page.signal);
  return found.map((one) => h("p", {}, "Erased ", when(one.at, { both: true }), `: ${some(one.records, "memory", "memories")}. That they were is all that is left of them.`));
}

// Counted when it is asked for: of a user with very many memories that takes as long as the rest of the page.
function namespaces(page, here) {
  const list = h("p", {}, "Counting …");
  const node = h("details", {}, h("summary", {}, "Namespaces"), list);
  node.addEventListener("toggle", async () => {
    const all = await get("/v1/namespaces", { ...page.whose, limit: 100, depth: 1 }, page.signal).catch(() => []);
    const spaces = all.filter((one) => !one.namespace[0].startsWith("$")); // those are the package's own
    show(list, spaces.length ? spaces.map((one) => [link(name(one.namespace[0]), here({ at: one.namespace[0] })), ` ${number(one.records)} `]) : "None but the root.");
  }, { once: true });
  return node;
}

const SPANS = [["", "Any time"], ["1", "Since yesterday"], ["7", "In the last 7 days"], ["30", "In the last 30 days"]];
const begin = (days) => { const at = new Date(); at.setHours(0, 0, 0, 0); at.setDate(at.getDate() - Number(days)); return at.toISOString(); };

async function gone(page, here, tab) {
  const days = SPANS.some(([span]) => span === page.query.get("days")) ? page.query.get("days") : "";
  const cursor = page.query.get("cursor") || "";
  const why = tab === "expired" ? "expired" : "deleted";
  const asked = { ...page.whose, why, ...(days ? { since: begin(days) } : {}) };
  const found = await get("/v1/memories/deleted", { ...asked, limit: PAGE, cursor }, page.signal);
  const span = choice(SPANS, days, { onchange: () => { location.hash = here({ tab, days: span.value }); } });
  const back = (one) => page.may("write") && button("Restore", () => act(page, "It is back.", () =>
    call("POST", `/v1/memories/${segment(one.id)}/restore`, { query: page.whose, body: {} })), { "aria-label": `Restore ${plain(one.content).slice(0, 60)}` });
  return [
    h("div", { class: "row" }, field("Went", span),
      found.records.length > 0 && page.may("write") && button("Restore all of these …", async () => {
        const { count } = await call("POST", "/v1/memories/restore", { query: { ...asked, dry_run: true }, body: {} });
        if (await ask({ title: `Restore ${some(count, "memory", "memories")}?`, words: "All that this list has, on all of its pages.", yes: "Restore them" }))
          await act(page, (made) => `${some(made.count, "memory is", "memories are")} back.`, () => call("POST", "/v1/memories/restore", { query: asked, body: {} }));
      })),
    records(page, found.records, { caption: "Gone", empty: why === "deleted" ? "Nothing was deleted." : "Nothing has expired.", extra: (one) => [h("span", {}, "went ", when(one.updated_at)), back(one)] }),
    pager(found.cursor, (next) => here({ tab, days, cursor: next }), cursor && here({ tab, days })),
  ];
}

async function blocks(page) {
  const found = await get("/v1/blocks", page.whose, page.signal, 6_000);
  if (!found.length) return h("p", { class: "nothing" }, "No blocks.");
  return found.map((one) => card(h("span", {}, name(one.label)), one.description && h("p", {}, plain(one.description)), text(one.value),
    facts(["Tokens", `${number(one.tokens)} of ${number(one.limit)}`], ["Version", one.version], ["Changed", when(one.updated_at)],
      one.reason && ["Why", plain(one.reason)], one.read_only && ["Agents", "may not edit it"])));
}

async function forget(page) {
  const { count } = await get("/v1/memories/count", page.whose, page.signal).catch(() => ({ count: null }));
  const sure = await ask({
    title: "Erase this user?", danger: true, yes: "Erase for good", typed: page.user,
    words: `${count === null ? "" : `${some(count, "memory is", "memories are")} known. `}Everything that was ever stored for the user goes, out of history, indexes and values too, and the user's keys end. Nothing brings it back. Backups that have it are named afterwards.`,
  });
  if (!sure) return;
  const report = await act(page, (made) => `${some(made.erased, "memory was", "memories were")} erased.${made.pending.length ? ` Still going: ${made.pending.join(", ")}.` : ""}`,
    () => call("DELETE", `/v1/users/${segment(page.user)}`), { stay: true });
  if (report === null) return;
  if (report.backups.length) {
    await ask({
      title: "Backups still have them", yes: "I have read it", no: null, words: `${some(report.backups.length, "backup")} still ${report.backups.length === 1 ? "has" : "have"} what was erased:`,
      extra: table("Backups", ["Backup", "Made", "Can be removed from"], report.backups.map((one) => [name(one.id), when(one.at, { day: true }), one.until ? when(one.until, { day: true }) : "–, it is kept"])),
    });
  }
  location.hash = page.to("user", { user: page.me.any_user ? page.user : null });
  page.reload();
}
