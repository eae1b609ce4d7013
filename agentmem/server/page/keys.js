// Who may enter, and what administrators did.

import { call, get } from "./api.js";
import { ask, button, card, choice, field, h, link, name, plain, table, tag, when } from "./dom.js";
import { act } from "./parts.js";

const SCOPES = { read: "search and lists", write: "add, change, delete", erase: "remove for good", admin: "the store as a whole" };
// What administrators did, in words.
const ACTS = {
  "key.create": "Made a key", "key.revoke": "Revoked a key", "key.rotate": "Rotated a key", "memory.erase": "Erased memories", "user.erase": "Erased a user", sweep: "Swept",
  repair: "Repaired", compact: "Compacted", "backup.create": "Made a backup", "backup.prune": "Removed old backups", "backup.restore": "Restored a backup", "backup.drop": "Removed a backup",
};
const SHOWN = 100;
const LAST = 50;

export async function keys(page) {
  const of = page.query.get("of") || "";
  const [found, audit] = await Promise.all([
    get("/v1/keys", { ...(of ? { user_id: of } : {}), limit: SHOWN + 1 }, page.signal), get("/v1/audit", { order: "newest", limit: LAST }, page.signal),
  ]);
  const shown = found.slice(0, SHOWN);
  const user = h("input", { type: "search", value: of, spellcheck: "false" });
  return [
    h("h1", {}, "Keys"),
    page.me.id === "local" && h("p", {}, "There is no key yet, and this machine needs none. The first key ends that: from then on whoever looks needs one with the scope admin."),
    create(page),
    card("Keys",
      h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = page.to("keys", { of: user.value }); } },
        field("That lead to the user", user), h("button", { type: "submit" }, "Find"), of && link("All keys", page.to("keys"), { class: "button" })),
      table("Keys", ["Key", "Leads to", "May", "Made", "Last used", "Ends", "Revoke"], shown.map((one) => [
      [one.name && h("div", {}, name(one.name)), h("small", {}, name(one.id))], walls(one), one.scopes.map((scope) => [tag(scope), " "]), when(one.created_at), one.used_at ? when(one.used_at) : "never",
      one.revoked_at ? h("span", {}, tag("revoked", "bad"), " ", when(one.revoked_at)) : one.expires_at ? when(one.expires_at) : "–",
      !one.revoked_at && button("Revoke …", async () => {
        if (await ask({ title: `Revoke the key ${one.id}?`, words: "It ends now, in all processes, and does not come back.", yes: "Revoke it", danger: true })) await act(page, "It was revoked.", () => call("DELETE", `/v1/keys/${encodeURIComponent(one.id)}`));
      }, { "aria-label": `Revoke ${one.id}` }),
    ]), { empty: of ? "No key is for this user alone." : "No keys." }), found.length > SHOWN && h("p", {}, `The first ${SHOWN}: those that hold, those for any user, and then the newest.`)),
    card("What administrators did", table("Audit log", ["When", "What", "By", "To"], audit.map((one) => [
      when(one.at, { both: true }), ACTS[one.act] ?? one.act, one.actor ? name(one.actor) : "the command line", one.target ? name(one.target) : "–"]), { empty: "Nothing yet." })),
  ];
}

const walls = (one) => h("span", {}, one.any_user ? "any user" : one.user_id === null ? "nobody's memories" : name(one.user_id),
  one.agent_id && [", agent ", name(one.agent_id)], one.namespace && [", at ", name(one.namespace.join(" / "))]);

function create(page) {
  const purpose = h("input", { maxlength: 200 });
  const whose = choice([["user", "One user"], ["nobody", "Memories of no user"], ["any", "Any user"]], "user", { onchange: () => { user.disabled = whose.value !== "user"; user.required = !user.disabled; } });
  const user = h("input", { spellcheck: "false", autocomplete: "off", required: true });
  const ends = choice([["86400", "In a day"], ["2592000", "In 30 days"], ["7776000", "In 90 days"], ["31536000", "In a year"], ["", "Never"]], "7776000");
  const boxes = Object.entries(SCOPES).map(([scope, means]) => {
    const box = h("input", { type: "checkbox", name: scope, checked: scope === "read" || null, id: `scope-${scope}` });
    return [scope, box, h("label", { for: box.id }, box, ` ${scope}: ${means}`)];
  });
  const out = h("div", { "aria-live": "polite" });
  const make = async (event) => {
    event.preventDefault();
    const body = { scopes: boxes.filter(([, box]) => box.checked).map(([scope]) => scope), any_user: whose.value === "any", name: purpose.value || null };
    if (whose.value === "user") body.user_id = user.value;
    if (ends.value) body.expires_in = Number(ends.value);
    const made = await act(page, "The key was made.", () => call("POST", "/v1/keys", { body }), { stay: true });
    if (made === null) return;
    const token = h("input", { value: made.token, readonly: true, "aria-label": "The key", class: "token" });
    out.replaceChildren(h("div", { class: "card good" }, h("p", {}, "This is the key. It is shown this once; whoever has it has what it allows."), token,
      h("p", { class: "actions" }, button("Copy", async () => { token.select(); await navigator.clipboard?.writeText(made.token).catch(() => document.execCommand("copy")); }),
        button("Done", () => page.reload(), { class: "first" }))));
    token.focus();
  };
  return card("Make a key", h("form", { onsubmit: make },
    h("div", { class: "row" }, field("What it is for", purpose), field("Leads to", whose), field("User", user), field("Ends", ends)),
    h("fieldset", {}, h("legend", {}, "It may"), boxes.map(([, , label]) => label)),
    h("p", { class: "actions" }, h("button", { type: "submit", class: "first" }, "Make it"))), out);
}
