// What a text is to the page and to the model: paragraphs, headings, chapters, files.

const HEADING = /^\s*(第\s*[0-9０-９零〇一二三四五六七八九十百千两]+\s*[章回节卷集部篇]|[序楔][章子言]|引子|尾声|chapter\s)/i;
const BREAK = "* * *"; // Markdown's thematic break
const SENTENCE_END = /[。！？…”’」』!?.,，；;：:]$/;
const INDENT = /^[ \t\u3000\u00a0]+/;

/** May this paragraph, the first of a chapter, be its heading? */
export function isHeading(text) {
  return text.length > 0 && text.length <= 40 && (HEADING.test(text) || !SENTENCE_END.test(text));
}

/**
 * The prompt for a text, as the model was trained: [CLS] starts a chapter, no indents, no empty lines.
 *
 * `source[i]` is the place in the text of the prompt's unit i; -1: it stands nowhere. from: only what comes after this
 * place; 0 is the start of a chapter.
 */
export function promptOf(text, from = 0) {
  const source = [];
  let prompt = "";
  const add = (string, at) => {
    for (let i = 0; i < string.length; i++) source.push(at < 0 ? -1 : at + i);
    prompt += string;
  };
  let at = from, breaks = from === 0 ? 2 : 0;
  for (const line of text.slice(from).split("\n")) {
    const indent = at === from && from > 0 ? 0 : INDENT.exec(line)?.[0].length ?? 0;
    const content = line.slice(indent);
    if (content) {
      if (breaks > 1) add("[CLS]", -1);
      else if (breaks === 1) add("\n", at - 1);
      add(content, at + indent);
      breaks = 0;
    }
    at += line.length + 1;
    breaks += 1;
  }
  breaks -= 1; // the last line has no line break after it
  if (breaks > 1) add("[CLS]", -1);
  else if (breaks === 1) add("\n", text.length - 1);
  return { prompt, source };
}

/** A text without carriage returns and indents, which the page shows by itself. */
export function withoutIndents(text) {
  return text.replace(/\r\n?/g, "\n").replace(/\0/g, "").replace(/^[ \t\u3000\u00a0]+/gm, "").replace(/[ \t]+$/gm, "");
}

/** A text file's text as a manuscript: an empty line before each chapter, and nowhere else. */
export function fromFile(text) {
  const lines = withoutIndents(text).split("\n");
  const filled = lines.filter(line => line);
  const headings = filled.some(line => line.length <= 40 && HEADING.test(line));
  const spaced = lines.length > 1.5 * filled.length; // empty lines between paragraphs mean nothing
  const result = [];
  let empty = false;
  for (const line of lines) {
    const starts = line.length <= 40 && HEADING.test(line);
    if (line && result.length && (starts || (empty && !headings && !spaced))) result.push("");
    if (line) result.push(line);
    empty = !line;
  }
  return result.join("\n");
}

/** A Markdown file's text as a manuscript, where "## " marks chapters as in toMarkdown. */
export function fromMarkdown(text) {
  const lines = withoutIndents(text).split("\n").filter(line => line);
  const titled = lines.length > 0 && lines[0].startsWith("# ");
  if (!lines.some(line => line.startsWith("## "))) {
    const marked = lines.filter(line => line.startsWith("# "));
    if (!titled || marked.length > 1 || HEADING.test(lines[0].slice(2))) return fromFile(text); // not from toMarkdown
  }
  if (titled) lines.shift();
  const plain = line => (line === BREAK ? "" : line.replace(/^\\(?=[#>*+-]|\d+\.)/, ""));
  return lines.map(line => (line.startsWith("## ") ? `\n${line.slice(3)}` : plain(line))).join("\n").trimStart();
}

/** The text of a file's bytes: UTF-8 or UTF-16 by its mark, else UTF-8 if it is that, else GB18030. */
export function decode(bytes) {
  const [a, b] = bytes;
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    return new TextDecoder(a === 0xff ? "utf-16le" : "utf-16be").decode(bytes);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("gb18030").decode(bytes);
  }
}

/** Markdown: chapter headings marked, a break before a chapter without one, an empty line between paragraphs. */
export function toMarkdown(text) {
  const lines = text.split("\n");
  const marked = lines.map((line, i) => {
    if (!line) return i + 1 < lines.length && !isHeading(lines[i + 1]) ? BREAK : "";
    const heading = isHeading(line) && (i === 0 || !lines[i - 1]);
    return heading ? `## ${line}` : line.replace(/^([#>*+-]|\d+\.)/, "\\$1");
  });
  return marked.filter(line => line).join("\n\n") + "\n";
}

/** A name as a file may have it. */
export function fileName(name) {
  return name.replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_").trim() || "novel";
}

/** Characters of a text as a reader counts them: without spaces and line breaks. */
export function countCharacters(text) {
  return [...text.replace(/\s/g, "")].length;
}
