// The conversations of one person, and what is under way in them. Draws nothing.
//
// A conversation is a list of turns; a turn is a question and the answers to it, of which one is shown. One that is kept
// elsewhere has no turns before it is opened.
import { describe, newAnswer, stream } from "./answering.js";
import { Observable } from "./observable.js";
import { BrowserStorage, ServerStorage } from "./storage.js";

const TYPING_MS = 200;

export class Conversations extends Observable {
  list = [];
  currentId = null;
  /** What went wrong when something was last kept or fetched, in words. */
  problem = null;
  #words = "";
  #found = null;
  #storage = null;
  #running = new Map();

  /** Find those of whoever is signed in, where the server says that they are kept. */
  static async open(me) {
    const made = new Conversations();
    const howLong = me.keeps_conversations;
    made.#storage = howLong ? new ServerStorage(howLong) : await BrowserStorage.open(me.key ?? "anyone");
    made.list = (await made.#storage.all()).sort((a, b) => b.updated - a.updated);
    for (const one of made.list) if (one.turns) endTurns(one.turns);
    addEventListener("pagehide", () => made.#keepRunning());
    return made;
  }

  /** Where they are kept: `from`, as in "goes from", and `said`, as a sentence. */
  get place() {
    return this.#storage.place;
  }

  /** Those that are looked for, or all. */
  get shown() {
    return this.#found ? this.list.filter((one) => this.#found.has(one.id)) : this.list;
  }

  get current() {
    return this.list.find((one) => one.id === this.currentId) ?? null;
  }

  isRunning(conversation) {
    return conversation !== null && this.#running.has(conversation.id);
  }

  /** Begin anew: there is a conversation once something is asked. */
  leave() {
    this.currentId = null;
    this.changed();
  }

  async select(id) {
    this.currentId = id;
    this.changed();
    await this.load(id);
    this.changed();
  }

  /** Return a conversation with all that was said; null where it is gone. */
  async load(id) {
    const conversation = this.list.find((one) => one.id === id);
    if (conversation?.turns) return conversation;
    return this.#try(async () => {
      const { created, turns } = await this.#storage.load(id);
      endTurns(turns);
      // It may have come meanwhile, and have been gone on with.
      if (!conversation.turns) Object.assign(conversation, { created, turns });
      return conversation;
    });
  }

  /** Ask the model a question, in the conversation that is open or a new one. */
  ask(question, model, files = []) {
    const conversation = this.current ?? this.#begin(question || files[0].name);
    conversation.turns.push({ question, files, answers: [], shown: 0 });
    return this.#answer(conversation, conversation.turns.length - 1, model);
  }

  /** Ask the same again, the same model or another; what was answered before stays beside it. */
  again(number, model) {
    return this.#answer(this.current, number, model, true);
  }

  /** Ask another question in place of one, and let go of what came after it. */
  edit(number, question, model) {
    const { current } = this;
    if (this.isRunning(current)) return undefined;
    const { files } = current.turns[number];
    current.turns.splice(number, Infinity, { question, files, answers: [], shown: 0 });
    return this.#answer(current, number, model);
  }

  show(number, place) {
    this.current.turns[number].shown = place;
    this.#keep(this.current);
  }

  stop() {
    this.#running.get(this.currentId)?.abort();
  }

  async rename(id, title) {
    const conversation = await this.load(id);
    if (!conversation) return;
    conversation.title = title.trim() || conversation.title;
    this.#keep(conversation);
  }

  remove(id) {
    this.#running.get(id)?.abort();
    this.list = this.list.filter((one) => one.id !== id);
    if (this.currentId === id) this.currentId = null;
    this.#try(() => this.#storage.remove(id));
    this.changed();
  }

  removeAll() {
    for (const running of this.#running.values()) running.abort();
    this.list = [];
    this.currentId = null;
    this.#try(() => this.#storage.clear());
    this.changed();
  }

  /** Note what was thought of an answer. */
  note(answer, rating) {
    Object.assign(answer, rating);
    this.#keep(this.current);
  }

  /** Look for words; what has them is shown, until others are looked for. */
  async search(words) {
    this.#words = words.trim();
    const wanted = this.#words;
    await new Promise((resolve) => setTimeout(resolve, TYPING_MS));
    const found = wanted && wanted === this.#words ? await this.#try(() => this.#storage.search(wanted, this.list)) : null;
    if (wanted !== this.#words) return;
    this.#found = found && new Set(found);
    this.changed();
  }

  #begin(question) {
    const title = question.replace(/\s+/g, " ").trim();
    const now = Date.now();
    const short = title.length > 60 ? `${title.slice(0, 59)}…` : title;
    const conversation = { id: newId(), title: short, created: now, updated: now, turns: [] };
    this.list.unshift(conversation);
    this.currentId = conversation.id;
    return conversation;
  }

  async #answer(conversation, number, model, again = false) {
    if (this.isRunning(conversation)) return;
    const turn = conversation.turns[number];
    const answer = newAnswer(model);
    // The same model would say the same again; another one says its likeliest.
    const drawn = again && turn.answers.some((one) => one.model === model && one.state !== "failed");
    turn.shown = turn.answers.push(answer) - 1;
    const control = new AbortController();
    this.#running.set(conversation.id, control);
    this.#keep(conversation);
    const messages = messagesOf(conversation.turns.slice(0, number + 1));
    await stream(answer, messages, { signal: control.signal, again: drawn, changed: () => this.changed() });
    this.#running.delete(conversation.id);
    this.#keep(conversation);
  }

  #keep(conversation) {
    conversation.updated = Date.now();
    this.list.sort((a, b) => b.updated - a.updated);
    this.changed();
    // Not when it was deleted meanwhile.
    if (this.list.includes(conversation)) this.#try(() => this.#storage.put(conversation));
  }

  /** Keep what has come of answers that the page is left in the midst of. */
  #keepRunning() {
    for (const id of this.#running.keys()) {
      const conversation = this.list.find((one) => one.id === id);
      if (conversation) this.#try(() => this.#storage.put(conversation, true));
    }
  }

  /** Return what comes of it; where it fails, say so, and return null. */
  async #try(work) {
    try {
      const found = await work();
      if (this.problem) this.#say(null);
      return found;
    } catch (error) {
      this.#say(describe(error).message);
      return null;
    }
  }

  #say(problem) {
    this.problem = problem;
    this.changed();
  }
}

/** Return turns as the API takes them; a turn without an answer is not a part of the conversation. */
export function messagesOf(turns) {
  const last = turns.length - 1;
  return turns.flatMap((turn, number) => {
    const asked = { role: "user", content: contentOf(turn) };
    if (number === last) return [asked];
    const said = turn.answers[turn.shown]?.text;
    return said ? [asked, { role: "assistant", content: said }] : [];
  });
}

/** Return a question with the texts of its files before it. */
export function contentOf({ question, files }) {
  const texts = files.map((file) => `File: ${file.name}\n\n${file.text}`);
  return [...texts, question].filter(Boolean).join("\n\n");
}

/** Have no answer wait for what a page that is gone was told. */
function endTurns(turns) {
  for (const answer of turns.flatMap((turn) => turn.answers)) {
    if (answer.state === "waiting" || answer.state === "streaming") answer.state = "stopped";
  }
}

function newId() {
  // Not `randomUUID`, which browsers have on HTTPS and localhost alone.
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
