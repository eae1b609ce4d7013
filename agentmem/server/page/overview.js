// The store at a glance: how it is, what it holds, what happens right now.

import { follow, get } from "./api.js";
import { bytes, card, count, decimal, facts, h, link, milliseconds, name, number, plain, share, show, table, tag, when } from "./dom.js";
import { Line, bar, bars } from "./draw.js";
import { DONE, LAYERS } from "./parts.js";

const KEPT = 20;
// What the package keeps for itself, and the page that shows it.
const OWN = {
  $sessions: ["a session", "sessions"], $working: ["working memory", "sessions"], $summaries: ["a summary", "sessions"], $blocks: ["a block", "user", { tab: "blocks" }],
  $values: ["a value", "values"], $proposals: ["a proposal", "consolidation"], $knowledge: ["consolidation", "consolidation"],
};
const CALM = { low: "good", medium: "middling", high: "bad" };

export async function overview(page) {
  const { signal } = page;
  const [figures, layers, health, tiers, events, people] = await Promise.all([
    get("/v1/kpis", {}, signal), get("/v1/layers", {}, signal), get("/v1/health", {}, signal), get("/v1/admin/tiers", {}, signal),
    get("/v1/events", { order: "newest", limit: KEPT }, signal), get("/v1/users", { limit: 8 }, signal),
  ]);
  const lines = {
    qps: new Line("Calls a second", (value) => decimal(value, value < 10 ? 2 : 0)),
    p50: new Line("Search, median", milliseconds),
    p99: new Line("Search, slowest 1 %", milliseconds),
    errors: new Line("Calls that failed", share, "errors"),
  };
  const store = h("div");
  const rows = h("div");
  const told = (now) => {
    lines.qps.push(now.qps);
    lines.p50.push(now.search_latency.p50);
    lines.p99.push(now.search_latency.p99);
    lines.errors.push(now.error_rate);
    show(store, facts(
      ["Memories", h("b", { class: "large" }, number(now.records))],
      ["Pressure", [tag(now.pressure, CALM[now.pressure]), ` ${decimal(now.usage_percent, 1)} % of the fullest layer`]],
      ["On disk", bytes(now.total_size)],
      now.commit_latency.p95 !== null && ["Writes are on disk within", `${milliseconds(now.commit_latency.p95)}, 95 of 100`],
      ["Free pages", `${decimal(now.fragmentation_percent, 1)} %`],
      ["Answers from the cache", share(now.cache_hit_rate)],
      ["Promoted in the last hour", number(now.promotion_rate)],
      ["Without failures", `${decimal(now.uptime_percent, 2)} % of the time`],
      now.recovery_time_s !== null && ["Last outage", `${decimal(now.recovery_time_s, 1)} s`],
    ));
  };
  const recent = events;
  const listed = () => show(rows, happened(page, recent));
  told(figures);
  listed();
  const beginning = h("p", {}, "Nothing is remembered yet. For a beginning: ", h("code", {}, "agentmem add \"Ana is allergic to peanuts\" --user ana"));
  const live = h("p", { class: "bad", role: "status" });
  let due = 0;
  follow("/v1/events/stream", { after: events[0]?.seq ?? 0, figures_s: 2 }, signal, (kind, value) => {
    if (kind === "live") show(live, !value && "The server does not answer: this is not live.");
    if (kind === "figures") told(value);
    if (kind === "change") beginning.remove();
    if (kind !== "change" || recent.some((one) => one.seq === value.seq)) return;
    recent.unshift(value);
    recent.length = Math.min(recent.length, KEPT);
    // Many at once are drawn together, and not while somebody is on one of them.
    if (!due) due = setTimeout(() => { due = 0; if (!rows.contains(document.activeElement)) listed(); }, 300);
  });
  return [
    h("h1", {}, "Overview"),
    h("p", { class: health.ok ? "good" : "bad" }, health.ok ? "All is well." : `Something is wrong: ${wrong(health)}`, " ", link("Operations", page.to("operations"))),
    live,
    figures.records === 0 && events.length === 0 && beginning,
    h("div", { class: "figures", "aria-label": "Rates and latencies of this process, live" }, Object.values(lines).map((one) => one.node)),
    h("div", { class: "grid" },
      card("The store", store),
      card("Layers", bars(Object.entries(layers).map(([layer, one]) => [
        bar(h("span", {}, tag(layer, layer), " ", LAYERS[layer]), one.bytes, { most: one.limit, said: `${number(one.records)} · ${bytes(one.bytes)} of ${bytes(one.limit)}`, kind: CALM[one.pressure] }),
      ]))),
      card("Tiers of large scopes", table("Tiers", ["Tier", count("Memories"), count("Bytes"), count("Budget"), count("Hits"), count("Median")], Object.entries(tiers).map(([tier, one]) => [
        tier, number(one.records), bytes(one.bytes), one.budget ? bytes(one.budget) : "–", share(one.hit_rate), milliseconds(one.p50_ms),
      ]))),
      card("Users who came last", table("Users", ["User", count("Memories"), "Last added"], people.users.map((one) => [
        link(one.name === null ? "nobody in particular" : name(one.name), page.to("user", { user: one.name })), number(one.records), when(one.last_at),
      ]), { empty: "Nobody has memories here yet." }), h("p", {}, link("All users", page.to("users"))))),
    card("What happened last", rows),
  ];
}

const happened = (page, events) => table("What happened last", ["When", "What", "Whose", "Memory"], events.map((one) => [
  when(one.at), tag(DONE[one.event] ?? one.event, one.event), one.id === null ? "–" : link(one.user_id === null ? "nobody in particular" : name(one.user_id), page.to("user", { user: one.user_id })),
  one.id === null ? "erased, or of the store itself" : one.namespace[0]?.startsWith("$") ? own(page, one)
    : link("Details", page.to("memory", { id: one.id, user: one.user_id }), { "aria-label": `Details of ${one.id}` }),
]), { empty: "Nothing has happened yet." });

function own(page, event) {
  const [label, where, query] = OWN[event.namespace[0]] ?? [plain(event.namespace[0]), "user", {}];
  return link(label, page.to(where, { user: event.user_id, ...query }));
}

export const wrong = (health) => [health.store_error, health.last_write_error, health.last_vector_error, health.last_sweep_error, health.backup?.last_error, health.backup?.proof_error]
  .filter(Boolean).join("; ");
