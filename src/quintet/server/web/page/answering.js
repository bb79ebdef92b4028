// One question to one model, streamed into an answer: what came, from whom, how fast. Knows nothing of conversations.
import { ApiError, events, send } from "./api.js";

export const MAX_TOKENS = 512;

/** Return an answer that has not begun. */
export function newAnswer(model) {
  return { model, text: "", state: "waiting", at: Date.now() };
}

/**
 * Fill the answer as it comes, and call `changed` each time. It never throws: what goes wrong is a part of the answer.
 * A first answer is the likeliest one, as the experts are measured; another one is drawn.
 */
export async function stream(answer, messages, { signal, again = false, changed }) {
  const began = performance.now();
  try {
    const response = await send("v1/chat/completions", {
      json: {
        model: answer.model, messages, max_tokens: MAX_TOKENS, temperature: again ? 0.7 : 0,
        stream: true, stream_options: { include_usage: true },
      },
      signal,
    });
    readHeaders(answer, response.headers);
    for await (const event of events(response)) {
      read(answer, event, performance.now() - began);
      changed();
    }
    answer.state = "done";
  } catch (error) {
    answer.state = error.name === "AbortError" ? "stopped" : "failed";
    if (answer.state === "failed") answer.error = describe(error);
  }
  answer.totalMs = performance.now() - began;
  changed();
}

function readHeaders(answer, headers) {
  const probability = headers.get("x-quintet-probability");
  Object.assign(answer, {
    state: "streaming",
    requestId: headers.get("x-request-id"),
    department: headers.get("x-quintet-department"),
    probability: probability === null ? null : Number(probability),
    runnerUp: headers.get("x-quintet-runner-up"),
    cached: headers.get("x-cache") === "hit",
  });
}

function read(answer, event, now) {
  answer.expert = event.system_fingerprint ?? answer.expert ?? null;
  answer.answeredBy = event.model;
  const [choice] = event.choices;
  if (choice?.delta.content) {
    answer.firstMs ??= now;
    answer.text += choice.delta.content;
  }
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (event.usage) {
    answer.tokens = event.usage.completion_tokens;
    answer.promptTokens = event.usage.prompt_tokens;
  }
}

/** Return an error in words, as it is kept with the answer. */
export function describe(error) {
  if (!(error instanceof ApiError)) return { message: `The page went wrong: ${error.message}` };
  return { message: error.message, code: error.code, retryAfter: error.retryAfter };
}
