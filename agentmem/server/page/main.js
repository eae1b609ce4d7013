// The frame around each page: who looks, at whose memories, and where to go from here.

import { Problem, call, get, key } from "./api.js";
import { button, choice, field, h, link, name, plain, show } from "./dom.js";
import { consolidation } from "./consolidation.js";
import { keys } from "./keys.js";
import { memory } from "./memory.js";
import { operations } from "./operations.js";
import { overview } from "./overview.js";
import { search } from "./search.js";
import { session, sessions } from "./sessions.js";
import { user } from "./user.js";
import { chooser, users } from "./users.js";
import { values } from "./values.js";

// What a page is called, who may see it, and whether it is about one user's memories.
const PAGES = {
  "": { label: "Overview", view: overview, admin: true },
  search: { label: "Search", view: search, whose: true },
  user: { label: "Memories", view: user, whose: true },
  sessions: { label: "Sessions", view: sessions, whose: true },
  consolidation: { label: "Consolidation", view: consolidation, whose: true },
  values: { label: "Values", view: values, whose: true },
  users: { label: "Users", view: users, admin: true },
  operations: { label: "Operations", view: operations, admin: true },
  keys: { label: "Keys", view: keys, admin: true },
  memory: { label: "One memory", view: memory, whose: true, hidden: true },
  session: { label: "One session", view: session, whose: true, hidden: true },
};

export const to = (page, query = {}) => {
  const said = new URLSearchParams();
  for (const [term, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") said.append(term, value);
  return `#/${page}${said.size ? `?${said}` : ""}`;
};

const top = document.getElementById("top");
const nav = document.getElementById("nav");
const main = document.getElementById("main");
let me = null;
let unused = ""; // why the address that it was opened by let nobody in
let leaving = new AbortController();

function place() {
  const [page, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { page, query: new URLSearchParams(query || "") };
}

const sees = (page) => !page.admin || (me.any_user && me.scopes.includes("admin"));

// What is under way for this page ends, and what it asks.
function leave() {
  leaving.abort();
  leaving = new AbortController();
  delete main.dataset.at;
  for (const dialog of document.querySelectorAll("dialog")) dialog.dispatchEvent(new Event("cancel", { cancelable: true }));
}

async function go() {
  leave();
  const { signal } = leaving;
  if (me === null && !(await enter(signal))) return;
  const { hash } = location;
  const at = place();
  const known = Object.hasOwn(PAGES, at.page) ? PAGES[at.page] : null;
  if (known === null || !sees(known)) {
    location.replace(to(sees(PAGES[""]) ? "" : "user"));
    return;
  }
  const chosen = at.query.get("user");
  frame(at.page, chosen);
  document.title = `${known.label} · agentmem`;
  const page = {
    me, signal, query: at.query, main, to, reload: go,
    may: (scope) => me.scopes.includes(scope),
    user: me.any_user ? chosen : me.user_id,
    // Whose memories a request is about: a key for one user says it by itself.
    whose: me.any_user && chosen !== null ? { user_id: chosen } : {},
    link: (label, where, query = {}, attributes = {}) => link(label, to(where, { user: me.any_user ? chosen : null, ...query }), attributes),
  };
  show(main, h("p", { class: "waiting" }, "Loading …"));
  try {
    const made = await known.view(page);
    if (signal.aborted) return;
    show(main, made);
    main.dataset.at = hash;
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Problem && error.status === 401) return refused(error);
    const foreseen = error instanceof Problem;
    show(main, h("h1", {}, known.label), h("div", { class: "card bad", role: "alert" }, h("h2", {}, foreseen ? error.title : "This page failed"), h("p", {}, error.message)),
      button("Try again", go));
    main.dataset.at = hash;
    if (!foreseen) throw error;
  }
  const heading = main.querySelector("h1");
  if (heading && !main.contains(document.activeElement)) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
  window.scrollTo(0, 0);
}

function frame(at, chosen) {
  const theme = choice([["", "As the system"], ["light", "Light"], ["dark", "Dark"]], localStorage.getItem("agentmem.theme") || "", {
    "aria-label": "Colours", onchange: (event) => { localStorage.setItem("agentmem.theme", event.target.value); colours(); },
  });
  show(top, link(h("b", {}, "agentmem"), to(sees(PAGES[""]) ? "" : "user"), { class: "brand" }),
    me.any_user ? chooser({ me, chosen, go: (user) => { location.hash = to(PAGES[at]?.whose && !PAGES[at].hidden ? at : "user", { user }); } })
      : h("p", { class: "whose" }, "Memories of ", me.user_id === null ? "nobody in particular" : name(me.user_id)),
    theme,
    h("p", { class: "who", title: plain(me.name || me.id) }, "Key ", name(me.name || me.id)),
    key.get() && button("Leave", () => { key.set(null); me = null; go(); }, { class: "quiet" }));
  show(nav, h("ul", {}, Object.entries(PAGES).filter(([, page]) => !page.hidden && sees(page)).map(([path, page]) =>
    h("li", {}, link(page.label, to(path, page.whose && me.any_user ? { user: chosen } : {}), { "aria-current": path === at ? "page" : null })))));
}

// -- entering --------------------------------------------------------------------------------------------------------

async function enter(signal) {
  try {
    me = await get("/v1/me", {}, signal);
    return true;
  } catch (error) {
    if (error instanceof Problem) refused(error);
    return false;
  }
}

function refused(error) {
  const had = key.get();
  if (error.status === 401) key.set(null);
  me = null;
  show(nav);
  show(top, h("b", { class: "brand" }, "agentmem"));
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
  show(main, h("h1", {}, "Enter with a key"),
    h("form", { class: "card", onsubmit: (event) => { event.preventDefault(); key.set(input.value.trim()); unused = ""; go(); } },
      (had || unused || error.status !== 401) && h("p", { class: "bad", role: "alert" }, unused || error.message),
      field("Key", input, "It begins with amk_, and agentmem key create makes one. It is kept in this tab until you leave or close it. A page that agentmem dashboard opened ends with that command, which opens another."),
      h("p", { class: "actions" }, h("button", { type: "submit", class: "first" }, "Enter"))));
  input.focus();
}

// `agentmem dashboard` opens this page with a token that can be used once: what it is exchanged for is never part of
// an address.
async function exchange() {
  const { page, query } = place();
  const once = page === "enter" ? query.get("once") : null;
  if (once === null) return;
  history.replaceState(null, "", location.pathname);
  try {
    key.set((await call("POST", "/v1/enter", { body: { once } })).token);
  } catch (error) {
    unused = error.message;
  }
}

function colours() {
  const chosen = localStorage.getItem("agentmem.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

colours();
await exchange();
// A key may end while a page is open.
window.addEventListener("refused", (event) => { if (me !== null) { leave(); refused(event.detail); } });
window.addEventListener("hashchange", () => { if (location.hash !== "#main") go(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
go();
