// A question and its answers.
import { AnswerText, useCopied } from "./answer_text.js";
import { Feedback } from "./feedback.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { noteOn } from "./files.js";
import { Icon, IconButton } from "./icons.js";
import { AUTO, nameOf } from "./models.js";
import { Dot } from "./picker.js";
import { canSpeak, hush, speak } from "./speech.js";

export function Turn({ turn, number, session, isLast, isRunning, model }) {
  const [isEditing, setEditing] = useState(false);
  const answer = turn.answers[turn.shown];
  const edited = (question) => {
    setEditing(false);
    session.conversations.edit(number, question, model);
  };
  return html`<li class="turn">
    <div class="asked">
      ${isEditing
        ? html`<${Editing} question=${turn.question} done=${edited} cancel=${() => setEditing(false)} />`
        : html`${turn.question && html`<span class="hidden">You asked: </span><div class="question" dir="auto">${turn.question}</div>`}
          ${turn.files.length > 0 && html`<ul class="files">${turn.files.map((file) => html`<li key=${file.name}><${Icon} name="clip" /><span><strong dir="auto">${file.name}</strong> <span class=${file.tokens_left_out ? "bad" : "detail"}>${noteOn(file)}</span></span></li>`)}</ul>`}
          ${!isRunning && html`<div class="actions"><${QuestionCopy} text=${turn.question} />
            <${IconButton} icon="edit" label="Edit and ask again" class="edit-question" onClick=${() => setEditing(true)} /></div>`}`}
    </div>
    ${answer && html`<${Answer} key=${turn.shown} answer=${answer} turn=${turn} number=${number} session=${session} isLast=${isLast} isRunning=${isRunning} />`}
  </li>`;
}

function QuestionCopy({ text }) {
  const [isCopied, act] = useCopied(text);
  return html`<${IconButton} icon=${isCopied ? "check" : "copy"} label=${isCopied ? "Copied" : "Copy the question"} onClick=${act} />`;
}

function Editing({ question, done, cancel }) {
  const area = useRef(null);
  useEffect(() => {
    area.current.focus();
    area.current.setSelectionRange(question.length, question.length);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    if (area.current.value.trim()) done(area.current.value.trim());
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "Escape") cancel();
  };
  return html`<form class="editing" onSubmit=${submit}>
    <textarea ref=${area} aria-label="Edit your question" dir="auto" rows="2" defaultValue=${question} onKeyDown=${onKey}></textarea>
    <div class="buttons"><button type="button" onClick=${cancel}>Cancel</button><button type="submit" class="primary">Ask</button></div>
  </form>`;
}

function Answer({ answer, turn, number, session, isLast, isRunning }) {
  const isUnderWay = answer.state === "waiting" || answer.state === "streaming";
  const who = answer.department ?? answer.model;
  return html`<article class=${`answer ${answer.state}`} aria-busy=${isUnderWay} aria-label=${`Answer of ${nameOf(who)}`}>
    <header><${Dot} model=${who} /><span><strong>${nameOf(who)}</strong>${isUnderWay && answer.model === AUTO && !answer.department ? null : html` <span class="detail">${byWhom(answer)}</span>`}</span></header>
    <${AnswerText} text=${answer.text} isGrowing=${isUnderWay} />
    ${isUnderWay && !answer.text && html`<p class="thinking" aria-hidden="true"><i></i><i></i><i></i></p>`}
    <${Ending} answer=${answer} />
    ${isUnderWay ? html`<div class="actions"></div>` : html`<${Actions} answer=${answer} turn=${turn} number=${number} session=${session} isRunning=${isRunning} />`}
    ${answer.model === AUTO && answer.state === "done" && isLast && html`<${Routed} answer=${answer} number=${number} session=${session} isRunning=${isRunning} />`}
  </article>`;
}

function byWhom(answer) {
  if (answer.expert) return answer.expert;
  return answer.answeredBy && answer.answeredBy !== answer.model && answer.answeredBy !== answer.department ? answer.answeredBy : "";
}

/** What is to be said of how an answer ended, where it did not simply end. */
function Ending({ answer }) {
  if (answer.state === "stopped") return html`<p class="note">Stopped.</p>`;
  if (answer.state === "failed") {
    const { message, retryAfter } = answer.error;
    return html`<p class="problem" role="alert">${message}${retryAfter ? ` Try again in ${retryAfter} s.` : ""}</p>`;
  }
  if (answer.finish === "length") return html`<p class="note">The answer was longer than the page asks for, and ends here.</p>`;
  if (answer.finish === "content_filter") return html`<p class="note">The provider’s filter ended the answer.</p>`;
  return null;
}

function Actions({ answer, turn, number, session, isRunning }) {
  const { conversations } = session;
  const [isCopied, copyIt] = useCopied(answer.text);
  const place = turn.shown;
  const show = (to) => () => conversations.show(number, to);
  return html`<div class="actions">
    ${turn.answers.length > 1 && html`<span class="versions">
      <${IconButton} icon="left" label="The answer before" disabled=${place === 0} onClick=${show(place - 1)} />
      <span aria-label=${`Answer ${place + 1} of ${turn.answers.length}`}>${place + 1}/${turn.answers.length}</span>
      <${IconButton} icon="right" label="The next answer" disabled=${place === turn.answers.length - 1} onClick=${show(place + 1)} /></span>`}
    ${answer.text && html`<${IconButton} icon=${isCopied ? "check" : "copy"} label=${isCopied ? "Copied" : "Copy the answer"} onClick=${copyIt} />`}
    ${canSpeak && answer.text && html`<${Aloud} text=${answer.text} />`}
    <${IconButton} icon="retry" label="Ask again" disabled=${isRunning} onClick=${() => conversations.again(number, answer.model)} />
    ${answer.state === "done" && answer.requestId && answeredByAModel(answer) && html`<${Feedback} answer=${answer} conversations=${conversations} />`}
    ${answer.state === "done" && html`<span class="measures">${measures(answer)}</span>`}
  </div>`;
}

function Aloud({ text }) {
  const [isSpeaking, setSpeaking] = useState(false);
  useEffect(() => () => isSpeaking && hush(), [isSpeaking]);
  const toggle = () => {
    if (isSpeaking) hush();
    else speak(text, () => setSpeaking(false));
    setSpeaking(!isSpeaking);
  };
  return html`<${IconButton} icon=${isSpeaking ? "stop" : "speaker"} label=${isSpeaking ? "Stop reading aloud" : "Read aloud"} onClick=${toggle} />`;
}

/** Nobody can be rated for what the router itself says. */
function answeredByAModel(answer) {
  return answer.model !== AUTO || answer.answeredBy !== AUTO;
}

export function measures(answer) {
  const seconds = (ms) => `${(ms / 1000).toFixed(ms < 1000 ? 2 : 1)} s`;
  const parts = [answer.tokens && `${answer.tokens} tokens`, answer.totalMs && seconds(answer.totalMs), answer.cached && "from the cache"];
  return parts.filter(Boolean).join(" · ");
}

/** After `auto`: who it was, how sure that is, and the others, one click away. */
function Routed({ answer, number, session, isRunning }) {
  const others = session.models.filter((one) => one.isDepartment && one.ready && one.name !== answer.department);
  const first = others.filter((one) => one.name === answer.runnerUp);
  const offered = [...first, ...others.filter((one) => one.name !== answer.runnerUp)];
  // Nobody is ever quite sure.
  const sure = answer.probability === null ? "" : `${Math.min(99, Math.round(100 * answer.probability))}% sure`;
  return html`<div class="routed">
    <span>${answer.department ? html`Sent to <strong>${nameOf(answer.department)}</strong>, ${sure}. Ask another:` : "It is not clear which department this is for. Ask:"}</span>
    ${offered.map((one) => html`<button type="button" class="chip" key=${one.name} disabled=${isRunning} onClick=${() => session.conversations.again(number, one.name)}><${Dot} model=${one.name} />${nameOf(one.name)}</button>`)}
  </div>`;
}
