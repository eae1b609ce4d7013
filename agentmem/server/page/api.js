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
  // A browser takes these two for steps in the address, whichever way they are written.
  if (text === "." || text === "..") throw new Problem(0, "NoAddress", `a browser cannot ask for what is called "${text}"; the command agentmem can`);
  const encoded = encodeURIComponent(text);
  return encoded.includes("%") ? encoded : `%${encoded.charCodeAt(0).toString(16).padStart(2, "0")}${encoded.slice(1)}`;
}

function headers(token, more) {
  return { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

async function sent(method, path, { query, body, signal, version, clip, range } = {}) {
  const token = key.get();
  const options = {
    method, signal, credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
    headers: headers(token, {
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(clip === undefined ? {} : { Prefer: `clip=${clip}` }),
      ...(range === undefined ? {} : { Range: `bytes=${range[0]}-${range[1] - 1}` }),
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
  const problem = new Problem(answer.status, said.title || "Error", said.detail || `the server answered ${answer.status}`);
  if (answer.status === 401 && token !== null && token === key.get()) window.dispatchEvent(new CustomEvent("refused", { detail: problem }));
  throw problem;
}

export async function call(method, path, options) {
  return (await sent(method, path, options)).json();
}

// What is looked at comes with texts that fit on a page; `null` has them whole.
export const CLIP = 600;
export const get = (path, query, signal, clip = CLIP) => call("GET", path, { query, signal, clip: clip ?? undefined });

// Some of the bytes of what may be of any size.
export async function bytesOf(path, query, start, end, signal) {
  const answer = await sent("GET", path, { query, signal, range: [start, end] });
  return new Uint8Array(await answer.arrayBuffer());
}

export async function download(path, query, filename) {
  const answer = await sent("GET", path, { query });
  const at = URL.createObjectURL(await answer.blob());
  const anchor = document.createElement("a");
  anchor.href = at;
  anchor.download = filename;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(at), 60_000);
}

// A stream that says nothing for so long is lost: the server says something every few seconds.
const SILENT_MS = 45_000;

// Server-sent events, until the signal ends them, and `live`: whether they come. A header has the key, which an
// EventSource could only put into the address.
export async function follow(path, query, signal, handle) {
  let after = query.after;
  while (!signal.aborted) {
    const silence = new AbortController();
    let timer = 0;
    const heard = () => { clearTimeout(timer); timer = setTimeout(() => silence.abort(), SILENT_MS); };
    try {
      heard();
      const answer = await sent("GET", path, { query: { ...query, after }, signal: AbortSignal.any([signal, silence.signal]) });
      handle("live", true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
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
      if (signal.aborted || (error.status && error.status < 500 && error.status !== 429)) return;
      handle("live", false);
    } finally {
      clearTimeout(timer);
    }
    await new Promise((go) => setTimeout(go, 2_000));
  }
}
