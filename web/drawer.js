// The drawer at the right: one of its contents is open at a time.

import { $ } from "./dom.js";
import { t } from "./strings.js";

export class Drawer {
  constructor() {
    this.contents = {};
    this.current = null;
    $("close-drawer").addEventListener("click", () => this.close());
  }

  /** name: of the content, of its title and (open-NAME) of its button. build: a function that gives its elements. */
  add(name, build) {
    this.contents[name] = build;
    $(`open-${name}`).addEventListener("click", () => (this.current === name ? this.close() : this.open(name)));
  }

  open(name) {
    this.close(false);
    this.current = name;
    this.refresh();
    $("drawer").hidden = false;
    $(`open-${name}`).setAttribute("aria-expanded", "true");
    $("close-drawer").focus();
  }

  close(focus = true) {
    if (!this.current) return;
    const hadFocus = $("drawer").contains(document.activeElement);
    $("drawer").hidden = true;
    const button = $(`open-${this.current}`);
    button.setAttribute("aria-expanded", "false");
    if (focus && hadFocus) button.focus();
    this.current = null;
  }

  /** Make the content again: something in it has changed. */
  async refresh(name = this.current) {
    if (!name || name !== this.current) return;
    const elements = await this.contents[name]();
    if (name !== this.current) return;
    $("drawer").querySelector("h2").textContent = t(name);
    $("drawer").setAttribute("aria-label", t(name));
    const body = $("drawer-body"), { id, selectionStart, selectionEnd } = document.activeElement;
    const hadFocus = body.contains(document.activeElement);
    body.className = name;
    body.replaceChildren(...elements);
    if (!hadFocus || !id) return;
    $(id)?.focus(); // someone may be typing in it
    if (selectionStart != null) $(id)?.setSelectionRange(selectionStart, selectionEnd);
  }
}
