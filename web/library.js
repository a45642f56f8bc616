// The manuscripts in the drawer, files in and out, and the history of continuations.

import { $, download, make } from "./dom.js";
import { MODEL, piece } from "./manuscript.js";
import { countCharacters, decode, fileName, fromFile, fromMarkdown, toMarkdown } from "./prose.js";
import { number, t } from "./strings.js";

const MOST_BYTES = 30e6; // of a file

/** What a manuscript is called: its name, else its first line. */
export function nameOf({ name }, text) {
  return name || text.trim().split("\n")[0].slice(0, 20) || t("untitled");
}

function clock(time, dateStyle) {
  return new Date(time).toLocaleString(document.documentElement.lang, { dateStyle, timeStyle: "short" });
}

function button(key, action, className = "") {
  const element = make("button", { textContent: t(key), className });
  element.addEventListener("click", action);
  return element;
}

/** The elements of the drawer of manuscripts. page: {desk, drawer}. */
export async function manuscriptElements(page) {
  const { desk } = page;
  await desk.save();
  const records = await desk.list();
  const actions = make("div", { className: "actions" },
    button("new", () => desk.create(), "strong"), button("load", () => $("file").click()),
    button("saveText", () => saveText(page)), button("saveMarkdown", () => saveMarkdown(page)));
  const list = make("ul", { className: "records" }, ...records.map(record => recordItem(page, record)));
  return [actions, list, make("p", { className: "about" }, t("kept"))];
}

function recordItem({ desk, drawer }, record) {
  const name = nameOf(record, record.text), open = make("button", { className: "record" });
  const date = clock(record.updated, "medium");
  const count = t("characters", { n: number(countCharacters(record.text)) });
  open.append(make("strong", {}, name), make("small", {}, `${count} · ${date}`));
  if (record.id === desk.record.id) open.setAttribute("aria-current", "true");
  open.addEventListener("click", () => desk.open(record.id));
  const remove = button("remove", async () => {
    if (!confirm(t("removeSure", { name }))) return;
    await desk.remove(record.id);
    drawer.refresh();
  }, "quiet");
  remove.setAttribute("aria-label", `${t("remove")}: ${name}`);
  return make("li", {}, open, remove);
}

function saveText({ desk }) {
  const { text } = desk.manuscript;
  download(`${fileName(nameOf(desk.record, text))}.txt`, text.endsWith("\n") ? text : text + "\n", "text/plain");
}

function saveMarkdown({ desk }) {
  const { text } = desk.manuscript, name = nameOf(desk.record, text);
  download(`${fileName(name)}.md`, `# ${name}\n\n${toMarkdown(text)}`, "text/markdown");
}

/** A text file as a manuscript of its own. */
export async function loadFile({ desk, status }, file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes.length > MOST_BYTES || (bytes.includes(0) && bytes[0] < 0xfe)) {
    return status.banner("error", t("notText", { name: file.name }));
  }
  const name = file.name.replace(/\.(txt|md)$/i, ""), text = decode(bytes);
  const loaded = piece(/\.md$/i.test(file.name) ? fromMarkdown(text) : fromFile(text));
  await desk.create({ ...loaded, name });
  status.banner("notice", t("loaded", { name, n: number(countCharacters(loaded.text)) }));
}

/** The elements of the drawer of the history. page: {desk, editor}. */
export function historyElements(page) {
  const entries = page.desk.record.history.map(entry => historyItem(page, entry));
  return [
    make("p", { className: "about" }, t(entries.length ? "historyText" : "historyEmpty")),
    make("ol", { className: "continuations" }, ...entries),
  ];
}

function historyItem({ desk, editor }, { text, ink, sure, time, model, used, replaced }) {
  const state = used ? t("used") : replaced ? t("replaced") : "";
  const insert = button("insert", () => {
    const at = editor.cursor, inserted = { text, ink: ink ?? MODEL.repeat(text.length), sure };
    desk.manuscript.replace(at, at, inserted, `insert ${Date.now()}`);
    editor.focusAt(at + text.length);
  });
  insert.disabled = desk.readOnly;
  const about = make("small", {}, [clock(time, "short"), model, state].filter(x => x).join(" · "));
  return make("li", {}, make("p", { tabIndex: 0 }, text), make("div", {}, about, insert));
}
