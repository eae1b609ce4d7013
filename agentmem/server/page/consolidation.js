// From what was said to what is known: what waits for a decision, and what models cost.

import { call, get } from "./api.js";
import { ask, button, card, count, decimal, facts, h, link, name, number, plain, some, table, tag, text, when } from "./dom.js";
import { columns } from "./draw.js";
import { act, changes, whom } from "./parts.js";

const WHAT = { ADD: "Remember", SUPERSEDE: "Supersede", RETRACT: "Retire" };
const PAGE = 20;
const COUNTED = 10_000; // messages are counted so far

export async function consolidation(page) {
  const admin = page.me.any_user && page.may("admin");
  const offset = Math.max(0, Number(page.query.get("offset")) || 0);
  const [state, waiting, spend, all] = await Promise.all([
    get("/v1/consolidation", page.whose, page.signal), get("/v1/consolidation/proposals", { ...page.whose, limit: PAGE, offset }, page.signal),
    get("/v1/consolidation/spend", page.whose, page.signal), admin ? get("/v1/admin/spend", {}, page.signal) : null,
  ]);
  const known = await facts_of(page, waiting.flatMap((one) => [one.target, one.by]).filter(Boolean));
  const here = (at) => page.to("consolidation", { user: page.me.any_user ? page.user : null, offset: at || "" });
  const post = (verb, body = {}) => call("POST", `/v1/consolidation/${verb}`, { query: page.whose, body });
  const write = page.may("write");
  const fact = (term, id) => h("div", {}, h("dt", {}, term), h("dd", {}, known.has(id) ? text(known.get(id).content, { short: 200 }) : "", page.link("Details", "memory", { id }, { "aria-label": `Details of ${id}` })));
  return [
    h("h1", {}, "Consolidation for ", whom(page)),
    changes(page),
    facts(["Messages to look at", `${number(state.waiting)}${state.waiting < COUNTED ? "" : " or more"}`], ["Proposals", number(state.proposals)], ["Runs", state.running ? "one is at it" : "none now"],
      state.closed_until && ["The model is left alone until", when(state.closed_until, { both: true })],
      ["Today", spent(state.today)], ["Today, all users", spent(state.store_today)]),
    card("Waiting for a decision",
      h("p", { class: "actions" },
        write && button("Look for contradictions", () => act(page, (made) => `${number(made.length)} proposed.`, () => post("propose"))),
        write && state.proposals > 1 && [
          button(`Approve all ${number(state.proposals)} …`, async () => { if (await ask({ title: `Approve ${some(state.proposals, "proposal")}?`, words: "All of them in one step, which revert takes back.", yes: "Approve all" })) await act(page, approved, () => post("approve")); }),
          button("Reject all …", async () => { if (await ask({ title: `Reject ${some(state.proposals, "proposal")}?`, words: "They are not proposed again.", yes: "Reject all", danger: true })) await act(page, (made) => `${number(made.count)} rejected.`, () => post("reject")); }),
        ]),
      waiting.length === 0 ? h("p", { class: "nothing" }, "Nothing waits.") : h("ol", { class: "records" }, waiting.map((one) => h("li", {},
        h("p", {}, tag(WHAT[one.op] || one.op, one.op), one.subject && [" about ", name(one.subject)]),
        one.text && text(one.text),
        one.target && h("dl", { class: "before" }, fact("Retires", one.target), one.by && fact("In its place", one.by)),
        h("p", {}, "Because: ", plain(one.reason || "–")),
        one.quotes.filter((quote) => quote !== known.get(one.by)?.content).map((quote) => h("blockquote", {}, text(quote))),
        write && h("p", { class: "actions" },
          button("Approve", () => act(page, approved, () => post("approve", { ids: [one.id] })), { class: "first", "aria-label": `Approve: ${plain(one.text || one.reason).slice(0, 60)}` }),
          button("Reject", () => act(page, "It was rejected.", () => post("reject", { ids: [one.id] })), { "aria-label": `Reject: ${plain(one.text || one.reason).slice(0, 60)}` }))))),
      h("p", { class: "actions" }, offset > 0 && link("Earlier ones", here(Math.max(0, offset - PAGE)), { class: "button" }), offset + waiting.length < state.proposals && link("More", here(offset + PAGE), { class: "button" }))),
    card("Messages that no model made sense of", table("Dead letters", ["When", "Why", "Message"], state.dead.slice(0, 50).map((one) => [
      when(one.at), plain(one.why), one.id ? page.link("Details", "memory", { id: one.id }) : "gone"]), { empty: "None." }),
    write && state.dead.length > 0 && button("Try them again", () => act(page, (made) => `${number(made.count)} wait again.`, () => post("retry")))),
    h("div", { class: "grid" }, card("What it cost", days(spend)), all && card("What it cost, all users", days(all))),
  ];
}

async function facts_of(page, ids) {
  if (!ids.length) return new Map();
  const found = await get("/v1/memories", { ...page.whose, filters: JSON.stringify({ $id: { $in: [...new Set(ids)] } }), limit: 2 * PAGE, data: false, touch: false }, page.signal);
  return new Map(found.records.map((one) => [one.id, one]));
}

const approved = (made) => `Done: ${made.added} added, ${made.superseded} superseded, ${made.retracted} retired${made.refused.length ? `; ${made.refused.length} refused: ${made.refused[0].reason}` : ""}.`;
const tokens = (spend) => spend.input_tokens + spend.output_tokens;
const spent = (spend) => `${some(spend.calls, "call")}, ${some(tokens(spend), "token")}${spend.money ? `, ${decimal(spend.money)} in money` : ""}`;

function days(found) {
  if (!found.length) return h("p", { class: "nothing" }, "No model was asked.");
  const last = found.slice(-30);
  return [columns("Tokens a day", last.map((one) => [one.day, tokens(one.spend)])),
    table("By day", ["Day", count("Calls"), count("Tokens"), count("Money")], last.toReversed().slice(0, 10).map((one) => [one.day, number(one.spend.calls), number(tokens(one.spend)), decimal(one.spend.money || 0)]))];
}
