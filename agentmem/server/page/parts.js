// What several pages show in the same way.

import { Problem, follow } from "./api.js";
import { button, h, link, name, say, show, some, tag, text, when } from "./dom.js";

// What happened to a memory, in words.
export const DONE = {
  ADD: "Added", UPDATE: "Changed", DELETE: "Deleted", RESTORE: "Restored", PROMOTE: "Promoted", DEMOTE: "Demoted", EXPIRE: "Expired", EVICT: "Evicted",
  FEEDBACK: "Rated", PIN: "Pinned", UNPIN: "Unpinned", ERASE: "Erased", ARCHIVE: "Archived", REHYDRATE: "Back from the archive", TOUCH: "Used", REEMBED: "Embedded anew",
};

export const LAYERS = { interact: "a day", insights: "90 days", assets: "for good" };

// Who said it: the role, the agent, the conversation.
export function source(record, page) {
  const said = [];
  if (record.role) said.push(tag(record.role));
  if (record.agent_id) said.push(h("span", {}, "agent ", page.link(name(record.agent_id), "user", { agent: record.agent_id })));
  if (record.run_id) said.push(h("span", {}, "in ", page.link(name(record.run_id), "session", { run: record.run_id, agent: record.agent_id, at: path(record.namespace) })));
  const by = record.metadata?.learned_by;
  if (by) said.push(h("span", {}, "drawn from talk"));
  if (!said.length) said.push("told directly");
  return h("span", { class: "source" }, said.map((one) => [one, " "]));
}

export const path = (namespace) => (namespace && namespace.length ? JSON.stringify(namespace) : null);
export const parts = (at) => { try { const made = JSON.parse(at); return Array.isArray(made) ? made.map(String) : null; } catch { return null; } };

export function records(page, found, { caption, empty, extra = null, marks = [] }) {
  if (!found.length) return h("p", { class: "nothing" }, empty);
  return h("ol", { class: "records", "aria-label": caption }, found.map((one) => h("li", {},
    h("div", { class: "record-text" }, text(one.content || dataOf(one), { short: 240, marks })),
    h("div", { class: "record-facts" },
      h("span", {}, since(one)), source(one, page), tag(one.layer, one.layer), tag(one.kind),
      one.pinned && tag("pinned"), one.retired_at && tag("no longer", "old"), one.archived && tag("archived"),
      one.namespace.length > 0 && h("span", {}, "at ", name(one.namespace.join(" / "))),
      page.link("Details", "memory", { id: one.id }, { class: "more", "aria-label": `Details of ${one.id}` }),
      extra && extra(one)))));
}

export const dataOf = (record) => (record.key ? `${record.key}` : "(no text)");

// Since when: when it holds if that was said, when it happened, or when it was added.
export function since(record) {
  const day = { day: true };
  if (record.valid_from) return ["so since ", when(record.valid_from, day), record.valid_to ? [" until ", when(record.valid_to, day)] : null];
  return record.occurred_at ? ["of ", when(record.occurred_at, day)] : ["known since ", when(record.created_at, day)];
}

export const pager = (cursor, href, first) => (cursor || first) && h("p", { class: "actions" },
  first && link("First page", first, { class: "button" }), cursor && link("Next page", href(cursor), { class: "button" }));

// Do something, say how it went, and show the page again.
export async function act(page, words, run, { stay = false } = {}) {
  try {
    const made = await run();
    say(typeof words === "function" ? words(made) : words, "good");
    if (!stay) await page.reload();
    return made;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(`${error.title}: ${error.message}`, "bad");
    return null;
  }
}

// A notice once something has changed since the page was loaded: it changes nothing under the reader's eyes.
export function changes(page) {
  let count = 0;
  const told = h("div");
  const lost = h("p", { class: "bad" });
  const node = h("div", { class: "changes", role: "status" }, told, lost);
  follow("/v1/memories/events", page.whose, page.signal, (kind, value) => {
    if (kind === "live") show(lost, !value && "The server does not answer: what changes is not told.");
    if (kind !== "change") return;
    count += 1;
    show(told, button(`${some(count, "change")} since: show ${count === 1 ? "it" : "them"}`, page.reload));
  });
  return node;
}

export const whom = (page) => (page.user === null ? "nobody in particular" : name(page.user));
