// Who has memories here, a page at a time.

import { get } from "./api.js";
import { button, count, field, h, link, name, number, table, when } from "./dom.js";
import { pager } from "./parts.js";

export async function users(page) {
  const prefix = page.query.get("prefix") || "";
  const cursor = page.query.get("cursor");
  const most = page.query.get("most") !== null;
  const found = await get("/v1/users", most ? { most, limit: 50 } : { prefix, cursor, limit: 50 }, page.signal);
  const input = h("input", { type: "search", value: prefix, spellcheck: "false" });
  return [
    h("h1", {}, "Users"),
    h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); location.hash = page.to("users", { prefix: input.value }); } },
      field("Begins with", input), h("button", { type: "submit", class: "first" }, "Find")),
    h("ul", { class: "tabs" }, [["Who came last", {}, !most], ["Who has the most", { most: 1 }, most]].map(([label, query, chosen]) =>
      h("li", {}, link(label, page.to("users", query), { "aria-current": chosen ? "page" : null })))),
    table("Users", ["User", count("Memories"), "First added", "Last added", "Ask"], found.users.map((one) => [
      link(one.name === null ? "nobody in particular" : name(one.name), page.to("user", { user: one.name })),
      number(one.records), when(one.first_at, { both: true }), when(one.last_at, { both: true }),
      link("Search", page.to("search", { user: one.name }), { "aria-label": `Search what is known of ${one.name ?? "nobody"}` }),
    ]), { empty: prefix ? "Nobody whose name begins so." : "Nobody has memories here yet." }),
    pager(found.cursor, (next) => page.to("users", { prefix, cursor: next }), cursor && page.to("users", { prefix })),
  ];
}

let last = 0;

// Whose memories are looked at: type the beginning of a name.
export function chooser({ me, chosen, go }) {
  const list = h("datalist", { id: "users-known" });
  const input = h("input", {
    type: "search", list: "users-known", value: chosen ?? "", autocomplete: "off", spellcheck: "false", placeholder: "nobody in particular",
    oninput: async () => {
      if (!me.scopes.includes("admin")) return;
      const mine = (last += 1);
      await new Promise((on) => setTimeout(on, 150));
      if (mine !== last || !input.value) return;
      const found = await get("/v1/users", { prefix: input.value, limit: 10 }).catch(() => ({ users: [] }));
      if (mine === last) list.replaceChildren(...found.users.map((one) => h("option", { value: one.name })));
    },
  });
  return h("form", { class: "row whose", onsubmit: (event) => { event.preventDefault(); go(input.value || null); } },
    field("Memories of", input), list, h("button", { type: "submit" }, "Show"), chosen !== null && button("No user", () => go(null), { class: "quiet" }));
}
