// Conversations, kept in this browser: a database for each key, so that two people at one machine do not meet.
// Where the browser keeps nothing (a private window), they last as long as the page.

const STORE = "conversations";

export class Storage {
  #database = null;

  static async open(owner) {
    const storage = new Storage();
    try {
      const opening = indexedDB.open(`quintet:${owner}`, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
      storage.#database = await done(opening);
    } catch (error) {
      console.info("conversations are not kept:", error.message);
    }
    return storage;
  }

  get keeps() {
    return this.#database !== null;
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

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
