// The manuscripts in the browser's storage (IndexedDB), and which tab may change which.
//
// A record: {id, name, revision, writer, updated, text, ink, sure, done, undone, prefix, history}. Every save says on
// which revision it is based. So a tab never overwrites what another tab has saved, whatever they know of each other.

/** Another tab has saved since. */
export class Conflict extends Error {}

export class Store {
  /** Raises an error where the browser lets no page store anything. */
  static async open() {
    const request = indexedDB.open("novels", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("manuscripts", { keyPath: "id" });
    const store = new Store();
    store.database = await result(request);
    return store;
  }

  /** All records, the newest first. */
  async list() {
    const records = await result(this.#objects("readonly").getAll());
    return records.sort((a, b) => b.updated - a.updated);
  }

  /** A record; undefined where there is none. */
  get(id) {
    return result(this.#objects("readonly").get(id));
  }

  /** Save a record that is based on revision `record.revision`, or on one of the same writer. Raises Conflict. */
  async save(record) {
    const objects = this.#objects("readwrite");
    const saved = await result(objects.get(record.id));
    if (saved && saved.revision !== record.revision && saved.writer !== record.writer) throw new Conflict();
    const revision = (saved ?? record).revision + 1;
    objects.put({ ...record, revision, updated: Date.now() });
    await finished(objects.transaction);
    return revision;
  }

  /** Keep a record while the page is left: then the database has no time left, but this storage takes it at once. */
  keep(record) {
    const key = `kept ${record.id} ${record.writer}`;
    try {
      localStorage.setItem(key, JSON.stringify(record));
    } catch {
      localStorage.setItem(key, JSON.stringify({ ...record, done: [], undone: [] }));
    }
  }

  /** Save what was kept. copyName: the name of a record that is not based on what another tab has saved. */
  async saveKept(copyName) {
    for (const key of Object.keys(localStorage).filter(name => name.startsWith("kept "))) {
      const record = JSON.parse(localStorage.getItem(key));
      try {
        await this.save(record);
      } catch (error) {
        if (!(error instanceof Conflict)) throw error;
        await this.save({ ...record, id: newId(), revision: 0, name: copyName(record.name) });
      }
      localStorage.removeItem(key);
    }
  }

  async remove(id) {
    const objects = this.#objects("readwrite");
    objects.delete(id);
    await finished(objects.transaction);
  }

  #objects(mode) {
    return this.database.transaction("manuscripts", mode).objectStore("manuscripts");
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
}

export const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 8);

/** What the tabs of this browser tell each other about a manuscript. */
export class Tabs {
  /** on: {asked, held, takenOver, released, saved}: called with the id of a manuscript, for messages of other tabs. */
  constructor(on) {
    this.channel = new BroadcastChannel("novels");
    this.channel.onmessage = ({ data }) => on[data.message]?.(data.id, data.since);
  }

  /** message: asked (who writes it?), held (I do), takenOver (I do from now on), released, saved. */
  tell(message, id, since) {
    this.channel.postMessage({ message, id, since });
  }
}
