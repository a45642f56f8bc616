// A manuscript as paragraphs, and the elements that show them. Only paragraphs that changed are made again.

import { make } from "./dom.js";
import { MODEL, probability, slice } from "./manuscript.js";
import { isHeading } from "./prose.js";

/** The lowest probability of each colour, from sure to very unsure. The last is for everything below. */
export const LEVELS = [0.5, 0.2, 0.05, 0.01, 0];

export class Paragraphs {
  constructor(root) {
    this.root = root;
    this.clear();
  }

  clear() {
    this.list = []; // {key, element, from, length, kind, nodes}
    this.ofElement = new WeakMap();
    this.root.replaceChildren();
  }

  /** Show a manuscript. colours: by probability, not by who wrote. change: the only one since the last time. */
  show(manuscript, colours, change = null) {
    const { list } = this, [first, end, from, to, shift] = this.#affected(manuscript, change);
    const old = list.slice(first, end), next = split(manuscript, from, to, colours, !first || !list[first - 1].length);
    const shorter = Math.min(next.length, old.length);
    let head = 0, tail = 0;
    while (head < shorter && old[head].key === next[head].key) head++;
    while (tail < shorter - head && old.at(-1 - tail).key === next.at(-1 - tail).key) tail++;
    const nextEnd = next.length - tail, oldEnd = old.length - tail; // of those that differ
    next.forEach((paragraph, i) => {
      const same = i < head ? old[i] : i >= nextEnd ? old[i - nextEnd + oldEnd] : null;
      paragraph.element = same ? same.element : i < oldEnd ? old[i].element : make("p");
      if (same) paragraph.nodes = same.nodes;
      else fill(paragraph, manuscript, colours);
      this.ofElement.set(paragraph.element, paragraph);
    });
    for (const { element } of old.slice(nextEnd, oldEnd)) element.remove();
    const after = (next[nextEnd] ?? list[end])?.element ?? null;
    for (const { element } of next.slice(oldEnd, nextEnd)) this.root.insertBefore(element, after);
    this.list = [...list.slice(0, first), ...next, ...list.slice(end)];
    if (shift) for (let i = first + next.length; i < this.list.length; i++) this.list[i].from += shift;
  }

  /** Which paragraphs a change can have changed: [first, end) of the list, from and to in the new text, the shift. */
  #affected({ text }, change) {
    const { list } = this;
    if (!change || !list.length) return [0, list.length, 0, text.length, 0];
    const shift = change.inserted.text.length - change.removed.text.length;
    const first = this.indexAt(change.at);
    const lastChanged = this.indexAt(change.at + change.removed.text.length);
    const end = Math.min(list.length, lastChanged + 2); // the next may have become a heading
    const last = list[end - 1];
    return [first, end, list[first].from, last.from + last.length + shift, shift];
  }

  /** The lines of the text as the browser has left them in the document. */
  read() {
    return [...this.root.childNodes].map(lineOf);
  }

  /** After the browser itself has changed the document: put the elements in order; `show` fills what was changed. */
  repair() {
    const { childNodes } = this.root;
    this.list.forEach((paragraph, i) => {
      const { element, nodes } = paragraph;
      if (childNodes[i] !== element || element.childNodes.length !== nodes) paragraph.key = null;
    });
    if (childNodes.length !== this.list.length || this.list.some(({ key }) => key === null)) {
      this.root.replaceChildren(...this.list.map(({ element }) => element));
    }
  }

  /** A place in the document -> a place in the text. lines: of the document, where they are not those of the list. */
  placeOf(node, offset, lines = null) {
    const { root } = this, { childNodes } = root;
    if (node === root && offset >= childNodes.length) return this.#startOf(childNodes.length, lines) - 1;
    let block = node === root ? childNodes[offset] : node;
    while (block.parentNode !== root) block = block.parentNode;
    const known = lines ? null : this.ofElement.get(block), range = document.createRange();
    range.setStart(block, 0);
    if (node === root) range.setEnd(block, 0);
    else range.setEnd(node, offset);
    const within = range.toString().length;
    if (known) return known.from + Math.min(within, known.length);
    return this.#startOf([...childNodes].indexOf(block), lines) + within;
  }

  /** Where a line begins in the text. */
  #startOf(index, lines) {
    return (lines ?? this.list).slice(0, index).reduce((sum, { length }) => sum + length + 1, 0);
  }

  /** A place in the text -> [node, offset] in the document. */
  nodeAt(place) {
    const { element, from } = this.list[this.indexAt(place)];
    let rest = place - from;
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (rest <= node.length) return [node, rest];
      rest -= node.length;
    }
    return [element, 0];
  }

  /** The number of the paragraph in which a place is. */
  indexAt(place) {
    let low = 0, high = this.list.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.list[middle].from <= place) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The paragraphs of a part of a manuscript. A key holds all on which an element depends. begins: is it a chapter's? */
function split(manuscript, start, stop, colours, begins) {
  let from = start;
  return manuscript.text.slice(start, stop).split("\n").map(text => {
    const to = from + text.length;
    const kind = !text ? "empty" : begins && isHeading(text) ? "heading" : "prose";
    const marks = colours ? manuscript.sure.slice(from, to) : manuscript.ink.slice(from, to);
    const paragraph = { key: `${kind}\n${text}\n${marks}\n${colours}`, from, length: text.length, kind };
    begins = !text;
    from = to + 1;
    return paragraph;
  });
}

/** Put a paragraph's text into its element: a node for each stretch that looks the same. */
function fill(paragraph, manuscript, colours) {
  const { element, from, length, kind } = paragraph, { text, ink, sure } = slice(manuscript, from, from + length);
  const nodes = [];
  for (let begin = 0, end; begin < length; begin = end) {
    const look = lookOf(begin);
    end = begin + 1;
    while (end < length && lookOf(end) === look) end++;
    const part = text.slice(begin, end);
    nodes.push(look ? make("span", { className: look }, part) : document.createTextNode(part));
  }
  if (!nodes.length) nodes.push(make("br")); // without it an empty paragraph has no height
  element.className = kind;
  element.replaceChildren(...nodes);
  paragraph.nodes = nodes.length;

  function lookOf(i) {
    if (!colours) return ink[i] === MODEL ? "by-model" : "";
    const p = probability(sure[i]);
    return p === null ? "" : `level-${LEVELS.findIndex(lowest => p >= lowest)}`;
  }
}

/** The text of a node as the browser left it; <br> is a line break, except at the end. */
function lineOf(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  let text = "";
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let inner = walker.nextNode(); inner; inner = walker.nextNode()) {
    if (inner.nodeType === Node.TEXT_NODE) text += inner.data;
    else if (inner.tagName === "BR" && inner !== node.lastChild) text += "\n";
  }
  return text;
}
