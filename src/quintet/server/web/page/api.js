// What the server is asked, with the key of whoever is signed in. The key is in this tab alone, and in no address.

const HOME = new URL(".", location.href);
const KEY = "quintet.key";

export class ApiError extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
    this.retryAfter = retryAfter;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
  /** The header by which the server knows it, or nothing. */
  header: () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {}),
};

let refused = () => {};
/** Have `then` called whenever the key opens nothing any more. */
export function onRefused(then) {
  refused = then;
}

/**
 * Send a request; return the response, or throw ApiError. `json` is sent as JSON, `body` as it is. Headers that are given
 * stand, that of another key too: of whether that one opens anything, nobody is told.
 */
export async function send(path, { json, body, headers = {}, ...options } = {}) {
  const own = { ...key.header(), ...headers };
  if (json !== undefined) own["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, HOME), {
      method: json !== undefined || body !== undefined ? "POST" : "GET",
      headers: own,
      body: json !== undefined ? JSON.stringify(json) : body,
      ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. Is it running?", code: "unreachable" });
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const error = new ApiError(response.status, said?.error, Number(response.headers.get("retry-after")) || null);
  if (error.status === 401 && own.Authorization === key.header().Authorization) refused(error);
  throw error;
}

/** Send a request, and return the JSON that comes. */
export async function get(path, options) {
  return (await send(path, options)).json();
}

/** Yield the JSON of each event of a stream; throw what it says went wrong. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(brokeOff);
      if (done) break;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        if (part === "data: [DONE]") return;
        const event = JSON.parse(part.slice(6));
        if (event.error) throw new ApiError(200, event.error);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  brokeOff();
}

/** Say that a stream ended before its end, unless we ended it. */
function brokeOff(error) {
  if (error?.name === "AbortError") throw error;
  throw new ApiError(0, { message: "The answer broke off.", code: "cut" });
}
