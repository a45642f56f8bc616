// Several continuations side by side, to click one.

import { $, make } from "./dom.js";
import { t } from "./strings.js";

export class Choices {
  /** take: called with the number of the card that was chosen, from 0. */
  constructor(take, dismiss) {
    this.take = take;
    $("dismiss").addEventListener("click", dismiss);
  }

  open(count) {
    this.cards = Array.from({ length: count }, (_, i) => this.#card(i));
    $("cards").replaceChildren(...this.cards.map(({ card }) => card));
    $("choices-hint").textContent = t("choicesHint", { n: count });
    $("choices").hidden = false;
  }

  close() {
    $("choices").hidden = true;
    $("cards").replaceChildren();
  }

  #card(index) {
    const text = make("p", { tabIndex: 0 });
    const button = make("button", { textContent: `${t("take")} ${index + 1}`, disabled: true });
    const card = make("article", { className: "card writing" }, text, button);
    card.addEventListener("click", () => this.take(index));
    return { card, text, button };
  }

  add(index, added, finish) {
    const { card, text, button } = this.cards[index];
    if (!$("choices").hidden) text.append(added.replace(/^\n+/, text.textContent ? "$&" : ""));
    button.disabled = !text.textContent;
    card.classList.toggle("writing", !finish);
    text.scrollTop = text.scrollHeight;
  }

  finish() {
    for (const { card, text } of this.cards) {
      card.classList.remove("writing");
      text.scrollTop = 0;
    }
  }
}
