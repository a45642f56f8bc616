// The open manuscript: saved as it is typed, changed by one tab only, its name and its history.

import { Manuscript } from "./manuscript.js";
import { Conflict, Store, Tabs, newId } from "./store.js";

const SAVE_EVERY = 300; // milliseconds, at least
const MOST_HISTORY = 200; // continuations that are kept

export class Desk {
  /** on: {opened, closing, readOnly, renamed, saved, failed, loses, copied, remembered, copyName}: what the page does at these events. */
  constructor(on) {
    Object.assign(this, { on, record: null, manuscript: new Manuscript(), readOnly: false, changes: 0, saved: 0 });
    this.listener = () => this.touch();
    this.tabs = new Tabs({
      asked: (id, since) => this.#isMine(id) && this.since < since && this.tabs.tell("held", id),
      held: id => id === this.record?.id && this.#setReadOnly(true),
      takenOver: id => this.#isMine(id) && this.#release(),
      released: id => id === this.waitingFor?.id && this.waitingFor.resolve(),
      saved: id => id === this.record?.id && this.readOnly && this.#reload(),
    });
    addEventListener("beforeunload", event => this.#unsaved && this.broken && event.preventDefault());
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", event => event.persisted && location.reload()); // another tab may have written since
    document.addEventListener("visibilitychange", () => document.hidden && this.save());
  }

  /** Open the storage, and the manuscript of this tab, else the newest, else a new one. */
  async start() {
    try {
      this.store = await Store.open();
    } catch (error) {
      this.broken = true;
      this.on.failed(error);
    }
    const records = await this.list();
    const record = records.find(({ id }) => id === location.hash.slice(1)) ?? records[0];
    this.#show(record ?? this.#blank(), !record);
  }

  async list() {
    if (!this.store) return [];
    await this.store.saveKept(this.on.copyName).catch(error => this.on.failed(error));
    return this.store.list();
  }

  get #unsaved() {
    return !this.readOnly && this.changes !== this.saved;
  }

  #isMine(id) {
    return id === this.record?.id && !this.readOnly;
  }

  #blank(fields = {}) {
    return { id: newId(), name: "", revision: 0, updated: Date.now(), prefix: "", history: [], ...fields };
  }

  /** A new manuscript with a text. */
  async create(fields = {}) {
    if (!(await this.#close())) return;
    this.#show(this.#blank(fields), true);
    if (fields.text) this.touch();
  }

  async open(id) {
    if (!(await this.#close())) return;
    const record = await this.store.get(id);
    if (record) this.#show(record);
  }

  /** Save before another manuscript is shown. False: it cannot be saved, and the person does not want to lose it. */
  async #close() {
    this.on.closing();
    await this.save();
    return !this.#unsaved || this.on.loses();
  }

  #show(record, isNew = false) {
    const { text, ink, sure, done, undone, ...rest } = record;
    this.record = rest;
    this.manuscript = new Manuscript({ text, ink, sure, done, undone });
    this.manuscript.listeners.add(this.listener);
    this.changes = this.saved = 0;
    history.replaceState(null, "", `#${record.id}`);
    this.on.opened();
    this.#setReadOnly(false);
    this.since = Date.now() + Math.random();
    if (!isNew) this.tabs.tell("asked", record.id, this.since);
  }

  #setReadOnly(readOnly) {
    this.readOnly = readOnly;
    this.on.readOnly(readOnly);
  }

  /** Another tab takes the manuscript over: it gets all that was written here. */
  async #release() {
    this.on.closing();
    await this.save();
    const { id } = this.record;
    this.#setReadOnly(true);
    this.tabs.tell("released", id);
  }

  /** Write on here. The other tab has half a second to save; if it sleeps, it makes a copy when it wakes. */
  async takeOver() {
    const { id } = this.record;
    const released = new Promise(resolve => (this.waitingFor = { id, resolve }));
    this.tabs.tell("takenOver", id);
    await Promise.race([released, new Promise(resolve => setTimeout(resolve, 500))]);
    const record = (await this.list()).find(record => record.id === id);
    if (record) this.#show(record, true);
  }

  /** A manuscript of its own with the same text. */
  async copy(name) {
    const { prefix, history } = this.record;
    await this.create({ ...this.manuscript.toJSON(), prefix, history, name });
  }

  async remove(id) {
    const isShown = id === this.record.id;
    if (isShown) {
      this.on.closing(); // it may have something to save, which would bring the manuscript back
      await this.save();
    }
    await this.store.remove(id);
    if (!isShown) return;
    this.changes = this.saved;
    const [next] = await this.list();
    this.#show(next ?? this.#blank(), !next);
  }

  /** Show what the tab that writes has saved. */
  async #reload() {
    const record = await this.store.get(this.record.id);
    if (!record || !this.readOnly) return;
    const { text, ink, sure } = record, shown = this.manuscript;
    Object.assign(this.record, { revision: record.revision, name: record.name });
    shown.listeners.delete(this.listener);
    shown.replace(0, shown.text.length, { text, ink, sure });
    shown.done = [];
    shown.listeners.add(this.listener);
    this.on.renamed();
  }

  rename(name) {
    this.record.name = name;
    this.touch();
  }

  setPrefix(prefix) {
    this.record.prefix = prefix;
    this.touch();
  }

  /** Keep a continuation: {time, model, text, ink, sure, used}. */
  remember(entry) {
    this.record.history.unshift(entry);
    this.record.history.length = Math.min(this.record.history.length, MOST_HISTORY);
    this.on.remembered();
    this.touch();
  }

  /** Something has changed: save it now, or soon if the last save was just before. */
  touch() {
    if (this.readOnly) return;
    this.changes++;
    clearTimeout(this.timer);
    const wait = Math.max(0, (this.lastSave ?? 0) + SAVE_EVERY - Date.now());
    if (wait) this.timer = setTimeout(() => this.save(), wait);
    else this.save();
  }

  #whole() {
    return { ...this.record, ...this.manuscript.toJSON(), writer: this.since };
  }

  #leave() {
    if (this.store && this.#unsaved) this.store.keep(this.#whole());
  }

  /** Save what has changed. One save runs at a time; it is followed by another if there was a change meanwhile. */
  async save() {
    if (this.saving) await this.saving;
    if (!this.store || !this.#unsaved) return;
    this.saving ??= this.#saveOnce().finally(() => (this.saving = null));
    await this.saving;
  }

  async #saveOnce() {
    const { record, changes } = this;
    this.lastSave = Date.now();
    try {
      record.revision = await this.store.save(this.#whole());
      if (record === this.record) this.saved = changes;
      this.broken = false;
      this.tabs.tell("saved", record.id);
      this.on.saved();
    } catch (error) {
      this.broken = !(error instanceof Conflict);
      if (this.broken) return this.on.failed(error);
      if (record === this.record) await this.#saveAsCopy();
    }
  }

  /** Another tab has the manuscript since this one slept. What was written here becomes a manuscript of its own. */
  async #saveAsCopy() {
    Object.assign(this.record, { id: newId(), revision: 0, name: this.on.copyName(this.record.name) });
    history.replaceState(null, "", `#${this.record.id}`);
    this.record.revision = await this.store.save(this.#whole());
    this.saved = this.changes;
    this.on.copied();
  }
}
