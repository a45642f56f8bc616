// Brings the parts of the page together: buttons, keys, language, theme.

import { Api } from "./api.js";
import { Choices } from "./choices.js";
import { Colours } from "./colours.js";
import { Desk } from "./desk.js";
import { $, isComposing } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Editor } from "./editor.js";
import { askForKey, showHelp } from "./dialogs.js";
import { historyElements, loadFile, manuscriptElements, nameOf } from "./library.js";
import { Models } from "./models.js";
import { countCharacters, withoutIndents } from "./prose.js";
import { settingsElements } from "./settings-drawer.js";
import { Settings } from "./settings.js";
import { Status } from "./status.js";
import { number, setLanguage, t, translate } from "./strings.js";
import { Why } from "./why.js";
import { Writer } from "./writer.js";

const page = {};
const { settings } = Object.assign(page, { settings: new Settings() });
setLanguage(settings.language);
translate();

page.api = new Api(() => settings.key, () => askForKey(settings));
page.editor = new Editor($("text"), {
  undo: () => travel("undo"), redo: () => travel("redo"), composed: () => page.writer.composed(), moved: showButtons,
  clicked: (place, event) => clicked(place, event), dropped: (data, place) => dropped(data, place),
});
page.models = new Models(page);
page.status = new Status(page);
page.choices = new Choices(index => page.writer.take(index), () => page.writer.dismiss());
page.writer = new Writer(page);
page.why = new Why(page);
page.colours = new Colours(page);
page.drawer = new Drawer();
addEventListener("pagehide", closing); // before the desk saves
page.desk = new Desk({
  opened, closing, readOnly, renamed: showName, saved: () => showSaved(true),
  copyName: name => t("copyOf", { name: name || t("untitled") }),
  failed: error => page.status.banner("error", t("storageFailed", { message: `${error.message ?? error} ` })),
  loses: () => confirm(t("loses")),
  copied: () => page.status.banner("warning", t("copied")), remembered: () => drawer.refresh("history"),
});
const { api, editor, models, status, writer, why, colours, drawer, desk } = page;

drawer.add("manuscripts", () => manuscriptElements(page));
drawer.add("history", () => historyElements(page));
drawer.add("settings", () => settingsElements(page));
models.listeners.add(() => drawer.refresh("settings"));
settings.listeners.add(changed => {
  if ("model" in changed) {
    status.showModel();
    colours.forget();
  }
  if ("fontSize" in changed) document.documentElement.style.setProperty("--font-size", `${settings.fontSize}px`);
  showOptions();
});

/** The desk shows another manuscript. */
function opened() {
  const { manuscript } = desk;
  editor.open(manuscript);
  manuscript.listeners.add(change => {
    if (change) {
      why.close();
      colours.changed();
    }
    showSize();
    showSaved(false);
  });
  $("name").value = desk.record.name;
  showName();
  showSize();
  colours.changed();
  drawer.refresh();
  editor.focusAt(manuscript.text.length);
}

/** The manuscript is about to be left: what is being written is finished first. */
function closing() {
  $("text").blur();
  writer.stop();
  writer.dismiss();
  why.close();
}

function readOnly(value) {
  editor.setReadOnly(value);
  $("name").disabled = value;
  if (value) {
    status.banner("elsewhere", t("elsewhere"), [
      [t("takeOver"), () => desk.takeOver()], [t("copy"), () => desk.copy(t("copyOf", { name: name() }))],
    ]);
  } else status.hideBanner("elsewhere");
  showButtons();
}

const name = () => nameOf(desk.record, desk.manuscript.text);

function showName() {
  if (document.activeElement !== $("name")) $("name").value = desk.record.name;
  $("name").placeholder = nameOf({ name: "" }, desk.manuscript.text);
  document.title = `${name()} · ${t("title")}`;
}

let counting;
function showSize() {
  clearTimeout(counting);
  counting = setTimeout(() => {
    $("size").firstChild.data = t("characters", { n: number(countCharacters(desk.manuscript.text)) });
    showName();
  }, 100);
  showButtons();
}

function showSaved(saved) {
  $("size").lastChild.data = saved ? ` · ${t("saved")}` : desk.store ? ` · ${t("saving")}` : "";
}

/** Which buttons can be used now. */
function showButtons() {
  const { busy } = writer, locked = desk.readOnly;
  $("continue").hidden = busy;
  $("stop").hidden = !busy;
  const atEnd = !desk.manuscript.text.slice(editor.cursor).trim();
  $("continue").lastElementChild.textContent = t(atEnd ? "continue" : "continueHere");
  for (const id of ["continue", "compare", "retry"]) $(id).disabled = locked || (busy && id === "compare");
  $("undo").disabled = locked || !desk.manuscript.done.length;
  $("redo").disabled = locked || !desk.manuscript.undone.length;
}
status.update = showButtons;

function showOptions() {
  $("until").value = settings.until;
  $("until").options[0].textContent = t("untilLength", { n: number(settings.length) });
  $("compare").lastElementChild.textContent = t("compare", { n: settings.number });
}

/** undo or redo. */
function travel(direction) {
  if (desk.readOnly) return;
  writer.stop();
  const at = desk.manuscript[direction]();
  if (at !== null) editor.focusAt(at);
}

let clickTimer;
function clicked(place, event) {
  clearTimeout(clickTimer);
  why.close();
  // A double click selects a word: it is not about this character.
  if (place !== null && event.detail === 1 && settings.clickShows && !writer.busy) {
    clickTimer = setTimeout(() => editor.selected[0] === editor.cursor && why.open(place), 250);
  }
}

function dropped(data, place) {
  const file = data.files[0];
  if (file) loadFile(page, file);
  else if (!desk.readOnly) editor.type(place, place, withoutIndents(data.getData("text/plain")), "drop");
}

function escape() {
  if (writer.busy) writer.stop();
  else if (why.isOpen) why.close();
  else if (writer.compared) writer.dismiss();
  else if (drawer.current) drawer.close();
  else return false;
  return true;
}

/** The command of a key, if it is one. */
function commandOf({ key, code, ctrlKey, metaKey, altKey, shiftKey, target }) {
  const control = ctrlKey || metaKey, field = target.matches("input, textarea, select");
  if (key === "Escape") return escape;
  if (control && key === "Enter") return () => (shiftKey ? writer.compare() : writer.continue());
  if (control && !altKey && code === "KeyS") return () => desk.save();
  if (control && !altKey && !field && code === "KeyZ") return () => travel(shiftKey ? "redo" : "undo");
  if (control && !altKey && !field && code === "KeyY") return () => travel("redo");
  if (!altKey || control) return null;
  if (/^Digit[1-4]$/.test(code) && writer.compared) return () => writer.take(Number(code.at(-1)) - 1);
  return { KeyR: () => writer.retry(), KeyW: openWhy, KeyP: () => colours.toggle() }[code] ?? null;
}

document.addEventListener("keydown", event => {
  if (isComposing(event) || document.querySelector("dialog[open]")) return;
  const command = commandOf(event);
  if (command && command() !== false) event.preventDefault();
});

function openWhy() {
  if (why.isOpen) why.close();
  else why.open(editor.selected[0], true);
}

const isDark = () => (settings.theme ? settings.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
const actions = {
  continue: () => writer.continue(), stop: () => writer.stop(), retry: () => writer.retry(),
  compare: () => writer.compare(),
  undo: () => travel("undo"), redo: () => travel("redo"), colours: () => colours.toggle(), why: openWhy,
  "open-help": showHelp,
  theme: () => {
    settings.set({ theme: isDark() ? "light" : "dark" });
    document.documentElement.dataset.theme = settings.theme;
  },
  language: () => {
    settings.set({ language: document.documentElement.lang === "en" ? "zh" : "en" });
    setLanguage(settings.language);
    showTexts();
  },
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
for (const element of document.querySelectorAll("footer button")) {
  element.addEventListener("mousedown", event => event.preventDefault()); // the cursor stays in the text
}
$("until").addEventListener("change", () => settings.set({ until: $("until").value }));
$("name").addEventListener("input", () => desk.rename($("name").value));
$("name").addEventListener("keydown", event => {
  if (event.key === "Enter" && !isComposing(event) && !event.ctrlKey) $("text").focus();
});
$("file").addEventListener("change", () => {
  if ($("file").files[0]) loadFile(page, $("file").files[0]);
  $("file").value = "";
});
document.addEventListener("visibilitychange", () => document.hidden || status.watch());
document.querySelector("main").addEventListener("dragover", event => event.preventDefault());
document.querySelector("main").addEventListener("scroll", () => why.follow());
addEventListener("resize", () => why.follow());
visualViewport?.addEventListener("resize", () => {
  // Where the keyboard of a phone covers the page instead of making it smaller.
  const covered = Math.max(0, innerHeight - visualViewport.height * visualViewport.scale);
  document.documentElement.style.setProperty("--covered", `${covered}px`);
});

/** All texts in the language of now. */
function showTexts() {
  translate();
  status.translate();
  showOptions();
  showSize();
  colours.showLegend();
  drawer.refresh();
}

$("size").append("", "");
showOptions();
await desk.start();
models.load();
status.watch();
