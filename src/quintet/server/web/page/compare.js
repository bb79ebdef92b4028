// One question to several models at once, their answers side by side, and a vote. Rounds last as long as the page.
import { AnswerText } from "./answer_text.js";
import { get } from "./api.js";
import { describe, newAnswer, stream } from "./answering.js";
import { Composer } from "./composer.js";
import { rate } from "./feedback.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { AUTO, BASE, nameOf } from "./models.js";
import { Observable, useChanges } from "./observable.js";
import { Dot, Picker } from "./picker.js";

const MOST = 4;

/** What is compared, kept while other views are shown. */
class Comparison extends Observable {
  models = [];
  rounds = [];
  #control = null;

  get isRunning() {
    return this.#control !== null;
  }

  choose(place, name) {
    this.models[place] = name;
    this.changed();
  }

  add(name) {
    this.models.push(name);
    this.changed();
  }

  remove(place) {
    this.models.splice(place, 1);
    this.changed();
  }

  async ask(question) {
    const round = { question, answers: this.models.map(newAnswer), vote: null, problem: null };
    this.rounds.unshift(round);
    this.#control = new AbortController();
    this.changed();
    const options = { signal: this.#control.signal, changed: () => this.changed() };
    // Each question stands alone: the answers before it are not all of one model.
    const messages = [{ role: "user", content: question }];
    await Promise.all(round.answers.map((answer) => stream(answer, messages, options)));
    this.#control = null;
    this.changed();
  }

  stop() {
    this.#control?.abort();
  }

  /** Rate the best answer up and the others down, each saying beside whom; null is a tie, and all are rated alike. */
  async vote(round, best, rating = "up") {
    const names = round.answers.map(nameOfAnswerer);
    try {
      await Promise.all(round.answers.map((answer, place) => {
        const others = names.filter((_, other) => other !== place).join(", ");
        const own = best === null ? rating : place === best ? "up" : "down";
        const said = best === null ? `a tie with ${others}` : place === best ? `better than ${others}` : `worse than ${names[best]}`;
        return rate(answer, own, { comment: `Side by side: ${said}` });
      }));
      Object.assign(round, { vote: best ?? rating, problem: null });
    } catch (error) {
      round.problem = describe(error).message;
    }
    this.changed();
  }
}

const comparisons = new WeakMap();

export function CompareView({ session, menu }) {
  const comparison = comparisonOf(session);
  useChanges(comparison);
  const [draft, setDraft] = useState("");
  const [versions, setVersions] = useState([]);
  const scroller = useRef(null);
  useEffect(() => {
    get("api/experts").then((found) => setVersions(versionsOf(found)), () => {});
  }, []);
  const models = [...session.models.filter((one) => one.name !== AUTO), ...versions];
  const free = models.find((one) => one.ready && !comparison.models.includes(one.name));
  const ask = (question) => {
    scroller.current.scrollTop = 0;
    comparison.ask(question);
  };
  return html`<div class="view compare">
    <header class="bar">${menu}<h1>Side by side</h1></header>
    <div class="contestants">
      ${comparison.models.map((name, place) => html`<div class="contestant" key=${place}>
        <${Picker} models=${models} value=${name} choose=${(chosen) => comparison.choose(place, chosen)} id=${`contestant-${place}`} label=${`Column ${place + 1}`} />
        ${comparison.models.length > 2 && html`<${IconButton} icon="close" label=${`Without ${nameOf(name)}`} onClick=${() => comparison.remove(place)} />`}
      </div>`)}
      ${comparison.models.length < MOST && free && html`<button type="button" class="add" onClick=${() => comparison.add(free.name)}><${Icon} name="plus" />Another</button>`}
    </div>
    <div class="scroller" ref=${scroller} tabindex="0" role="region" aria-label="Answers side by side">
      ${comparison.rounds.map((round, number) => html`<${Round} key=${comparison.rounds.length - number} round=${round} comparison=${comparison} />`)}
      ${!comparison.rounds.length && html`<div class="welcome"><h2>One question, several answers</h2>
        <p class="quiet">Ask a department beside the base that it was taught from, one version beside another, or an expert beside a provider’s model. All are asked at once, for their likeliest answer. Your vote goes into their feedback.</p></div>`}
    </div>
    <div class="composing"><${Composer} send=${ask} stop=${() => comparison.stop()} isRunning=${comparison.isRunning} draft=${draft} setDraft=${setDraft}
      placeholder="Ask them all" isReady=${comparison.models.length > 1} /></div>
  </div>`;
}

function Round({ round, comparison }) {
  const isDone = round.answers.every((answer) => answer.state === "done");
  return html`<section class="round-of" aria-label=${`Answers to: ${round.question}`}>
    <div class="question" dir="auto">${round.question}</div>
    <div class="columns">${round.answers.map((answer, place) => html`<${Column} key=${place} answer=${answer} isBest=${round.vote === place}
      vote=${isDone && round.vote === null ? () => comparison.vote(round, place) : null} />`)}</div>
    ${isDone && round.vote === null && html`<div class="votes"><span class="quiet">Or:</span>
      <button type="button" class="chip" onClick=${() => comparison.vote(round, null, "up")}>All are good</button>
      <button type="button" class="chip" onClick=${() => comparison.vote(round, null, "down")}>None is</button></div>`}
    ${round.vote !== null && html`<p class="note" role="status">${voted(round)} It is in their feedback.</p>`}
    ${round.problem && html`<p class="problem" role="alert">${round.problem}</p>`}
  </section>`;
}

function Column({ answer, isBest, vote }) {
  const isUnderWay = answer.state === "waiting" || answer.state === "streaming";
  return html`<article class=${`column ${isBest ? "best" : ""}`} aria-busy=${isUnderWay} aria-label=${`Answer of ${nameOf(answer.model)}`}>
    <header><${Dot} model=${answer.model} /><span><strong>${nameOf(answer.model)}</strong> <span class="detail">${[answer.expert !== answer.model && answer.expert, answer.cached && "from the cache"].filter(Boolean).join(" · ")}</span></span></header>
    <${AnswerText} text=${answer.text} isGrowing=${isUnderWay} />
    ${isUnderWay && !answer.text && html`<p class="thinking" aria-hidden="true"><i></i><i></i><i></i></p>`}
    ${answer.state === "failed" && html`<p class="problem" role="alert">${answer.error.message}</p>`}
    ${answer.state === "stopped" && html`<p class="note">Stopped.</p>`}
    <footer>
      <dl><div><dt>First token</dt><dd>${seconds(answer.firstMs)}</dd></div><div><dt>Total</dt><dd>${seconds(answer.totalMs)}</dd></div><div><dt>Tokens</dt><dd>${answer.tokens ?? "–"}</dd></div></dl>
      ${vote && html`<button type="button" class="vote" aria-label=${`${nameOf(answer.model)} is best`} onClick=${vote}><${Icon} name="up" />Best</button>`}
    </footer>
  </article>`;
}

function comparisonOf(session) {
  if (!comparisons.has(session.conversations)) {
    const made = new Comparison();
    const ready = session.models.filter((one) => one.ready && one.name !== AUTO).map((one) => one.name);
    const [first, second] = ready;
    made.models = ready.includes(BASE) ? [first, BASE] : [first, second].filter(Boolean);
    if (made.models[0] === BASE) made.models = [BASE];
    comparisons.set(session.conversations, made);
  }
  return comparisons.get(session.conversations);
}

/** Return every version as somebody to ask. */
function versionsOf(found) {
  return found.departments.flatMap(({ description, experts }) => experts.map((one) => ({
    name: one.expert, about: description, detail: `${one.method}${one.share ? ` · answers ${one.share}%` : " · not released"}`, ready: true,
  })));
}

function nameOfAnswerer(answer) {
  return answer.expert ?? answer.model;
}

function voted({ vote, answers }) {
  if (vote === "up") return "All are good.";
  return vote === "down" ? "None is good." : `${nameOf(answers[vote].model)} is best.`;
}

function seconds(ms) {
  return ms === undefined ? "–" : `${(ms / 1000).toFixed(2)} s`;
}
