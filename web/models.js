// The models that the server offers, and which one is used.

import { number, t } from "./strings.js";

export class Models {
  /** page: {api, settings, status}. */
  constructor(page) {
    Object.assign(this, { page, list: [], listeners: new Set() });
  }

  /** The model that writes: the chosen one, while it is there, else the server's default. */
  get current() {
    const { list } = this, chosen = this.page.settings.model;
    return list.find(({ id }) => id === chosen) ?? list.find(model => model.default) ?? list[0];
  }

  async load() {
    const { api, status } = this.page;
    try {
      this.list = await api.models();
      for (const listener of this.listeners) listener();
    } catch (error) {
      status.failed(error);
    }
    status.showModel();
  }
}

/** What is known of a model, in a line. */
export function factsOf({ parameters, context_window: window, step, bits_per_char: bits }) {
  const millions = parameters / 1e6, size = `${number(millions, millions < 10 ? 1 : 0)}M`;
  const values = { parameters: size, window: number(window), step: step === null ? "?" : number(step) };
  return t("facts", { ...values, bits: bits === null ? "" : t("bits", { n: number(bits, 2) }) });
}
