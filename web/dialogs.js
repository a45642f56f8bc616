// The dialogs: the key of the server, and the help.

import { $, make } from "./dom.js";
import { t } from "./strings.js";

let asking = null;

/** Ask for the server's key. Returns whether one was given. Several requests that fail together ask once. */
export function askForKey(settings) {
  asking ??= ask(settings).finally(() => (asking = null));
  return asking;
}

function ask(settings) {
  const dialog = $("ask-key");
  const input = make("input", { type: "password", autocomplete: "off", required: true, id: "key" });
  const form = make("form", { method: "dialog" },
    make("h2", { id: "ask-key-title" }, t("keyNeeded")),
    make("p", {}, settings.key ? t("keyWrong") : t("keyText")),
    make("label", { htmlFor: "key" }, t("key")), input,
    make("div", { className: "actions" },
      make("button", { value: "cancel", formNoValidate: true }, t("cancel")),
      make("button", { value: "ok", className: "strong" }, t("ok"))));
  dialog.replaceChildren(form);
  dialog.returnValue = "";
  // Enter presses the first button of a form; here that is Cancel.
  input.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector("button[value=ok]"));
  });
  dialog.showModal();
  input.focus();
  return new Promise(resolve => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok" && input.value !== "";
      if (given) settings.set({ key: input.value });
      resolve(given);
    }, { once: true });
  });
}

const KEYS = [
  ["Ctrl+Enter", "keyContinue"], ["Esc", "keyStop"], ["Alt+R", "keyRetry"], ["Ctrl+Shift+Enter", "keyCompare"],
  ["Alt+1 … 4", "keyTake"], ["Ctrl+Z, Ctrl+Y", "keyUndo"], ["Alt+W", "keyWhy"], ["Alt+P", "keyColours"],
];

export function showHelp() {
  const dialog = $("help"), close = make("button", { className: "strong", textContent: t("close"), autofocus: true });
  close.addEventListener("click", () => dialog.close());
  const rows = KEYS.map(([keys, text]) =>
    make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, t(text))));
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, t("keys")), make("p", {}, t("keysText")), make("table", {}, ...rows),
    make("p", {}, t("inks")), make("p", {}, t("kept")), make("div", { className: "actions" }, close));
  dialog.showModal();
}
