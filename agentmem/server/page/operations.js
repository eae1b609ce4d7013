// How the store's background work is doing, and upkeep.

import { Problem, call, get } from "./api.js";
import { ask, button, bytes, card, choice, facts, field, h, milliseconds, name, number, plain, share, show, table, tag, when } from "./dom.js";
import { act } from "./parts.js";
import { wrong } from "./overview.js";

const absent = (error) => { if (error instanceof Problem && error.status === 422) return null; throw error; };

export async function operations(page) {
  const { signal } = page;
  const [health, backups, tiers] = await Promise.all([
    get("/v1/health", {}, signal), get("/v1/backups", {}, signal).catch(absent), get("/v1/admin/tiers", {}, signal),
  ]);
  return [
    h("h1", {}, "Operations"),
    h("p", { class: health.ok ? "good" : "bad" }, health.ok ? "All is well." : `Something is wrong: ${wrong(health)}`),
    h("div", { class: "grid" }, follower(page, health), sweeps(page, health), upkeep(page), held(page)),
    saved(page, backups, health.backup),
    card("Tiers of large scopes", table("Tiers", ["Tier", "Memories", "Bytes", "Budget", "Hits", "Share", "Median"], Object.entries(tiers).map(([tier, one]) =>
      [tier, number(one.records), bytes(one.bytes), one.budget ? bytes(one.budget) : "–", number(one.hits), share(one.hit_rate), milliseconds(one.p50_ms)]))),
  ];
}

const follower = (page, health) => card("Follower of the vectors on disk",
  facts(["Changes to bring over", number(health.vectors_behind)], ["Failures", number(health.vector_errors)], ["Made anew", number(health.vector_rebuilds)],
    health.last_vector_error && ["Last failure", plain(health.last_vector_error)], ["Engines that gave way", number(health.engine_fallbacks)], health.last_engine_error && ["Why", plain(health.last_engine_error)]),
  h("p", { class: "actions" }, button("Wait until it is up to date", () => act(page, "Everything is there.", () => call("POST", "/v1/admin/flush", { body: {} })))));

function sweeps(page, health) {
  const out = h("div", { "aria-live": "polite" });
  const sweep = async (dry) => {
    const made = await act(page, (one) => dry ? "This is what a sweep would do." : told(one), () => call("POST", "/v1/admin/sweep", { body: { dry_run: dry } }), { stay: true });
    if (made === null) return;
    show(out, h("p", {}, told(made)), dry && table("Moves", ["Memory", "What", "From", "To", "Rule"], made.moves.slice(0, 50).map((one) => [name(one.id), tag(one.event, one.event), one.from_layer, one.to_layer ?? "–", plain(one.rule)]), { empty: "Nothing would move." }),
      made.moves.length > 50 && h("p", {}, `The first 50 of ${number(made.moves.length)}.`));
  };
  return card("Sweeps", facts(["Failures", number(health.sweep_errors)], health.last_sweep_error && ["Last failure", plain(health.last_sweep_error)]),
    h("p", { class: "actions" }, button("What would one do?", () => sweep(true)), button("Sweep now", () => sweep(false))), out);
}

const told = (one) => `${number(one.examined)} looked at: ${number(one.promoted)} promoted, ${number(one.expired)} expired, ${number(one.evicted)} evicted, ${number(one.archived)} archived, ${number(one.erased)} erased, ${number(one.blocked)} blocked.`;

function upkeep(page) {
  const out = h("div", { "aria-live": "polite" });
  const check = async (path, words) => {
    show(out, h("p", {}, "At it; this reads everything …"));
    const made = await act(page, words, () => call("POST", path, { body: {} }), { stay: true });
    show(out, made?.problems !== undefined && [h("p", { class: made.ok ? "good" : "bad" }, made.ok ? "All parts agree." : `${made.problems.length} disagreements`),
      made.problems.slice(0, 20).map((one) => h("p", {}, plain(one))), facts(...Object.entries(made.counts).map(([part, count]) => [part, number(count)]))]);
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

function saved(page, backups, health) {
  if (backups === null) return card("Backups", h("p", { class: "nothing" }, "The setting backup.url does not say where they go."));
  const kind = choice([["full", "Full"], ["incremental", "Incremental"], ["snapshot", "Snapshot, which is kept"]], "full");
  const make = async (event) => {
    event.preventDefault();
    await act(page, (made) => `The backup ${made.id} was made.`, () => call("POST", "/v1/backups", { body: { kind: kind.value } }));
  };
  return card("Backups",
    health && facts(["Last", health.last_at ? when(health.last_at, { both: true }) : "none yet"], ["Changes without one", number(health.behind)], ["Failures", number(health.errors)],
      health.last_error && ["Last failure", plain(health.last_error)], ["Proved", health.proved_at ? when(health.proved_at, { both: true }) : "not yet"], health.proof_error && ["The proof failed", plain(health.proof_error)]),
    h("form", { class: "row", onsubmit: make }, field("Kind", kind), h("button", { type: "submit" }, "Back up now"),
      button("Remove old ones …", async () => {
        const doomed = await call("POST", "/v1/backups/prune", { body: { dry_run: true } });
        if (await ask({ title: `Remove ${number(doomed.length)} backups?`, words: "Those that the settings keep no longer.", yes: "Remove them", danger: true })) await act(page, "Removed.", () => call("POST", "/v1/backups/prune", { body: {} }));
      })),
    table("Backups", ["Backup", "Kind", "Made", "Memories", "Size", "Verify"], backups.slice(-50).reverse().map((one) => [
      name(one.id), tag(one.kind), when(one.at, { both: true }), number(one.records), bytes(one.bytes),
      button("Verify", () => act(page, (made) => made.ok ? "It can be read, and is as it should be." : `It is damaged: ${made.problems[0]}`, () => call("POST", `/v1/backups/${encodeURIComponent(one.id)}/verify`, { body: {} }), { stay: true }), { "aria-label": `Verify ${one.id}` }),
    ]), { empty: "None yet." }));
}
