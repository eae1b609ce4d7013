// How the store's background work is doing, and upkeep.

import { Problem, call, get } from "./api.js";
import { ask, brief, button, bytes, card, choice, count, facts, field, h, link, milliseconds, name, number, plain, share, show, some, table, tag, when } from "./dom.js";
import { DONE, act } from "./parts.js";
import { wrong } from "./overview.js";

const MOVES = 50;

const absent = (error) => { if (error instanceof Problem && error.status === 422) return null; throw error; };

export async function operations(page) {
  const { signal } = page;
  const [health, backups, tiers, newest] = await Promise.all([
    get("/v1/health", {}, signal), get("/v1/backups", {}, signal).catch(absent), get("/v1/admin/tiers", {}, signal), get("/v1/events", { order: "newest", limit: 1 }, signal),
  ]);
  return [
    h("h1", {}, "Operations"),
    h("p", { class: health.ok ? "good" : "bad" }, health.ok ? "All is well." : `Something is wrong: ${wrong(health)}`),
    h("div", { class: "grid" }, follower(page, health), sweeps(page, health), upkeep(page), held(page)),
    saved(page, backups, health.backup, newest[0]?.seq ?? 0),
    card("Tiers of large scopes", table("Tiers", ["Tier", count("Memories"), count("Bytes"), count("Budget"), count("Hits"), count("Share"), count("Median")], Object.entries(tiers).map(([tier, one]) =>
      [tier, number(one.records), bytes(one.bytes), one.budget ? bytes(one.budget) : "–", number(one.hits), share(one.hit_rate), milliseconds(one.p50_ms)]))),
  ];
}

const follower = (page, health) => card("Follower of the vectors on disk",
  facts(["Changes to bring over", number(health.vectors_behind)], ["Failures", number(health.vector_errors)], ["Made anew", number(health.vector_rebuilds)],
    health.last_vector_error && ["Last failure", plain(health.last_vector_error)], ["Engines that gave way", number(health.engine_fallbacks)], health.last_engine_error && ["Why", plain(health.last_engine_error)]),
  h("p", { class: "actions" }, button("Wait until it is up to date", () => act(page, "Everything is there.", () => call("POST", "/v1/admin/flush", { body: {} })))));

function sweeps(page, health) {
  const out = h("div", { "aria-live": "polite" });
  const sweep = async () => {
    const made = await act(page, told, () => call("POST", "/v1/admin/sweep", { body: {} }), { stay: true });
    if (made) show(out, h("p", {}, told(made)));
  };
  const ahead = async (days) => {
    show(out, h("p", {}, "Looking …"));
    const made = await act(page, "Nothing was changed.", () => get("/v1/admin/coming", { seconds: days * 86_400, limit: MOVES, going: days > 0 }, page.signal), { stay: true });
    if (made === null) return show(out);
    const known = new Map(made.records.map((one) => [one.id, one]));
    const { report } = made;
    const going = report.expired + report.evicted + report.archived;
    return show(out, h("p", {}, days ? `Unless they are used until then, ${some(going, "memory goes", "memories go")} within ${some(days, "day")}, and ${number(report.erased)} that went before can be restored no more.` : told(report)),
      table("Moves", ["Memory", "Whose", "Agent", "What", "From", "To", "Rule"], report.moves.map((one) => moved(page, one, known.get(one.id))), { empty: days ? "Nothing goes." : "Nothing would move." }),
      report.moves.length === MOVES && h("p", {}, `The first ${MOVES}.`));
  };
  return card("Sweeps", facts(["Failures", number(health.sweep_errors)], health.last_sweep_error && ["Last failure", plain(health.last_sweep_error)]),
    h("p", { class: "actions" }, button("What would one do?", () => ahead(0)), button("What goes within 7 days?", () => ahead(7)), button("Sweep now", sweep)), out);
}

const moved = (page, one, record) => [
  link(name(brief(record?.content || record?.key || one.id, 80)), page.to("memory", { id: one.id, user: record?.user_id }), { "aria-label": `Details of ${one.id}` }),
  record?.user_id ? name(record.user_id) : "nobody in particular", record?.agent_id ? name(record.agent_id) : "–", tag(DONE[one.event] ?? one.event, one.event), one.from_layer, one.to_layer ?? "–", plain(one.rule)];

const told = (one) => `${number(one.examined)} looked at: ${number(one.promoted)} promoted, ${number(one.expired)} expired, ${number(one.evicted)} evicted, ${number(one.archived)} archived, ${number(one.erased)} erased, ${number(one.blocked)} blocked.`;

function upkeep(page) {
  const out = h("div", { "aria-live": "polite" });
  const check = async (path, words) => {
    show(out, h("p", {}, "At it; this reads everything …"));
    const made = await act(page, words, () => call("POST", path, { body: {} }), { stay: true });
    show(out, made?.problems !== undefined && [h("p", { class: made.ok ? "good" : "bad" }, made.ok ? "All parts agree." : some(made.problems.length, "disagreement")),
      made.problems.slice(0, 20).map((one) => h("p", {}, plain(one))), facts(...Object.entries(made.counts).map(([part, found]) => [part, number(found)]))]);
  };
  return card("Upkeep", h("p", { class: "actions" }, button("Verify", () => check("/v1/admin/verify", "Every part was compared.")),
    button("Repair …", async () => { if (await ask({ title: "Repair the store?", words: "What is derived is made anew where it is wrong.", yes: "Repair" })) await check("/v1/admin/repair", "Repaired."); }),
    button("Compact", () => check("/v1/admin/compact", "Compacted."))), out);
}

function held(page) {
  const out = h("div", { "aria-live": "polite" });
  return card("All that it holds", h("p", { class: "actions" }, button("Count everything", async () => {
    show(out, h("p", {}, "Counting …"));
    const one = await act(page, "Counted.", () => get("/v1/stats"), { stay: true });
    if (one) show(out, facts(["Memories", number(one.records)], ["Deleted", number(one.deleted)], ["Expired", number(one.expired)], ["Archived", number(one.archived)], ["Events", number(one.events)],
      ...Object.entries(one.bytes).map(([part, size]) => [`${part} on disk`, bytes(size)]), ["Model", plain(one.model)], ["Scopes in memory", number(one.arenas.arenas ?? 0)], ["In the query cache", number(one.query_cache.entries ?? 0)]));
  })), out);
}

function saved(page, backups, health, seq) {
  if (backups === null) return card("Backups", h("p", { class: "nothing" }, "The setting backup.url does not say where they go."));
  const last = backups.reduce((newer, one) => (newer === null || one.at > newer.at ? one : newer), null);
  const kind = choice([["full", "Full"], ["incremental", "Incremental"], ["snapshot", "Snapshot, which is kept"]], "full");
  const make = async (event) => {
    event.preventDefault();
    await act(page, (made) => `The backup ${made.id} was made.`, () => call("POST", "/v1/backups", { body: { kind: kind.value } }));
  };
  return card("Backups",
    last && facts(["Last", when(last.at, { both: true })], ["Changes since", number(health ? health.behind : Math.max(0, seq - last.seq))], !health && ["Made", "by hand, or by the command"],
      health && ["Failures", number(health.errors)],
      health?.last_error && ["Last failure", plain(health.last_error)], health && ["Proved", health.proved_at ? when(health.proved_at, { both: true }) : "not yet"], health?.proof_error && ["The proof failed", plain(health.proof_error)]),
    h("form", { class: "row", onsubmit: make }, field("Kind", kind), h("button", { type: "submit" }, "Back up now"),
      button("Remove old ones …", async () => {
        const doomed = await call("POST", "/v1/backups/prune", { body: { dry_run: true } });
        if (await ask({ title: `Remove ${some(doomed.length, "backup")}?`, words: "Those that the settings keep no longer.", yes: "Remove them", danger: true })) await act(page, "Removed.", () => call("POST", "/v1/backups/prune", { body: {} }));
      })),
    table("Backups", ["Backup", "Kind", "Made", count("Memories"), count("Size"), "Verify"], backups.slice(-50).reverse().map((one) => [
      name(one.id), tag(one.kind), when(one.at, { both: true }), number(one.records), bytes(one.bytes),
      button("Verify", () => act(page, (made) => made.ok ? "It can be read, and is as it should be." : `It is damaged: ${made.problems[0]}`, () => call("POST", `/v1/backups/${encodeURIComponent(one.id)}/verify`, { body: {} }), { stay: true }), { "aria-label": `Verify ${one.id}` }),
    ]), { empty: "None yet." }));
}
