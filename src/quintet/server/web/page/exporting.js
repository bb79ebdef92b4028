// A conversation, to take along.
import { nameOf } from "./models.js";

/** Return a conversation as Markdown: what was asked, and the answers that are shown, with who gave them. */
export function toMarkdown(conversation) {
  const turns = conversation.turns.map((turn) => {
    const answer = turn.answers[turn.shown];
    const files = turn.files.map((file) => `\n\n*With the file ${file.name}*`).join("");
    const who = answer ? nameOf(answer.expert ?? answer.department ?? answer.model) : "";
    return `## ${turn.question}${files}\n\n${answer ? `**${who}:** ${answer.text || answer.error?.message || ""}` : ""}\n`;
  });
  return `# ${conversation.title}\n\n${new Date(conversation.created).toISOString()}\n\n${turns.join("\n")}`;
}

/** Have the browser save a text as a file. */
export function download(conversation, ending, text) {
  const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: ending === "json" ? "application/json" : "text/markdown" }));
  link.download = `${name}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Put text on the clipboard; return whether it is there. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP there is no clipboard but this one.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
