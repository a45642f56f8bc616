// The text of a manuscript: three strings of the same length. `text` has the characters, `ink` says who wrote each,
// `sure` how likely the model found each. Lengths and places are in UTF-16 units, as in every JavaScript string.

export const TYPED = "u", MODEL = "m";
export const UNKNOWN = " ", NONE = "-"; // in `sure`: not asked yet; the model does not write this character
const MOST_CHANGES = 400; // that can be undone

/** A piece of text by one hand. */
export function piece(text, ink = TYPED, sure = UNKNOWN.repeat(text.length)) {
  return { text, ink: ink.repeat(text.length), sure };
}

/** Two pieces as one. */
export function join(a, b) {
  return { text: a.text + b.text, ink: a.ink + b.ink, sure: a.sure + b.sure };
}

/** A part of a piece, or of a manuscript. */
export function slice({ text, ink, sure }, from, to) {
  return { text: text.slice(from, to), ink: ink.slice(from, to), sure: sure.slice(from, to) };
}

/** A log probability (natural logarithm) as one character: steps of a quarter, from "@". */
export function sureness(logprob) {
  return logprob === null ? NONE : String.fromCharCode(64 + Math.min(60, Math.round(-4 * logprob)));
}

/** The probability that such a character stands for; null: there is none. */
export function probability(sure) {
  return sure === UNKNOWN || sure === NONE ? null : Math.exp((64 - sure.charCodeAt(0)) / 4);
}

export class Manuscript {
  constructor({ text = "", ink = "", sure = "", done = [], undone = [] } = {}) {
    Object.assign(this, { text, ink, sure, done, undone });
    this.listeners = new Set();
    this.places = new Set();
  }

  /** Put a piece in the place of what stands from `from` to `to`. Changes of the same group are undone together. */
  replace(from, to, inserted, group = "") {
    if (from === to && !inserted.text) return;
    const change = { at: from, removed: slice(this, from, to), inserted, group };
    this.#apply(change);
    this.undone = [];
    const last = this.done.at(-1);
    if (group && last?.group === group && !change.removed.text && from === last.at + last.inserted.text.length) {
      last.inserted = join(last.inserted, inserted);
    } else if (group && last?.group === group && !inserted.text && !last.inserted.text && to === last.at) {
      last.at = from; // Backspace
      last.removed = join(change.removed, last.removed);
    } else if (group && last?.group === group && !inserted.text && !last.inserted.text && from === last.at) {
      last.removed = join(last.removed, change.removed); // Delete
    } else {
      this.done.push(change);
      if (this.done.length > MOST_CHANGES) this.done.shift();
    }
  }

  /** Undo the last group of changes. Returns where the cursor belongs; null: there is nothing to undo. */
  undo() {
    return this.#move(this.done, this.undone, ({ at, removed, inserted }) => [at, inserted, removed]);
  }

  /** The opposite of undo. */
  redo() {
    return this.#move(this.undone, this.done, ({ at, removed, inserted }) => [at, removed, inserted]);
  }

  #move(source, target, direction) {
    const group = source.at(-1)?.group;
    let cursor = null;
    while (source.length && (cursor === null || (group && source.at(-1).group === group))) {
      const change = source.pop(), [at, removed, inserted] = direction(change);
      this.#apply({ at, removed, inserted });
      target.push(change);
      cursor = at + inserted.text.length;
    }
    return cursor;
  }

  #apply(change) {
    const { at, removed, inserted } = change, end = at + removed.text.length;
    for (const field of ["text", "ink", "sure"]) {
      this[field] = this[field].slice(0, at) + inserted[field] + this[field].slice(end);
    }
    for (const place of this.places) place.at = moved(place.at, change, place.follows);
    for (const listener of this.listeners) listener(change);
  }

  /** Set how likely the characters from `from` are. This is no change that could be undone. */
  score(from, sure) {
    this.sure = this.sure.slice(0, from) + sure + this.sure.slice(from + sure.length);
    for (const listener of this.listeners) listener(null);
  }

  /** A place that moves with the text. follows: text that is inserted exactly there goes before it. */
  place(at, follows) {
    const place = { at, follows };
    this.places.add(place);
    return place;
  }

  toJSON() {
    const { text, ink, sure, done, undone } = this;
    return { text, ink, sure, done, undone };
  }
}

/** Where a place is after a change. */
export function moved(place, { at, removed, inserted }, follows) {
  if (place < at || (place === at && !follows)) return place;
  const end = at + removed.text.length;
  if (place >= end) return place + inserted.text.length - removed.text.length;
  return follows ? at + inserted.text.length : at;
}
