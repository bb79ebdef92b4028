// The conversation that is open: its turns, and the place to write the next question.
import { Composer } from "./composer.js";
import { Loading } from "./dialogs.js";
import { takenBy } from "./files.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { AUTO, nameOf } from "./models.js";
import { useChanges } from "./observable.js";
import { Dot, Picker } from "./picker.js";
import { Turn } from "./turn.js";

const CHOSEN = "quintet.model";
const NEAR = 80;

export function ChatView({ session, menu }) {
  const { conversations, models, mayAsk, me } = session;
  useChanges(conversations);
  const [model, setModel] = useChosen(models);
  const [draft, setDraft] = useState("");
  const current = conversations.current;
  const isRunning = conversations.isRunning(current);
  const scroller = useRef(null);
  const [isAtEnd, setAtEnd] = useFollowing(scroller, conversations.currentId);
  useKeys(conversations, isRunning);

  const ask = (question, files) => {
    setAtEnd(true);
    conversations.ask(question, model, files);
  };
  if (!mayAsk) {
    return html`<div class="view"><header class="bar">${menu}<h1>Conversation</h1></header>
      <p class="empty">This key administers, and may not ask. Sign in with one that has the role “ask” to have a conversation.</p></div>`;
  }
  const chooseAndWrite = (name) => {
    setModel(name);
    document.getElementById("question").focus();
  };
  return html`<div class="view chat">
    <header class="bar">${menu}<h1 class="hidden">${current?.title ?? "A new conversation"}</h1>
      <${Picker} models=${models} value=${model} choose=${chooseAndWrite} /></header>
    <div class="scroller" ref=${scroller} tabindex="0" role="region" aria-label="Conversation"
      onScroll=${(event) => setAtEnd(atEnd(event.currentTarget))}>
      ${current && !current.turns && !conversations.problem && html`<div class="turns"><${Loading} /></div>`}
      ${current
        ? current.turns && html`<ol class="turns">${current.turns.map((turn, number) => html`<${Turn} key=${number} turn=${turn} number=${number} session=${session}
            isLast=${number === current.turns.length - 1} isRunning=${isRunning} model=${model} />`)}</ol>`
        : html`<${Welcome} company=${me.company} models=${models} choose=${chooseAndWrite} model=${model} />`}
    </div>
    <div class="composing">
      ${!isAtEnd && current && html`<${IconButton} icon="down-arrow" label="To the newest" class="to-end" onClick=${() => setAtEnd(true)} />`}
      <${Composer} key=${conversations.currentId ?? "new"} send=${ask} stop=${() => conversations.stop()} isRunning=${isRunning}
        draft=${draft} setDraft=${setDraft} placeholder=${placeholderFor(model)} takesFiles hears=${me.hears} taken=${takenBy(current)} isReady=${models.some((one) => one.name === model && one.ready) && (!current || current.turns !== undefined)} />
    </div>
    <p class="hidden" role="status">${statusOf(current)}</p>
  </div>`;
}

function Welcome({ company, models, choose, model }) {
  const departments = models.filter((one) => one.isDepartment);
  return html`<div class="welcome">
    <h2 dir="auto">What would you like to ask ${company}?</h2>
    <ul>${departments.map((one) => html`<li key=${one.name}><button type="button" disabled=${!one.ready} aria-pressed=${one.name === model} onClick=${() => choose(one.name)}>
      <${Dot} model=${one.name} /><span><strong>${nameOf(one.name)}</strong><span class="about" dir="auto">${one.about}</span>
      ${!one.ready && html`<span class="detail why">${one.why}</span>`}</span></button></li>`)}</ul>
    ${!departments.length && html`<p class="quiet">Your key opens no department yet.</p>`}
  </div>`;
}

function placeholderFor(model) {
  if (model === null) return "Nobody can be asked yet";
  return model === AUTO ? "Ask anything" : `Ask ${nameOf(model)}`;
}

/** The model that is chosen, remembered for the next time; `auto` to begin with. */
function useChosen(models) {
  const first = () => {
    const kept = localStorage.getItem(CHOSEN);
    const ready = models.filter((one) => one.ready);
    return (ready.find((one) => one.name === kept) ?? ready.find((one) => one.name === AUTO) ?? ready[0])?.name ?? null;
  };
  const [model, setModel] = useState(first);
  const choose = (name) => {
    localStorage.setItem(CHOSEN, name);
    setModel(name);
  };
  return [model, choose];
}

/** Follow what is written, for as long as the reader is at the end. */
function useFollowing(scroller, conversation) {
  const [isAtEnd, setAtEnd] = useState(true);
  useEffect(() => setAtEnd(true), [conversation]);
  useLayoutEffect(() => {
    if (isAtEnd && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  });
  return [isAtEnd, setAtEnd];
}

function atEnd(element) {
  return element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
}

function useKeys(conversations, isRunning) {
  useEffect(() => {
    const onKey = (event) => {
      const isTyping = event.target.closest("input, textarea, [role=listbox], dialog");
      if (event.key === "Escape" && isRunning) conversations.stop();
      else if (event.altKey && event.code === "KeyN") conversations.leave();
      else if (event.altKey && event.code === "KeyM") document.getElementById("picker").click();
      else if (event.key === "/" && !isTyping) document.getElementById("question").focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [conversations, isRunning]);
}

/** What is told to those who do not see the answer come. */
function statusOf(conversation) {
  const turn = conversation?.turns?.at(-1);
  const answer = turn?.answers[turn.shown];
  if (!answer) return "";
  const who = nameOf(answer.department ?? answer.model);
  const said = { waiting: `${who} is thinking`, streaming: `${who} is answering`, stopped: "The answer was stopped", failed: answer.error?.message };
  return said[answer.state] ?? `${who} has answered`;
}
