// The sheet: shows a manuscript, and turns what the browser reports into changes of it.
//
// Typing, deleting and pasting are taken from the browser's events and done in the manuscript. Input methods must
// change the document themselves: then the text is read back from it.

import { isComposing } from "./dom.js";
import { moved, piece } from "./manuscript.js";
import { Paragraphs } from "./paragraphs.js";
import { withoutIndents } from "./prose.js";

const PAUSE = 1000; // milliseconds after which typing is a new step of undo

export class Editor {
  /** on: {undo, redo, composed, moved, clicked, dropped}: what the page does at these events. */
  constructor(root, on) {
    Object.assign(this, { root, on, composing: false, colours: false, readOnly: false, anchor: 0, focus: 0 });
    this.paragraphs = new Paragraphs(root);
    this.typing = { kind: "", at: 0, time: 0, group: "" };
    this.changed = change => this.#onChange(change);
    const listen = (name, method) => root.addEventListener(name, event => method.call(this, event));
    listen("beforeinput", this.#onBeforeInput);
    listen("input", this.#onInput);
    listen("paste", this.#onPaste);
    listen("copy", this.#onCopy);
    listen("cut", this.#onCopy);
    root.closest("main").addEventListener("drop", event => this.#onDrop(event)); // also beside the text
    listen("dragstart", event => event.preventDefault());
    listen("compositionstart", this.#onCompose);
    listen("compositionend", this.#onComposed);
    listen("click", this.#onClick);
    document.addEventListener("selectionchange", () => {
      if (this.manuscript) this.on.moved();
    });
  }

  /** Show another manuscript. */
  open(manuscript) {
    this.manuscript?.listeners.delete(this.changed);
    this.manuscript = manuscript;
    manuscript.listeners.add(this.changed);
    this.anchor = this.focus = manuscript.text.length;
    this.composing = false;
    this.paragraphs.clear();
    this.render();
  }

  setReadOnly(readOnly) {
    this.readOnly = readOnly;
    this.root.contentEditable = String(!readOnly);
    this.root.setAttribute("aria-readonly", String(readOnly));
  }

  setColours(colours) {
    this.colours = colours;
    this.render();
  }

  /** The end of the selection: where writing goes on. */
  get cursor() {
    return this.selected[1];
  }

  /** [from, to] of what is selected. */
  get selected() {
    this.#readSelection(); // the browser reports it late
    return [Math.min(this.anchor, this.focus), Math.max(this.anchor, this.focus)];
  }

  /** Select a part of the text, or put the cursor there. */
  select(from, to = from) {
    [this.anchor, this.focus] = [from, to];
    this.#showSelection();
  }

  focusAt(place) {
    this.root.focus({ preventScroll: true });
    this.select(place);
    this.reveal(place);
  }

  /** Show the manuscript as it is now. While an input method is at work the document is left alone. */
  render(change = null) {
    if (this.composing) this.behind = true;
    if (this.composing) return;
    this.paragraphs.show(this.manuscript, this.colours, this.behind ? null : change);
    this.behind = false;
    this.root.classList.toggle("blank", !this.manuscript.text);
    this.#showSelection();
  }

  #onChange(change) {
    if (change) {
      this.#readSelection(); // the browser may not have reported the newest one yet
      this.anchor = moved(this.anchor, change, true);
      this.focus = moved(this.focus, change, true);
    }
    this.render(change);
  }

  /** Put a text in the place of another, as if it were typed. kind: what belongs to one step of undo. */
  type(from, to, text, kind) {
    const now = performance.now(), { typing } = this;
    const near = typing.at === from || (kind === "delete" && typing.at === to);
    const goesOn = kind === typing.kind && now - typing.time < PAUSE && near;
    const group = goesOn ? typing.group : `${kind} ${Date.now()} ${now}`;
    this.manuscript.replace(from, to, piece(text), group);
    const at = from + text.length;
    this.typing = { kind: text.includes("\n") ? "" : kind, at, time: now, group };
    this.select(at);
    this.reveal(at);
  }

  #onBeforeInput(event) {
    if (isComposing(event) || /Composition/.test(event.inputType)) return;
    event.preventDefault(); // the manuscript changes, and the document after it
    const { inputType } = event;
    if (this.readOnly) return;
    if (inputType === "historyUndo") this.on.undo();
    else if (inputType === "historyRedo") this.on.redo();
    else if (inputType.startsWith("delete")) this.type(...this.#target(event), "", "delete");
    else if (/^insert(Paragraph|LineBreak)$/.test(inputType)) this.type(...this.#target(event), "\n", "insert");
    else if (/^insert(Text|ReplacementText|Transpose|FromYank)$/.test(inputType)) {
      const text = event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
      this.type(...this.#target(event), text.replaceAll("\0", ""), "insert");
    }
  }

  /** [from, to]: the part of the text that an input event replaces. */
  #target(event) {
    const [from, to] = this.selected;
    if (from === to && event.inputType === "deleteContentBackward") return [this.step(from, -1), from];
    if (from === to && event.inputType === "deleteContentForward") return [from, this.step(from, 1)];
    const [range] = event.getTargetRanges?.() ?? [];
    if ((from < to && event.inputType !== "insertReplacementText") || !range) return [from, to];
    const { startContainer, startOffset, endContainer, endOffset } = range;
    return [this.paragraphs.placeOf(startContainer, startOffset), this.paragraphs.placeOf(endContainer, endOffset)];
  }

  /** The place one character further, as a reader sees characters (an emoji with its skin colour is one). */
  step(place, direction) {
    const { text } = this.manuscript;
    const near = direction < 0 ? text.slice(Math.max(0, place - 40), place) : text.slice(place, place + 40);
    const characters = [...new Intl.Segmenter().segment(near)].map(({ segment }) => segment);
    return place + direction * (characters.at(direction < 0 ? -1 : 0)?.length ?? 0);
  }

  /** An input that was not ours to prevent: some keyboards and extensions change the document themselves. */
  #onInput() {
    if (!this.composing) this.#readBack();
  }

  /** A selection of several paragraphs is deleted here: browsers leave empty paragraphs of it. */
  #onCompose() {
    const [from, to] = this.selected;
    this.composition = `compose ${Date.now()}`;
    if (this.manuscript.text.slice(from, to).includes("\n")) {
      this.manuscript.replace(from, to, piece(""), this.composition);
      this.select(from);
    }
    this.composing = true;
  }

  #onComposed() {
    this.composing = false;
    this.#readBack(this.composition);
    this.on.composed();
  }

  /** Bring into the manuscript what the browser has done to the document. */
  #readBack(group = "") {
    const { manuscript, paragraphs } = this, before = manuscript.text;
    const lines = paragraphs.read(), now = lines.join("\n");
    const { focusNode, focusOffset } = document.getSelection(), inside = this.root.contains(focusNode);
    const at = Math.min(inside ? paragraphs.placeOf(focusNode, focusOffset, lines) : now.length, now.length);
    const shorter = Math.min(before.length, now.length);
    let tail = 0, head = 0; // what is the same; the cursor stands at the end of what is new
    while (tail < Math.min(shorter, now.length - at) && before.at(-1 - tail) === now.at(-1 - tail)) tail++;
    while (head < shorter - tail && before[head] === now[head]) head++;
    paragraphs.repair();
    this.behind = true;
    manuscript.replace(head, before.length - tail, piece(now.slice(head, now.length - tail)), group);
    this.render();
    this.select(at);
    this.reveal(at);
  }

  #onPaste(event) {
    event.preventDefault();
    const text = withoutIndents(event.clipboardData.getData("text/plain"));
    if (!this.readOnly && text) this.type(...this.selected, text, "paste");
  }

  #onCopy(event) {
    const [from, to] = this.selected;
    if (from === to) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", this.manuscript.text.slice(from, to));
    if (event.type === "cut" && !this.readOnly) this.type(from, to, "", "cut");
  }

  #onDrop(event) {
    event.preventDefault();
    this.on.dropped(event.dataTransfer, this.placeAt(event.clientX, event.clientY));
  }

  #onClick(event) {
    const place = this.characterAt(event.clientX, event.clientY);
    const [from, to] = this.selected;
    if (!this.composing && from === to) this.on.clicked(place, event);
  }

  #readSelection() {
    const { anchorNode, anchorOffset, focusNode, focusOffset } = document.getSelection();
    if (this.composing || !this.root.contains(anchorNode) || !this.root.contains(focusNode)) return;
    this.anchor = this.paragraphs.placeOf(anchorNode, anchorOffset);
    this.focus = this.paragraphs.placeOf(focusNode, focusOffset);
  }

  #showSelection() {
    if (this.composing || document.activeElement !== this.root) return;
    const { anchor, focus } = this;
    this.#readSelection();
    if (this.anchor !== anchor || this.focus !== focus || !document.getSelection().rangeCount) {
      [this.anchor, this.focus] = [anchor, focus];
      const nodes = [...this.paragraphs.nodeAt(anchor), ...this.paragraphs.nodeAt(focus)];
      document.getSelection().setBaseAndExtent(...nodes);
    }
  }

  /** The place in the text nearest to a point of the window; the end, where there is none. */
  placeAt(x, y) {
    const { offsetNode, offset } = document.caretPositionFromPoint?.(x, y) ?? {};
    const { startContainer, startOffset } = offsetNode ? {} : document.caretRangeFromPoint?.(x, y) ?? {};
    const node = offsetNode ?? startContainer;
    if (!node || !this.root.contains(node)) return this.manuscript.text.length;
    return this.paragraphs.placeOf(node, offset ?? startOffset);
  }

  /** The place of the character at a point of the window; null: there is none. */
  characterAt(x, y) {
    const near = this.placeAt(x, y);
    for (const place of [this.step(near, -1), near]) {
      const { left, right, top, bottom } = this.rectOf(place);
      const isLetter = /\S/.test(this.manuscript.text[place] ?? "");
      if (isLetter && left <= x && x <= right && top <= y && y <= bottom) return place;
    }
    return null;
  }

  /** Where the character at a place is in the window. At the end of a paragraph: where the next one would be. */
  rectOf(place) {
    const [node, offset] = this.paragraphs.nodeAt(place), range = document.createRange();
    const next = this.paragraphs.nodeAt(Math.min(this.step(place, 1), this.manuscript.text.length));
    range.setStart(node, offset);
    if (this.manuscript.text[place] && this.manuscript.text[place] !== "\n") range.setEnd(...next);
    const rects = range.getClientRects();
    const { list } = this.paragraphs;
    return rects[rects.length - 1] ?? list[this.paragraphs.indexAt(place)].element.getBoundingClientRect();
  }

  /** Lay an element over the character at a place; null: hide it. */
  cover(element, place) {
    element.hidden = place === null;
    if (place === null) return;
    const { left, top, width, height } = this.rectOf(place), sheet = element.offsetParent.getBoundingClientRect();
    Object.assign(element.style, { left: `${left - sheet.left}px`, top: `${top - sheet.top}px` });
    Object.assign(element.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Is a place in the part of the text that can be seen? */
  isVisible(place) {
    const { top, bottom } = this.rectOf(place), seen = this.root.closest("main").getBoundingClientRect();
    return bottom > seen.top && top < seen.bottom;
  }

  /** Scroll so that a place can be seen. */
  reveal(place) {
    const scroller = this.root.closest("main"), seen = scroller.getBoundingClientRect();
    const { top, bottom } = this.rectOf(place);
    if (bottom > seen.bottom - 48) scroller.scrollTop += bottom - seen.bottom + 96;
    else if (top < seen.top + 24) scroller.scrollTop -= seen.top + 48 - top;
  }
}
