// Continue, stop, retry, several side by side: the requests to the model, and where their texts go.

import { ApiError } from "./api.js";
import { MODEL, UNKNOWN, join, piece, sureness } from "./manuscript.js";
import { promptOf } from "./prose.js";

const EMPTY = piece("");
const AS_FAST_AS_SHOWN = 16; // milliseconds between updates where the page cannot be seen
const SEEN = 4; // a prompt's length in context windows: characters before that are not sent

/** A continuation while it is written. */
class Run {
  constructor(manuscript, at, group) {
    this.manuscript = manuscript;
    this.start = manuscript.place(at, false);
    this.end = manuscript.place(at, true);
    this.group = group;
    this.controller = new AbortController();
    this.waiting = EMPTY; // not yet in the manuscript
    this.written = EMPTY; // all of it
    this.tokens = 0;
  }
}

export class Writer {
  /** page: {api, settings, desk, editor, status, choices, models}. */
  constructor(page) {
    Object.assign(this, { page, run: null, last: null, late: new Set(), seeds: 0 });
  }

  get busy() {
    return this.run !== null;
  }

  /** Write on at a place. group: of undo, when the continuation belongs to an earlier change. */
  async continue(at = this.page.editor.cursor, group = newGroup()) {
    const { desk, settings, status } = this.page;
    if (this.busy || desk.readOnly) return;
    this.dismiss();
    const run = (this.run = new Run(desk.manuscript, at, group));
    this.last = { manuscript: run.manuscript, start: run.start, end: run.end };
    status.began();
    let finish = null;
    try {
      finish = await this.#stream(run);
      if (!run.written.text && finish === "stop" && settings.until !== "length") {
        // The text stood at the end of a paragraph (or chapter) already. So the next one is written.
        this.#add(run, piece(settings.until === "chapter" ? "\n\n" : "\n", MODEL));
        this.#flush(run);
        this.seeds++; // the same seed could choose the same end again
        finish = await this.#stream(run);
      }
    } catch (error) {
      if (!run.controller.signal.aborted) status.failed(error);
    }
    this.#finish(run, finish);
  }

  async #stream(run) {
    const { settings } = this.page;
    let finish = null;
    for await (const event of this.#events(run, { ...settings.extent, ...this.#prompt(run.manuscript, run.end.at) })) {
      if (event.text) this.#add(run, pieceOf(event), event.tokens.length);
      finish = event.finish ?? finish;
    }
    return finish;
  }

  /** Several continuations of the same place, to choose from. */
  async compare(at = this.page.editor.cursor, group = newGroup()) {
    const { desk, settings, status, choices, editor } = this.page;
    if (this.busy || desk.readOnly) return;
    this.dismiss();
    const run = (this.run = new Run(desk.manuscript, at, group));
    this.last = { manuscript: run.manuscript, start: run.start, end: run.end, compared: true };
    run.choices = Array.from({ length: settings.number }, () => EMPTY);
    this.compared = run;
    choices.open(settings.number);
    editor.reveal(at);
    status.began();
    try {
      const body = { ...settings.extent, ...this.#prompt(run.manuscript, at), n: settings.number };
      for await (const event of this.#events(run, body)) {
        if (event.index === undefined) continue;
        const added = pieceOf(event);
        run.choices[event.index] = join(run.choices[event.index], added);
        choices.add(event.index, added.text, event.finish);
        run.tokens += event.tokens.length;
        status.progress(run);
      }
    } catch (error) {
      if (!run.controller.signal.aborted) status.failed(error);
    }
    this.#finish(run, "stop");
    if (this.compared === run) choices.finish();
  }

  /** Put one of the continuations into the text. The others are kept in the history. */
  take(index) {
    const run = this.compared;
    if (!run?.choices[index]?.text) return;
    this.stop();
    const chosen = run.choices[index];
    this.#close(index);
    run.manuscript.replace(run.end.at, run.end.at, chosen, run.group);
    this.page.editor.focusAt(run.end.at);
  }

  /** Take none of them. */
  dismiss() {
    if (!this.compared) return;
    if (this.run === this.compared) this.stop();
    this.#close(-1);
  }

  #close(taken) {
    const { choices } = this.compared;
    this.compared = null;
    choices.forEach((choice, i) => this.#remember(choice, i === taken));
    this.page.choices.close();
  }

  /** End the work, here and on the server. What was written stays. */
  stop() {
    const { run } = this;
    if (!run) return;
    run.controller.abort();
    this.#finish(run, "stopped");
  }

  /** Write the last continuation again: the text by the model that ends at the cursor, after a reload. */
  retry() {
    const { desk } = this.page;
    if (desk.readOnly) return;
    this.stop();
    this.dismiss();
    const [start, end] = this.#lastContinuation(), group = newGroup();
    const compared = this.last?.manuscript === desk.manuscript && this.last.compared;
    this.seeds++;
    desk.manuscript.replace(start, end, EMPTY, group);
    return compared ? this.compare(start, group) : this.continue(start, group);
  }

  /** [from, to]: where the last continuation stands, without what was typed directly before and after it. */
  #lastContinuation() {
    const { desk, editor } = this.page, { text, ink } = desk.manuscript;
    let from, to;
    if (this.last?.manuscript === desk.manuscript) {
      [from, to] = [this.last.start.at, this.last.end.at];
    } else {
      to = editor.cursor;
      const newest = desk.record.history.find(({ used }) => used)?.text;
      from = newest && text.slice(0, to).endsWith(newest) ? to - newest.length : startOfInk(desk.manuscript, to);
    }
    while (from < to && ink[to - 1] !== MODEL) to--;
    while (from < to && ink[from] !== MODEL) from++;
    return [from, to];
  }

  /** An input method has finished: what the model wrote meanwhile goes into the text. */
  composed() {
    for (const run of this.late) this.#flush(run);
  }

  #add(run, added, tokens = 0) {
    run.waiting = join(run.waiting, added);
    run.written = join(run.written, added);
    run.tokens += tokens;
    this.page.status.progress(run);
    if (run.scheduled) return;
    run.scheduled = true;
    if (document.hidden) setTimeout(() => this.#flush(run), AS_FAST_AS_SHOWN);
    else requestAnimationFrame(() => this.#flush(run));
  }

  /** Put into the manuscript what has been written since the last time, unless an input method is at work. */
  #flush(run) {
    const { editor } = this.page;
    run.scheduled = false;
    if (!run.waiting.text) return;
    if (editor.composing) {
      this.late.add(run);
      return;
    }
    this.late.delete(run);
    const follow = editor.isVisible(run.end.at), added = run.waiting;
    run.waiting = EMPTY;
    run.manuscript.replace(run.end.at, run.end.at, added, run.group);
    if (follow) editor.reveal(run.end.at);
    this.page.status.penAt(this.run === run ? run.end.at : null);
  }

  #finish(run, finish) {
    if (this.run !== run) return;
    this.run = null;
    if (!run.choices) {
      this.#flush(run);
      this.#remember(run.written, true);
    }
    this.page.status.ended(run, finish);
  }

  #remember({ text, sure }, used) {
    const { desk, models } = this.page;
    if (text.trim()) desk.remember({ time: Date.now(), model: models.current?.id ?? "", text, sure, used });
  }

  /** The text before a place as a request's fields. */
  #prompt(manuscript, at) {
    const { seed } = this.page.settings;
    return { ...promptFields(this.page, manuscript.text, at), ...(seed && { seed: seed + this.seeds }) };
  }

  /** The events of a request. Waits where the queue is full. */
  async *#events(run, body) {
    const { api, status } = this.page, { signal } = run.controller;
    body.max_tokens = Math.min(body.max_tokens, status.maxTokens ?? Infinity);
    for (;;) {
      try {
        for await (const event of api.complete(body, signal)) {
          if (event.queue !== undefined) status.queued(event.queue);
          else if (event.warnings) status.warn(event.warnings);
          else yield event;
        }
        return;
      } catch (error) {
        if (error.status !== 429) throw error;
        const seconds = error.retryAfter || 3;
        status.busy(seconds);
        await pause(seconds, signal);
      }
    }
  }
}

/** A request's fields for a place: the sampling settings, the pinned text, the prompt that a model can still see. */
export function promptFields({ settings, models, desk }, text, at) {
  const window = models.current?.context_window ?? 1024;
  const { prompt } = promptOf(text.slice(0, at), Math.max(0, at - SEEN * window));
  return { ...settings.sampling, prompt, prefix: desk.record.prefix };
}

/** What the model has written, with how likely it found each character. */
function pieceOf({ text, tokens }) {
  const sure = tokens.map(token => sureness(token.logprob).repeat(token.text.length)).join("");
  return piece(text, MODEL, sure.slice(0, text.length).padEnd(text.length, UNKNOWN));
}

/** Where the text by the model that ends at a place begins. */
function startOfInk({ ink }, end) {
  let start = end;
  while (start > 0 && ink[start - 1] === MODEL) start--;
  return start;
}

export const newGroup = () => `model ${Date.now()} ${Math.random()}`;

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => reject(new ApiError(0, { code: "stopped" })));
  });
}
