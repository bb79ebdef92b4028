// Markdown → safe HTML, a block at a time. An answer is text: whatever HTML it holds is shown as it is written.
//
// Two walls: nothing here writes a tag that it did not make itself, and the sanitiser passes only those named below. The
// browser, by the page's policy, takes HTML from the sanitiser alone.
import DOMPurify from "./vendor/purify.js";
import { Marked } from "./vendor/marked.js";
import { highlight } from "./highlighting.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "button", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input",
    "li", "ol", "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "checked", "class", "data-copy", "disabled", "href", "start", "tabindex", "title", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  // The sanitiser takes every other attribute for an address, and lets these go.
  ADD_URI_SAFE_ATTR: ["align", "start", "tabindex", "type"],
  ALLOW_DATA_ATTR: false,
  RETURN_TRUSTED_TYPE: true,
};
const LINKED = /^(?:https?|mailto):/i;
const LONGEST_INLINE = 20_000;

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escape(text),
    // A picture elsewhere would tell others that it was looked at.
    image: ({ href, text }) => link(href, escape(text || href)),
    link({ href, tokens }) {
      return link(href, this.parser.parseInline(tokens));
    },
    code: ({ text, lang }) => codeBlock(text, (lang ?? "").trim().split(/\s/)[0]),
    table(token) {
      const row = (cells) => `<tr>${cells.map((cell) => this.tablecell(cell)).join("")}</tr>`;
      const body = token.rows.map(row).join("");
      return `<div class="table" tabindex="0"><table><thead>${row(token.header)}</thead><tbody>${body}</tbody></table></div>`;
    },
  },
});

/** Return the blocks of a text: what stands between empty lines, more or less. */
export function blocksOf(text) {
  return marked.lexer(text).filter((token) => token.type !== "space" && token.type !== "def");
}

/** Return the safe HTML of a block. */
export function blockHtml(block) {
  // Emphasis is looked for in time that grows faster than the text: a monster of a line is shown as it is.
  const isMonster = block.raw.length > LONGEST_INLINE && block.type !== "code";
  const written = isMonster ? `<p class="plain">${escape(block.raw)}</p>` : marked.parser([block]);
  return DOMPurify.sanitize(written, ALLOWED);
}

/** Return text as safe HTML that shows it. */
export function escape(text) {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

function link(href, shown) {
  return LINKED.test(href.trim()) ? `<a href="${escape(href.trim())}">${shown}</a>` : shown;
}

function codeBlock(text, language) {
  const head = `<div class="code-head"><span>${escape(language)}</span><button type="button" data-copy>Copy</button></div>`;
  return `<div class="code">${head}<pre tabindex="0"><code>${highlight(text, language) ?? escape(text)}</code></pre></div>`;
}
