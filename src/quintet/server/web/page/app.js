// The page, assembled: who is signed in, and which of its views is shown.
import { ApiError, get, key, onRefused } from "./api.js";
import { ChatView } from "./chat.js";
import { CompareView } from "./compare.js";
import { Conversations } from "./conversations.js";
import { Shortcuts } from "./dialogs.js";
import { ExpertsView } from "./experts.js";
import { html, render, useEffect, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { loadModels } from "./models.js";
import { OperationsView } from "./operations.js";
import { Sidebar } from "./sidebar.js";
import { SignIn } from "./signin.js";

const VIEWS = { chat: ChatView, compare: CompareView, experts: ExpertsView, operations: OperationsView };

function App() {
  const [session, setSession] = useState(null);
  const [problem, setProblem] = useState(null);
  const enter = () => {
    setProblem(null);
    return open().then(setSession, (error) => {
      setSession(null);
      setProblem(error);
    });
  };
  useEffect(() => {
    onRefused((error) => {
      setProblem(key.get() ? error : new ApiError(401, { code: "no_key" }));
      key.forget();
      setSession(null);
    });
    enter();
  }, []);
  const refresh = async () => {
    const models = session.mayAsk ? await loadModels() : [];
    setSession((before) => before && { ...before, models });
  };
  if (session) return html`<${Signed} session=${{ ...session, refresh }} leave=${() => { key.forget(); enter(); }} />`;
  return problem && html`<${SignIn} problem=${problem} enter=${enter} />`;
}

/** Ask who is here and whom they may ask, and find their conversations. */
async function open() {
  const server = await get("");
  if (server.needs_key && !key.get()) throw new ApiError(401, { code: "no_key" });
  const me = await get("api/me");
  const mayAsk = me.roles.includes("ask");
  const [models, conversations] = await Promise.all([mayAsk ? loadModels() : [], Conversations.open(me)]);
  document.title = `${me.company} · Quintet`;
  return { me, models, conversations, mayAsk, isAdmin: me.roles.includes("admin") };
}

function Signed({ session, leave }) {
  const [view, setView] = useState(viewOf(location.hash));
  const [isOpen, setOpen] = useState(false);
  const [helps, setHelps] = useState(false);
  useEffect(() => {
    const follow = () => {
      setView(viewOf(location.hash));
      setOpen(false);
    };
    const help = (event) => {
      if (event.key === "?" && !event.target.closest("input, textarea, [contenteditable]")) setHelps(true);
      if (event.key === "Escape") setOpen(false);
    };
    addEventListener("hashchange", follow);
    addEventListener("keydown", help);
    return () => {
      removeEventListener("hashchange", follow);
      removeEventListener("keydown", help);
    };
  }, []);
  const View = VIEWS[view];
  return html`<div class="app">
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the page</a>
    <${Sidebar} session=${session} view=${view} isOpen=${isOpen} close=${() => setOpen(false)} leave=${leave} help=${() => setHelps(true)} />
    ${isOpen && html`<div class="shade" onClick=${() => setOpen(false)}></div>`}
    <main id="main" tabindex="-1">
      <${View} session=${session} menu=${html`<${IconButton} icon="menu" label="Menu" class="menu-button" aria-expanded=${isOpen} onClick=${() => setOpen(true)} />`} />
    </main>
    ${helps && html`<${Shortcuts} close=${() => setHelps(false)} />`}
  </div>`;
}

function viewOf(hash) {
  const name = hash.replace(/^#\/?/, "").split("/")[0];
  return name in VIEWS ? name : "chat";
}

render(html`<${App} />`, document.body);
