"""The texts in .json and .jsonl files: strings, or objects with a text, perhaps with a title."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from text.containers import printable
from text.encodings import counted, noted
from text.headings import ends_as_prose, parse

TEXT_FIELDS = "text content body chapter_content chapterContent paragraphs 正文 内容 內容 章节内容".split()
TITLE_FIELDS = (
    "chapter_title chapterTitle chapter_name chapterName 章节名 章名 title 标题 標題 heading chapter 章节 name".split()
)
MAX_TITLE = 100  # characters


class JsonTexts:
    """Finds the text in each item, and counts the fields that are not read."""

    def __init__(self):
        self.unread, self.read, self.empty, self.repeated = Counter(), Counter(), 0, 0
        self.before = {}  # the titles of the item before, by their fields

    def text(self, item, where: str) -> tuple[str, str]:
        """The text of an item and the title that begins it, if there is one. Raises ValueError, naming the place."""
        if isinstance(item, list) and item and all(isinstance(part, str) for part in item):
            item = "\n".join(item)
        if item is None or item == "" or item == {}:
            self.empty += 1
            return "", ""
        if isinstance(item, str):
            return whole_characters(item), ""
        if not isinstance(item, dict):
            raise ValueError(f'{where}: a string or {{"text": "..."}} is expected')
        return self.of_object(item, where)

    def of_object(self, item: dict, where: str) -> tuple[str, str]:
        key = text_field(item)
        if not key:
            raise ValueError(
                f'{where}: a string or {{"text": "..."}} is expected; its fields are {printable(", ".join(item))[:100]}'
            )
        value = item[key] or ""
        text = whole_characters("\n".join(value) if isinstance(value, list) else value)
        titles = {name: item[name].strip() for name in TITLE_FIELDS if is_title(item.get(name)) and name != key}
        title_key = title_field(titles, self.before)
        title = whole_characters(titles.get(title_key, ""))
        self.read.update([key, title_key] if title_key else [key])
        self.unread.update(name for name in item if name not in (key, title_key))
        self.before = titles
        if not title:
            self.repeated += bool(titles)
            return text, ""
        return with_title(title, text)

    def notes(self) -> list[str]:
        fields = ", ".join(f'"{printable(name)}"' for name in self.read)
        others = ", ".join(f'"{printable(name)}"'[:40] for name, _ in self.unread.most_common(5))
        return noted(
            {
                f"the text was taken from the fields {fields}": len(set(self.read) - {"text"}),
                f"not read: {counted(len(self.unread), 'other field')}: {others}": len(self.unread),
                f"left out: {counted(self.repeated, 'title')} that the item before has, too": self.repeated,
                f"left out: {counted(self.empty, 'empty item')}": self.empty,
            }
        )


def title_field(titles: dict[str, str], before: dict[str, str]) -> str:
    """The field with an item's title; "" when it has none of its own. before: the titles of the item before.

    One that the item before has, too, is the book's, or the chapter goes on: then another must be certainly a heading.
    """
    new = [name for name in titles if titles[name] != before.get(name)]
    certain = [name for name in new if (found := parse(titles[name])) and found[2]]
    full = [name for name in certain if len(titles[name].split()) > 1]  # 第一章 陨落
    first = [name for name in new if name == next(iter(titles))]
    return next(iter([*full, *first, *certain]), "")


def with_title(title: str, text: str) -> tuple[str, str]:
    """The text with its title as its first line, and that line."""
    begins = re.match(r"\s*" + r"\s*".join(map(re.escape, "".join(title.split()))), text)
    line = text.strip().split("\n")[0].strip()
    if begins and (line == begins[0].strip() or (len(line) <= MAX_TITLE and not ends_as_prose(line))):
        return text, line
    if begins and not text[begins.end() :][:1].isalnum():  # 第一章 风起 他走了。
        text, title = text[begins.end() :].lstrip(), begins[0].strip()
    return f"{title}\n{text}", title


def text_field(item: dict) -> str:
    """The field with the text: one of the usual names, or the only one that holds a string, or most of the text."""
    lengths = {key: text_length(value) for key, value in item.items() if text_length(value)}
    for name in TEXT_FIELDS:
        if name in lengths:
            return name
    for name in TEXT_FIELDS:
        if item.get(name, 0) in ("", None):
            return name
    others = {key: n for key, n in lengths.items() if key not in TITLE_FIELDS and isinstance(item[key], str)}
    longest = max(others, key=others.get, default="")
    further_inside = sum(total_length(value) for value in item.values() if isinstance(value, (list, dict)))
    return longest if longest and others[longest] > max(0.8 * sum(others.values()), further_inside) else ""


def text_length(value) -> int:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return sum(map(len, value))
    return len(value) if isinstance(value, str) else 0


def total_length(value) -> int:
    """Of all strings inside."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return len(value) if isinstance(value, str) else sum(map(total_length, inner))


def is_title(value) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_TITLE and "\n" not in value.strip()


def whole_characters(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)  # JSON can spell halves of characters


def items_of(source: str) -> list:
    """The items of a JSON text: of its list, of the list in its object, or of several JSON texts in a row.

    Files made by hand may have raw line breaks and control characters inside strings, and a comma after the last item.
    """
    values = parse_values(re.sub(r",\s*\]\s*$", "]", source))
    if len(values) > 1:
        return values
    value = values[0] if values else []
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = items_of_object(value)
    if not isinstance(value, list):
        raise ValueError('a list of strings is expected, ["...", "..."]')
    return list(flattened(value))


def flattened(items: list) -> Iterator:
    """The items, and in place of an object whose texts are further inside, such as a volume: its title and these."""
    for item in items:
        if isinstance(item, dict) and not text_field(item) and any(map(total_length, containers_in(item).values())):
            yield from [item[name] for name in TITLE_FIELDS if is_title(item.get(name))][:1]
            yield from flattened(items_of_object(item))
        else:
            yield item


def containers_in(item: dict) -> dict:
    return {key: value for key, value in item.items() if isinstance(value, (list, dict)) and value}


def items_of_object(value: dict) -> list:
    """An object with lists or objects of texts inside, one with a text, or one whose keys are titles."""
    inner, key = containers_in(value), text_field(value)
    objects = {name: v for name, v in inner.items() if isinstance(v, dict) or any(isinstance(i, dict) for i in v)}
    if key and (not objects or isinstance(value[key], str)) and text_length(value[key]) > 0:
        if isinstance(value[key], list) and not is_title(value.get("title")):
            return value[key]
        if not objects:
            return [value]
    are_titles = len(value) > 1 and not all(re.fullmatch("[a-z_]+", key) for key in value)  # not "train", "test"
    if are_titles and any(all(isinstance(v, kind) for v in value.values()) for kind in (str, list)) and not objects:
        return [{"title": title, "text": text} for title, text in value.items()]
    if not any(map(total_length, inner.values())):
        raise ValueError('a list of strings is expected, ["...", "..."]')
    most = max(map(total_length, inner.values()))
    longest = max(total_length(v) / len(v) for v in inner.values())
    texts = {k: v for k, v in inner.items() if total_length(v) >= min(0.05 * most, 0.2 * longest * len(v))}
    chosen = objects or texts  # not a list of tags
    return [item for v in chosen.values() for item in (v if isinstance(v, list) else items_of_object(v))]


def parse_values(source: str) -> list:
    """The JSON values in a text, one after the other. Raises ValueError."""
    decoder, values, at = json.JSONDecoder(strict=False), [], 0
    while match := re.compile(r"[\s\ufeff,]*(?=[^\s\ufeff,])").match(source, at):
        try:
            value, at = decoder.raw_decode(source, match.end())
        except RecursionError:
            raise ValueError("nested too deeply") from None
        values.append(value)
    return values


def table_names(line: str) -> list[str]:
    """The names of the columns in the first line of a .csv or .tsv."""
    return [name.strip().strip('"').strip().lower() for name in line.strip("\ufeff\r\n ").split(separator(line))]


def separator(line: str) -> str:
    return max("\t,;", key=line.count)


def table_rows(lines: Iterator[str]) -> Iterator[dict]:
    """The rows of a .csv or .tsv as objects. Raises ValueError."""
    first = next(lines, "")
    csv.field_size_limit(2**31 - 1)
    names = table_names(first)
    try:
        for row in csv.reader((line + "\n" for line in lines), delimiter=separator(first)):
            if any(row[len(names) :]):  # a text with separators and without quotes
                row[len(names) - 1 :] = [separator(first).join(row[len(names) - 1 :])]
            yield dict(zip(names, row))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def split_lines(blocks: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in blocks (split at "\\n" alone)."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest
