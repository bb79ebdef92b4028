// Questions that must be answered first, what there is to know about keys, and what is said while one waits.
import { html, useEffect, useRef } from "./html.js";

const KEYS = [
  ["Enter", "send"],
  ["Shift + Enter", "a new line"],
  ["Esc", "stop the answer"],
  ["/", "to the question"],
  ["Alt + N", "a new conversation"],
  ["Alt + M", "whom to ask"],
  ["↑", "in an empty question: edit the last one"],
  ["?", "this list"],
];

/** A dialog above all else; Escape and a click beside it close it. */
export function Dialog({ title, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  const outside = (event) => event.target === dialog.current && close();
  return html`<dialog ref=${dialog} aria-label=${title} onClose=${close} onClick=${outside}>
    <div class="dialog"><h2>${title}</h2>${children}</div>
  </dialog>`;
}

export function Confirm({ title, text, action, confirmed, close }) {
  const act = () => {
    close();
    confirmed();
  };
  return html`<${Dialog} title=${title} close=${close}>
    <p>${text}</p>
    <div class="buttons">
      <button type="button" onClick=${close} autofocus>Cancel</button>
      <button type="button" class="danger" onClick=${act}>${action}</button>
    </div>
  <//>`;
}

/** Said of what takes longer than a moment. */
export function Loading() {
  return html`<p class="quiet loading" role="status">Loading…</p>`;
}

export function Shortcuts({ close }) {
  return html`<${Dialog} title="Keyboard" close=${close}>
    <dl class="keys">${KEYS.map(([keys, what]) => html`<div><dt><kbd>${keys}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <div class="buttons"><button type="button" onClick=${close} autofocus>Close</button></div>
  <//>`;
}
