// The side: the conversations, and the way to everything else.
import { Confirm } from "./dialogs.js";
import { download, toMarkdown } from "./exporting.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { useChanges } from "./observable.js";

const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };
const VIEWS = [
  { name: "chat", label: "Conversation", icon: "chat", isFor: (session) => session.mayAsk },
  { name: "compare", label: "Side by side", icon: "columns", isFor: (session) => session.mayAsk },
  { name: "experts", label: "Experts", icon: "chart", isFor: () => true },
  { name: "operations", label: "Operations", icon: "pulse", isFor: (session) => session.isAdmin },
];

export function Sidebar({ session, view, isOpen, close, leave, help }) {
  const { conversations, me } = session;
  useChanges(conversations);
  const [words, setWords] = useState("");
  const [deleting, setDeleting] = useState(null);
  const found = conversations.shown;
  const search = (event) => {
    setWords(event.target.value);
    conversations.search(event.target.value);
  };
  const begin = () => {
    conversations.leave();
    location.hash = "#/chat";
    close();
    document.getElementById("question")?.focus();
  };
  return html`<nav class=${`sidebar ${isOpen ? "open" : ""}`} aria-label="Conversations and views">
    <div class="brand">
      <img src="chat/icon.svg" width="28" height="28" alt="" />
      <span dir="auto">${me.company}</span>
      <${IconButton} icon="close" label="Close the menu" class="menu-button" onClick=${close} />
    </div>
    ${session.mayAsk && html`<button type="button" class="new" onClick=${begin}><${Icon} name="plus" />New conversation</button>
    <label class="search"><${Icon} name="search" /><span class="hidden">Search conversations</span>
      <input type="search" placeholder="Search" value=${words} onInput=${search} /></label>`}
    ${conversations.problem && html`<p class="problem" role="alert">${conversations.problem}</p>`}
    <div class="conversations" tabindex="-1">
      ${grouped(found).map(([day, list]) => html`<section key=${day} aria-label=${day}>
        <h2>${day}</h2>
        <ul>${list.map((one) => html`<${Entry} key=${one.id} conversation=${one} conversations=${conversations} remove=${() => setDeleting(one)} close=${close} />`)}</ul>
      </section>`)}
      ${words && !found.length && html`<p class="quiet">Nothing with “${words}”.</p>`}
      ${session.mayAsk && !words && !conversations.list.length && html`<p class="quiet">${conversations.place.said}</p>`}
    </div>
    <ul class="views">${VIEWS.filter((one) => one.isFor(session)).map((one) => html`<li key=${one.name}>
      <a href=${`#/${one.name}`} aria-current=${view === one.name ? "page" : undefined} onClick=${close}><${Icon} name=${one.icon} />${one.label}</a></li>`)}</ul>
    <div class="foot">
      <${Theme} />
      <${IconButton} icon="keys" label="Keyboard" onClick=${help} />
      ${conversations.list.length > 0 && html`<${IconButton} icon="trash" label="Delete all conversations" onClick=${() => setDeleting("all")} />`}
      ${me.key && html`<button type="button" class="leave" onClick=${leave} title=${`Signed in as ${me.name ?? me.key}`}><${Icon} name="leave" />Sign out</button>`}
    </div>
    ${deleting && html`<${Confirm}
      title=${deleting === "all" ? "Delete all conversations?" : "Delete this conversation?"}
      text=${deleting === "all" ? `All ${conversations.list.length} go from ${conversations.place.from}, and cannot be had back.` : `“${deleting.title}” goes from ${conversations.place.from}, and cannot be had back.`}
      action="Delete"
      confirmed=${() => (deleting === "all" ? conversations.removeAll() : conversations.remove(deleting.id))}
      close=${() => setDeleting(null)} />`}
  </nav>`;
}

function Entry({ conversation, conversations, remove, close }) {
  const [isRenaming, setRenaming] = useState(false);
  const [isOpen, setOpen] = useState(false);
  const entry = useRef(null);
  useEffect(() => {
    if (!isOpen) return undefined;
    const shut = (event) => {
      if (event.type === "keydown" ? event.key === "Escape" : !entry.current.contains(event.target)) setOpen(false);
    };
    addEventListener("pointerdown", shut);
    addEventListener("keydown", shut);
    return () => {
      removeEventListener("pointerdown", shut);
      removeEventListener("keydown", shut);
    };
  }, [isOpen]);
  const open = () => {
    conversations.select(conversation.id);
    location.hash = "#/chat";
    close();
  };
  const rename = (event) => {
    event.preventDefault();
    conversations.rename(conversation.id, entry.current.querySelector("input").value);
    setRenaming(false);
  };
  const save = async (ending, write) => {
    const whole = await conversations.load(conversation.id);
    if (whole) download(whole, ending, write(whole));
  };
  const menu = (act) => () => {
    setOpen(false);
    act();
  };
  if (isRenaming) {
    return html`<li ref=${entry}><form onSubmit=${rename}><input class="rename" aria-label="Title" maxlength="200" defaultValue=${conversation.title} dir="auto"
      ref=${(input) => input?.focus()} onBlur=${rename} onKeyDown=${(event) => event.key === "Escape" && setRenaming(false)} /></form></li>`;
  }
  return html`<li ref=${entry} class=${isOpen ? "open" : ""}>
    <button type="button" class="title" dir="auto" aria-current=${conversations.currentId === conversation.id ? "true" : undefined} onClick=${open}>${conversation.title}</button>
    <${IconButton} icon="more" label=${`More for “${conversation.title}”`} aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)} />
    ${isOpen && html`<div class="menu">
      <button type="button" onClick=${menu(() => setRenaming(true))}><${Icon} name="edit" />Rename</button>
      <button type="button" onClick=${menu(() => save("md", toMarkdown))}><${Icon} name="download" />Save as Markdown</button>
      <button type="button" onClick=${menu(() => save("json", (whole) => JSON.stringify(whole, null, 2)))}><${Icon} name="download" />Save as JSON</button>
      <button type="button" class="danger" onClick=${menu(remove)}><${Icon} name="trash" />Delete</button>
    </div>`}
  </li>`;
}

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(theme) + 1) % names.length];
  const change = () => {
    localStorage.setItem("quintet.theme", next);
    document.documentElement.dataset.theme = next;
    setTheme(next);
  };
  return html`<${IconButton} icon=${THEME_ICONS[theme] ?? "auto"} label=${`Colours: ${THEMES[theme]}. Change to: ${THEMES[next]}`} onClick=${change} />`;
}

/** Return conversations by how long ago they were, newest first. */
function grouped(conversations) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = (count) => midnight - count * 86_400_000;
  const groups = new Map();
  for (const one of conversations) {
    const day = one.updated >= midnight ? "Today" : one.updated >= days(1) ? "Yesterday" : one.updated >= days(7) ? "This week" : "Earlier";
    groups.set(day, [...(groups.get(day) ?? []), one]);
  }
  return [...groups];
}
