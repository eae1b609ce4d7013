// The HTTP API, as anybody may call it: docs/server.md. The key is kept for this tab alone, and goes nowhere but into
// the header of requests to this server.

const KEPT = "agentmem.key";

export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEPT),
  set: (token) => (token ? sessionStorage.setItem(KEPT, token) : sessionStorage.removeItem(KEPT)),
};

export function address(path, query = {}) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) said.append(name, one);
  }
  const text = said.toString();
  return text ? `${path}?${text}` : path;
}

// A name in a path; one that is a verb there, such as "count", must not pass for it.
export function segment(text) {
  const encoded = encodeURIComponent(text);
  return encoded.includes("%") ? encoded : `%${encoded.charCodeAt(0).toString(16).padStart(2, "0")}${encoded.slice(1)}`;
}

function headers(more) {
  const token = key.get();
  return { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

async function sent(method, path, { query, body, signal, version, clip } = {}) {
  const options = {
    method, signal, credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
    headers: headers({
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(clip === undefined ? {} : { Prefer: `clip=${clip}` }),
      ...(version === undefined ? {} : { "If-Match": `"${version}"` }),
    }),
    body: body === undefined ? undefined : JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(address(path, query), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "Unreachable", "the server does not answer");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, said.title || "Error", said.detail || `the server answered ${answer.status}`);
}

export async function call(method, path, options) {
  return (await sent(method, path, options)).json();
}

// What is looked at comes with texts that fit on a page; `null` has them whole.
export const CLIP = 600;
export const get = (path, query, signal, clip = CLIP) => call("GET", path, { query, signal, clip: clip ?? undefined });

export async function download(path, query, filename) {
  const answer = await sent("GET", path, { query });
  const at = URL.createObjectURL(await answer.blob());
  const anchor = document.createElement("a");
  anchor.href = at;
  anchor.download = filename;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(at), 60_000);
}

// Server-sent events, until the signal ends them; a header has the key, which an EventSource could only put into the
// address.
export async function follow(path, query, signal, handle) {
  let after = query.after;
  while (!signal.aborted) {
    try {
      const answer = await sent("GET", path, { query: { ...query, after }, signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const lines = Object.fromEntries(part.split("\n").map((line) => {
            const at = line.indexOf(": ");
            return [line.slice(0, at), line.slice(at + 2)];
          }));
          if (lines.id) after = Number(lines.id);
          if (lines.event) handle(lines.event, JSON.parse(lines.data));
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || (error.status && error.status < 500)) return;
    }
    await new Promise((go) => setTimeout(go, 2_000));
  }
}
