// Colours the text by how likely the model found each character. What was typed is scored by the model, too.

import { $, make } from "./dom.js";
import { NONE, UNKNOWN, sureness } from "./manuscript.js";
import { LEVELS } from "./paragraphs.js";
import { promptOf } from "./prose.js";
import { t } from "./strings.js";

const PAUSE = 1200; // milliseconds after the last change
const AT_ONCE = 8000; // characters that are scored by one request

export class Colours {
  /** page: {api, settings, desk, editor, status, models, writer}. */
  constructor(page) {
    Object.assign(this, { page, on: false });
  }

  toggle() {
    this.on = !this.on;
    $("colours").setAttribute("aria-pressed", String(this.on));
    this.page.editor.setColours(this.on);
    this.showLegend();
    this.#score();
  }

  showLegend() {
    const names = LEVELS.map((level, i) => (level ? `≥${100 * level}%` : `<${100 * LEVELS[i - 1]}%`));
    const swatches = names.map((name, i) => make("span", { className: `level-${i}` }, name));
    $("legend").replaceChildren(`${t("legend")} `, ...swatches);
    $("legend").hidden = !this.on;
  }

  /** The text has changed. */
  changed() {
    clearTimeout(this.timer);
    if (this.on) this.timer = setTimeout(() => this.#score(), PAUSE);
  }

  /** Another model finds other things likely. */
  forget() {
    const { manuscript } = this.page.desk;
    manuscript.score(0, UNKNOWN.repeat(manuscript.text.length));
    this.changed();
  }

  /** Score what has no score yet, part by part. */
  async #score() {
    const { desk, writer, status } = this.page;
    this.controller?.abort();
    const controller = (this.controller = new AbortController());
    try {
      while (this.on && !controller.signal.aborted && desk.manuscript.sure.includes(UNKNOWN)) {
        if (writer.busy || !(await this.#scorePart(desk.manuscript, controller.signal))) return this.changed();
      }
    } catch (error) {
      if (error.name !== "AbortError") status.failed(error);
    }
  }

  /** Returns whether the text is still the one that was scored. */
  async #scorePart(manuscript, signal) {
    const { api, settings, desk, models } = this.page, { text, sure } = manuscript;
    const first = sure.indexOf(UNKNOWN), last = Math.min(sure.lastIndexOf(UNKNOWN) + 1, first + AT_ONCE);
    const before = Math.max(0, first - (models.current?.context_window ?? 1024)); // what the model reads first
    const { prompt, source } = promptOf(text.slice(0, last), before);
    const scores = new Map();
    let at = 0;
    const { model } = settings.sampling;
    for (const token of await api.score({ ...(model && { model }), prompt, prefix: desk.record.prefix }, signal)) {
      for (const end = at + token.text.length; at < end; at++) scores.set(source[at], sureness(token.logprob));
    }
    if (manuscript !== desk.manuscript || text !== manuscript.text) return false;
    const scored = Array.from({ length: last - first }, (_, i) =>
      manuscript.sure[first + i] === UNKNOWN ? scores.get(first + i) ?? NONE : manuscript.sure[first + i]);
    manuscript.score(first, scored.join(""));
    return true;
  }
}
