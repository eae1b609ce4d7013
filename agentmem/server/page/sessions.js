// Conversations: what was said, and the prompt that would be made of it, with what it costs.

import { Problem, call, get, segment } from "./api.js";
import { button, card, count, facts, field, h, link, name, number, plain, show, some, table, tag, text, when } from "./dom.js";
import { parts as drawn } from "./draw.js";
import { changes, parts, whom } from "./parts.js";

const PAGE = 25;
const none = (error) => { if (error instanceof Problem && error.status === 404) return null; throw error; };

export async function sessions(page) {
  const offset = Math.max(0, Number(page.query.get("offset")) || 0);
  const found = await get("/v1/sessions", { ...page.whose, limit: PAGE + 1, offset }, page.signal);
  const here = (at) => page.to("sessions", { user: page.me.any_user ? page.user : null, offset: at || "" });
  const run = h("input", { required: true, spellcheck: "false" });
  return [
    h("h1", {}, "Sessions of ", whom(page)),
    changes(page),
    table("Sessions", ["Session", "Title", "Agent", "Begun", "Last said", "State"], found.slice(0, PAGE).map((one) => [
      page.link(name(one.run_id), "session", { run: one.run_id, agent: one.agent_id }), one.title ? text(one.title, { short: 100 }) : "–", one.agent_id ? name(one.agent_id) : "–",
      when(one.created_at, { day: true }), when(one.last_at), one.closed_at ? tag("closed") : tag("open", "good"),
    ]), { empty: "No session is kept here." }),
    h("p", { class: "actions" }, offset > 0 && link("Newer", here(Math.max(0, offset - PAGE)), { class: "button" }), found.length > PAGE && link("Older", here(offset + PAGE), { class: "button" })),
    h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); location.hash = page.to("session", { user: page.me.any_user ? page.user : null, run: run.value }); } },
      field("Conversation", run, "Any run id, whether it is a session or was added otherwise."), h("button", { type: "submit" }, "Open")),
  ];
}

export async function session(page) {
  const run = page.query.get("run") || "";
  const before = page.query.get("before");
  const place = { ...page.whose, agent_id: page.query.get("agent"), namespace: parts(page.query.get("at")) };
  const at = `/v1/sessions/${segment(run)}`;
  const { signal } = page;
  const [info, turns, summary, working] = await Promise.all([
    get(at, place, signal).catch(none), get(`${at}/turns`, { ...place, limit: PAGE, before }, signal).catch(none),
    get(`${at}/summary`, place, signal).catch(none), get(`${at}/working`, place, signal, 8_000).catch(none),
  ]);
  const here = (query) => page.to("session", { user: page.me.any_user ? page.user : null, run, agent: page.query.get("agent"), at: page.query.get("at"), ...query });
  return [
    h("h1", {}, "Session ", name(run), " of ", whom(page)),
    changes(page),
    info === null ? h("p", { class: "nothing" }, "No session of this name; what follows was added with its run id.") : facts(
      ["Title", info.title ? text(info.title, { short: 100 }) : "–"], ["Agent", info.agent_id ? name(info.agent_id) : "–"], ["Begun", when(info.created_at, { both: true })],
      ["Last said", when(info.last_at, { both: true })], ["State", info.closed_at ? tag("closed") : tag("open", "good")], info.ends_at && ["Kept until", when(info.ends_at, { both: true })]),
    prompt(page, at, place),
    card("What was said", (turns || []).length >= PAGE && h("p", {}, link("Earlier", here({ before: turns[0].id }))), before && h("p", {}, link("Latest", here({}))),
      (turns || []).length === 0 && h("p", { class: "nothing" }, "Nothing."),
      h("ol", { class: "turns" }, (turns || []).map((one) => h("li", { class: one.role },
        h("div", { class: "record-facts" }, tag(one.role), when(one.at, { both: true }), page.link("Details", "memory", { id: one.id }, { "aria-label": `Details of ${one.id}` })),
        spoken(one.message))))),
    summary && card("Summary", h("p", {}, `Stands for ${some(summary.covered, "turn")}.`), summary.lines.map((one) => text(one.text))),
    working && Object.keys(working.value).length > 0 && card("Working memory", h("pre", { tabindex: 0 }, JSON.stringify(working.value, null, 1))),
  ];
}

function spoken(message) {
  if (typeof message.content === "string" && Object.keys(message).length <= 3) return text(message.content);
  return [typeof message.content === "string" && message.content && text(message.content), h("details", {}, h("summary", {}, "The whole message"), h("pre", { tabindex: 0 }, JSON.stringify(message, null, 1)))];
}

// What would be sent to a model next.
function prompt(page, at, place) {
  const most = h("input", { type: "number", min: 1, max: 10_000_000, value: 4_000, required: true });
  const query = h("input", { dir: "auto", placeholder: "what was said last" });
  const price = h("input", { type: "number", min: 0, step: "any", value: sessionStorage.getItem("agentmem.price") || "" });
  const out = h("div", { "aria-live": "polite" });
  let last = null;
  price.addEventListener("input", () => { if (last) show(out, ...built(page, last, Number(price.value))); });
  const build = async (event) => {
    event?.preventDefault();
    if (price.value) sessionStorage.setItem("agentmem.price", price.value);
    try {
      const made = await call("POST", `${at}/prompt`, { query: place, signal: page.signal, clip: 8_000, body: { max_tokens: Number(most.value), touch: false, ...(query.value ? { query: query.value } : {}) } });
      last = made;
      show(out, ...built(page, made, Number(price.value)));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      show(out, h("p", { class: "bad", role: "alert" }, `${error.title}: ${error.message}`));
    }
  };
  build();
  return card("The prompt as it would be built",
    h("form", { class: "row", onsubmit: build }, field("Tokens at most", most), field("What is recalled is asked by", query), field("Price of a million tokens", price), h("button", { type: "submit", class: "first" }, "Build it again")), out);
}

function built(page, made, price) {
  const { manifest } = made;
  return [
    h("p", {}, h("b", {}, number(manifest.tokens)), ` of ${number(manifest.max_tokens)} tokens`, price ? [", which cost ", h("b", {}, (manifest.tokens * price / 1e6).toPrecision(3)), " each time it is sent"] : ""),
    drawn("Tokens", Object.entries(manifest.sections), manifest.max_tokens),
    h("p", {}, "A provider's cache holds as long as this stays: ", h("code", {}, manifest.prefix.slice(0, 16))),
    manifest.trimmed.length > 0 && h("details", {}, h("summary", {}, `${number(manifest.trimmed.length)} left out`), table("Left out", ["Of", "What", "Why", count("Tokens")], manifest.trimmed.slice(0, 100).map((one) => [one.section, name(one.id), plain(one.reason), number(one.tokens)]))),
    h("ol", { class: "turns" }, made.messages.map((one) => h("li", { class: one.role }, tag(one.role), spoken(one)))),
  ];
}
