// Where conversations are kept. In this browser: a database for each key, so that two people at one machine do not meet;
// where the browser keeps nothing (a private window), they last as long as the page. Or on the server, where it says so.
import { get, key, send } from "./api.js";

const STORE = "conversations";
const PATH = "api/conversations";
// Browsers carry no more than 64 KiB for a page that is gone.
const KEPT_ALIVE_BYTES = 60_000;

/** Keeps conversations in the browser; all of them are at hand. */
export class BrowserStorage {
  #database = null;

  static async open(owner) {
    const storage = new BrowserStorage();
    try {
      const opening = indexedDB.open(`quintet:${owner}`, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
      storage.#database = await done(opening);
    } catch (error) {
      console.info("conversations are not kept:", error.message);
    }
    return storage;
  }

  get place() {
    return this.#database === null
      ? { from: "this page", said: "This browser keeps nothing: conversations end with the page." }
      : { from: "this browser", said: "Conversations are kept in this browser." };
  }

  /** Return the ids of those of a list that have the words in them. */
  search(words, list) {
    const wanted = words.toLocaleLowerCase();
    return list.filter((one) => textOf(one).includes(wanted)).map((one) => one.id);
  }

  async all() {
    return this.#database ? done(this.#database.transaction(STORE).objectStore(STORE).getAll()) : [];
  }

  async put(conversation) {
    await this.#write((store) => store.put(structuredClone(conversation)));
  }

  async remove(id) {
    await this.#write((store) => store.delete(id));
  }

  async clear() {
    await this.#write((store) => store.clear());
  }

  async #write(work) {
    if (this.#database) await done(work(this.#database.transaction(STORE, "readwrite").objectStore(STORE)));
  }
}

/** Keeps one key's conversations on the server; what was said in one is fetched when it is opened. */
export class ServerStorage {
  #writing = Promise.resolve();
  /** Whose they are, even when another key is signed in before an answer has ended. */
  #owner = key.header();

  constructor(howLong) {
    this.place = { from: "the server", said: `Conversations are kept on the server, until ${inWords(howLong)} after the last question.` };
  }

  async all() {
    const { conversations } = await get(PATH);
    return conversations;
  }

  load(id) {
    return get(`${PATH}/${id}`);
  }

  async search(words) {
    const { conversations } = await get(`${PATH}/search`, { json: { words } });
    return conversations.map((one) => one.id);
  }

  /** Write a conversation as it is now: after what is being written, or, as the page is left, at once. */
  put({ id, title, created, turns }, isLeft = false) {
    const body = JSON.stringify({ title, created, turns });
    const headers = { ...this.#owner, "Content-Type": "application/json" };
    // An answer that has just come is to be kept when the page is closed at once, too.
    const keepalive = new Blob([body]).size <= KEPT_ALIVE_BYTES;
    const write = () => send(`${PATH}/${id}`, { method: "PUT", body, headers, keepalive });
    return isLeft ? write() : this.#inTurn(write);
  }

  remove(id) {
    return this.#delete(`${PATH}/${id}`);
  }

  clear() {
    return this.#delete(PATH);
  }

  #delete(path) {
    return this.#inTurn(() => send(path, { method: "DELETE", headers: this.#owner, keepalive: true }));
  }

  /** Write one after the other: the last is to be what is kept. */
  #inTurn(work) {
    this.#writing = this.#writing.then(work, work);
    return this.#writing;
  }
}

const UNITS = { m: "minutes", h: "hours", d: "days", w: "weeks" };

function inWords(howLong) {
  return `${howLong.slice(0, -1)} ${UNITS[howLong.at(-1)]}`;
}

function textOf(conversation) {
  const said = conversation.turns.flatMap((turn) => [turn.question, ...turn.answers.map((one) => one.text)]);
  return [conversation.title, ...said].join("\n").toLocaleLowerCase();
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
