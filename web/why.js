// "Why this character?": what the model might have written at a place. Choosing one rewrites the text from there.

import { $, make, percent } from "./dom.js";
import { MODEL, TYPED, piece, slice, sureness } from "./manuscript.js";
import { t } from "./strings.js";
import { newGroup, promptFields } from "./writer.js";

const COUNT = 50, SHOWN = 10;

export class Why {
  /** page: {api, settings, desk, editor, writer, status, models}. */
  constructor(page) {
    Object.assign(this, { page, panel: $("candidates"), list: $("candidates-list"), place: null });
    $("close-candidates").addEventListener("click", () => this.close());
    this.panel.addEventListener("keydown", event => this.#onKey(event));
  }

  get isOpen() {
    return !this.panel.hidden;
  }

  /** Show the candidates for the character at a place; at the end of the text for the next one. */
  async open(place, focus = false) {
    const { api, desk, status } = this.page, { text } = desk.manuscript;
    this.controller?.abort();
    this.controller = new AbortController();
    this.place = desk.manuscript.place(place, false);
    try {
      const body = { ...promptFields(this.page, text, place), count: COUNT };
      const { candidates } = await api.candidates(body, this.controller.signal);
      this.#show(candidates, characterAt(text, place));
      if (focus) this.list.querySelector("button:enabled")?.focus();
    } catch (error) {
      if (error.name !== "AbortError") status.failed(error);
    }
  }

  close() {
    this.controller?.abort();
    if (!this.isOpen) return;
    const hadFocus = this.panel.contains(document.activeElement);
    this.panel.hidden = true;
    this.page.editor.cover($("mark"), null);
    if (hadFocus) this.page.editor.focusAt(this.place.at);
  }

  #show(candidates, character) {
    const rank = candidates.findIndex(({ text }) => written(text) === character);
    const shown = candidates.slice(0, rank >= SHOWN ? SHOWN - 1 : SHOWN);
    if (rank >= SHOWN) shown.push(candidates[rank]);
    $("candidates-title").textContent = t(character ? "whyTitle" : "whyNext");
    $("candidates-about").textContent = character ? about(candidates, rank, character) : "";
    const largest = Math.max(...shown.flatMap(({ probability, filtered }) => [probability, filtered]));
    const titles = ["", t("before"), t("after")].map(text => make("span", {}, text));
    const columns = make("li", { className: "columns" }, ...titles);
    this.list.replaceChildren(columns, ...shown.map(one => this.#row(one, candidates.indexOf(one), rank, largest)));
    this.panel.hidden = false;
    const { editor } = this.page;
    editor.cover($("mark"), character ? this.place.at : null);
    this.#put(editor.rectOf(this.place.at));
  }

  #row(candidate, index, rank, largest) {
    const { probability, filtered } = candidate, label = nameOf(candidate.text);
    const both = [bar("before", probability / largest), bar("after", filtered / largest)];
    const button = make("button", { disabled: written(candidate.text) === null, className: filtered ? "" : "dropped" },
      make("span", { className: [...label].length > 2 ? "name long" : "name" }, label),
      make("span", { className: "bars" }, ...both),
      make("span", { className: "number" }, unseen(t("before")), percent(probability)),
      make("span", { className: "number after" }, unseen(t("after")), filtered ? percent(filtered) : "—"));
    if (index === rank) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.#choose(candidate));
    return make("li", { value: index + 1 }, button);
  }

  /** The text was scrolled. */
  follow() {
    if (this.isOpen) this.#put(this.page.editor.rectOf(this.place.at));
  }

  /** Put the panel below the character, above it, or beside it: where there is room. */
  #put({ left, right, top, bottom }) {
    const { style } = this.panel, { offsetWidth: width, offsetHeight: height } = this.panel;
    const below = bottom + 10, above = top - height - 10, lowest = innerHeight - height - 8;
    const beside = below > lowest && above < 8, sides = left > width + 32 ? left - width - 24 : right + 24;
    const x = beside ? sides : left - 40;
    style.left = `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`;
    style.top = `${Math.max(8, below <= lowest || beside ? Math.min(below, lowest) : above)}px`;
  }

  /** Write a candidate at the place, and go on from there. What stood there is kept in the history. */
  #choose({ text, probability }) {
    const { desk, editor, writer } = this.page, { manuscript } = desk, at = this.place.at, group = newGroup();
    this.close();
    if (desk.readOnly) return;
    writer.stop();
    const end = endOfRewrite(manuscript, at), removed = slice(manuscript, at, end), chosen = written(text);
    if (removed.text.trim()) desk.remember({ ...removed, time: Date.now(), model: "", replaced: true });
    manuscript.replace(at, end, piece(chosen, MODEL, sureness(Math.log(probability)).repeat(chosen.length)), group);
    editor.focusAt(at + chosen.length);
    writer.continue(at + chosen.length, group);
  }

  #onKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], side = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step && !side) return;
    event.preventDefault();
    if (step) {
      const buttons = [...this.list.querySelectorAll("button:enabled")], at = buttons.indexOf(document.activeElement);
      buttons.at((at + step + buttons.length) % buttons.length)?.focus();
    } else {
      const next = this.page.editor.step(this.place.at, side);
      if (next !== this.place.at) this.open(next, true);
    }
  }
}

/** What goes into the text for a token; null: a byte, which is no text alone. */
function written(text) {
  return text === "[CLS]" ? "\n\n" : /^<0x[0-9A-F]{2}>$/.test(text) ? null : text;
}

function nameOf(text) {
  if (written(text) === null) return `${t("byte")} ${text.slice(1, -1)}`;
  return { "\n": `↵ ${t("lineEnd")}`, "[CLS]": `¶ ${t("chapterEnd")}` }[text] ?? text;
}

function characterAt(text, place) {
  return place < text.length ? String.fromCodePoint(text.codePointAt(place)) : "";
}

function about(candidates, rank, character) {
  if (rank < 0) {
    const before = percent(candidates.at(-1).probability);
    return t("whyRank", { text: nameOf(character), n: candidates.length, before });
  }
  const { text, probability, filtered } = candidates[rank];
  return t("whyHere", { text: nameOf(text), before: percent(probability), after: percent(filtered) });
}

/** Where the text ends that a choice replaces: what the model wrote on; of what was typed, the paragraph. */
function endOfRewrite({ text, ink }, at) {
  let end = at;
  while (end < text.length && ink[end] === ink[at] && (ink[at] !== TYPED || text[end] !== "\n")) end++;
  return Math.max(end, Math.min(at + 1, text.length));
}

/** What only screen readers say. */
const unseen = text => make("span", { className: "unseen" }, ` ${text} `);

function bar(name, share) {
  const element = make("i", { className: name });
  element.style.width = `${100 * share}%`;
  return element;
}
