// What the person has chosen, kept in the browser.

export const PRESETS = {
  steady: { temperature: 0.6, top_p: 0.9, top_k: 0, min_p: 0.02, repetition_penalty: 1.05 },
  lively: { temperature: 1, top_p: 0.95, top_k: 0, min_p: 0, repetition_penalty: 1 },
  wild: { temperature: 1.15, top_p: 0.98, top_k: 0, min_p: 0.01, repetition_penalty: 1 },
};

export const DEFAULTS = {
  ...PRESETS.lively, model: "", length: 200, until: "length", number: 3, seed: 0, clickShows: true,
  fontSize: 19, theme: "", language: "", key: "",
};

/** The settings of one kind of number: lowest, highest, step. */
export const RANGES = {
  temperature: [0, 2, 0.05], top_p: [0.05, 1, 0.01], top_k: [0, 200, 1], min_p: [0, 0.5, 0.01],
  repetition_penalty: [1, 2, 0.01], length: [20, 2000, 10], number: [1, 4, 1], seed: [0, 999999, 1],
  fontSize: [15, 28, 1],
};

export class Settings {
  constructor() {
    this.listeners = new Set();
    try {
      Object.assign(this, DEFAULTS, JSON.parse(localStorage.getItem("settings") ?? "{}"));
    } catch {
      Object.assign(this, DEFAULTS);
    }
  }

  set(values) {
    Object.assign(this, values);
    const chosen = Object.fromEntries(Object.keys(DEFAULTS).map(name => [name, this[name]]));
    try {
      localStorage.setItem("settings", JSON.stringify(chosen));
    } catch {
      // Without storage they last until the page is closed.
    }
    for (const listener of this.listeners) listener(values);
  }

  /** The fields of a request that say how the next character is chosen. */
  get sampling() {
    const { model, temperature, top_p, top_k, min_p, repetition_penalty } = this;
    return { ...(model && { model }), temperature, top_p, top_k, min_p, repetition_penalty };
  }

  /** The fields that say how long a continuation is. */
  get extent() {
    if (this.until === "paragraph") return { max_tokens: 1000, stop: ["\n"] };
    if (this.until === "chapter") return { max_tokens: 4000, stop: ["[CLS]"] };
    return { max_tokens: this.length };
  }
}
