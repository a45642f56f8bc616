// Short names for what every part of the page does with the document. Text goes in as text only, never as HTML.

export const $ = id => document.getElementById(id);

/** An element with properties (or attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Is an input method at work? Then keys belong to it. Safari sends its last Enter after the composition (229). */
export const isComposing = event => event.isComposing || event.keyCode === 229;

/** 0.1234 -> "12%"; small values with more digits. */
export function percent(p) {
  const value = 100 * p;
  return value >= 10 ? `${value.toFixed(0)}%` : value >= 0.1 ? `${value.toFixed(1)}%` : value > 0 ? "<0.1%" : "0%";
}

/** Give the browser a file to save. */
export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
