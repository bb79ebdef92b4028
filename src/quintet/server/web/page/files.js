// Files beside a question: read by the server into text, as much of it as there is room for.
import { get } from "./api.js";

export const KINDS = ".pdf,.docx,.md,.markdown,.txt,.csv,.tsv,.html,.htm";

/** Return a file that is being read; `then` is called when it is, or cannot be. */
export function readFile(file, taken, then) {
  const reading = { id: Math.random(), name: file.name, state: "reading" };
  get(`api/files/read?name=${encodeURIComponent(file.name)}&taken=${taken}`, {
    body: file, headers: { "Content-Type": "application/octet-stream" },
  }).then(
    (found) => then({ ...reading, ...found, state: "read" }),
    (error) => then({ ...reading, state: "failed", problem: error.message }),
  );
  return reading;
}

/** Return what is to be said of a file that was read: how much of it there is, and what is missing. */
export function noteOn(file) {
  if (file.state === "reading") return "is being read…";
  if (file.state === "failed") return file.problem;
  const all = file.tokens + file.tokens_left_out;
  const cut = file.tokens_left_out ? `only the first ${Math.max(1, Math.floor(100 * file.tokens / all))}% fits: the model sees no more` : `${file.tokens} tokens`;
  return [cut, ...file.notes].join(" · ");
}

/** Return how many tokens of the context a conversation takes already, as the last answer counted them. */
export function takenBy(conversation) {
  const counted = conversation?.turns?.map((turn) => turn.answers[turn.shown]).filter((answer) => answer?.promptTokens);
  const last = counted?.at(-1);
  return last ? last.promptTokens + (last.tokens ?? 0) : 0;
}
