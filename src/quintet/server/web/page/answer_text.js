// An answer's text, drawn block by block: while it grows, only its last block is drawn again.
import { Component, html, useRef, useState } from "./html.js";
import { blockHtml, blocksOf } from "./markdown.js";
import { copy } from "./exporting.js";

const LONG = 10_000;
const LONG_PAUSE_MS = 300;

export function AnswerText({ text, isGrowing }) {
  const drawn = useRef({ text: null, blocks: [], at: 0 });
  const now = performance.now();
  const isEarly = isGrowing && text.length > LONG && now - drawn.current.at < LONG_PAUSE_MS;
  if (drawn.current.text !== text && !isEarly) drawn.current = { text, blocks: blocksOf(text), at: now };
  return html`<div class="text" onClick=${copyCode}>${drawn.current.blocks.map((block, number) => html`<${Block} key=${number} block=${block} />`)}</div>`;
}

class Block extends Component {
  shouldComponentUpdate(next) {
    return next.block.raw !== this.props.block.raw;
  }

  render({ block }) {
    return html`<div class="block" dir="auto" dangerouslySetInnerHTML=${{ __html: blockHtml(block) }}></div>`;
  }
}

async function copyCode(event) {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const done = await copy(button.closest(".code").querySelector("code").textContent);
  button.textContent = done ? "Copied" : "Not copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

/** A button that copies a text, and says that it has. */
export function useCopied(text) {
  const [isCopied, setCopied] = useState(false);
  const act = async () => {
    setCopied(await copy(text));
    setTimeout(() => setCopied(false), 1500);
  };
  return [isCopied, act];
}
