"""
Cut a text into chapters, before its headings.

    finder = HeadingFinder()
    for block in blocks:                  # each holds whole lines
        finder.feed(block)
    headings = find_headings(finder.lines, finder.size)
    parts = plan(headings, finder.documents, finder.size)

A book's headings are lines that share a form and whose numbers count up (text/numbering.py), parts without a number
(楔子, 番外), and lines that the file itself marks as headings. A text without headings is cut into pieces of about the
same size.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from text.headings import Line, candidates, ending_title, may_end, parse
from text.numbering import MIN_BODY, Count, choose, count_up, explains, filled

MIN_CONTENTS = 5  # so many headings in a row with no text between them are a table of contents
LONG = 5  # times the usual length of a chapter: so long a stretch without headings is searched for other forms
MAX_CHAPTER = 30_000  # characters: without headings, what is longer is cut
MAX_TITLES, MOST_TITLES = 5, 0.4  # lines of a document that may be marked as headings, and which share of it
MAX_PARAGRAPH = 1_000  # bytes: what is longer, in a list of texts, may be a chapter
PIECE = 5_000  # characters: the size of the pieces into which it is cut
SENTENCE_END = re.compile("[。！？!?…]+[”’」』）)]*")


class HeadingFinder:
    """Collects the lines that may be headings, and the places where documents begin."""

    def __init__(self, heading: re.Pattern | None = None):
        """heading: only lines in which it is found are headings."""
        self.heading = heading
        self.lines: list[Line] = []
        self.size = 0  # of the text so far, in bytes
        self.documents: list[tuple[int, bool]] = []  # where they begin, and whether a file begins there
        self.has_text = False  # is there text since the last line of the list?

    def begin_document(self, first_of_file: bool) -> None:
        self.documents.append((self.size, first_of_file))

    def feed(self, block: str) -> None:
        """Take in a block of whole lines."""
        at = offset = 0  # the same place in characters and in bytes
        for start, end in candidates(block, self.heading):
            text = block[start:end]
            parsed = ("", None, True) if self.heading else parse(text.strip())
            if parsed is None:
                continue
            between = block[at:start]
            self.has_text |= bool(between) and not between.isspace()
            begin = offset + len(between.encode())
            at, offset = end + 1, begin + len(text.encode()) + 1
            places = self.size + begin, self.size + offset
            self.lines.append(Line(*places, text.strip(), *parsed, self.heading is not None, self.has_text))
            self.has_text = False
        rest = block[at:]
        self.has_text |= bool(rest) and not rest.isspace()
        self.size += offset + len(rest.encode())

    def add_titles(self, start: int, text: str, titles: set[str]) -> None:
        """Take lines, which a document itself marks as headings, into the list. text: of the document, from start."""
        found = {line.start: line for line in title_lines(start, text, titles)}
        if not found or len(found) > max(MAX_TITLES, MOST_TITLES * text.count("\n")):
            return  # none, or a book in which everything is marked
        first = bisect_left(self.lines, start, key=lambda line: line.start)
        places = found | {line.start: line for line in self.lines[first:]}
        for at in found:
            places[at].certain = places[at].is_marked = True
        self.lines[first:] = [places[at] for at in sorted(places)]
        own, data = self.lines[first:], text.encode()
        own[0].has_text_before |= bool(data[: own[0].start - start].strip())
        for before, line in pairwise(own):
            line.has_text_before = bool(data[before.end - start : line.start - start].strip())


def title_lines(start: int, text: str, titles: set[str]) -> Iterator[Line]:
    for raw in text.splitlines(keepends=True):
        end = start + len(raw.encode())
        if raw.strip() in titles:
            yield Line(start, end, raw.strip(), "", None, True)
        start = end


# -- the headings of a book -------------------------------------------------------------------------------------------


@dataclass
class Headings:
    lines: list[Line]
    counts: list[Count] = field(default_factory=list)  # the forms that were found, the one with most chapters first

    def inside(self, ranges: list[tuple[int, int]]) -> "Headings":
        """Those in some parts of the text, from start to end in bytes, ascending."""
        starts = [line.start for line in self.lines]
        inside = {at for start, end in ranges for at in starts[bisect_left(starts, start) : bisect_left(starts, end)]}
        counts = [part for count in self.counts if (part := count.only(inside)).lines]
        return Headings([line for line in self.lines if line.start in inside], counts)


def find_headings(lines: list[Line], size: int) -> Headings:
    """Those of the lines that are headings. size: of the text, in bytes."""
    lines = without_endings(lines)
    contents = table_of_contents(lines)
    often = Counter(line.text for line in lines if line.text.startswith("作者"))  # 作者的话 under each chapter
    numbered = [line for i, line in enumerate(lines) if line.value is not None and i not in contents]
    chosen = choose_between(numbered, 0, size)
    kept = {line.start for count in chosen for line in count.lines}
    kept |= {
        line.start
        for i, line in enumerate(lines)
        if line.is_marked or (line.certain and (i in contents or (line.value is None and often[line.text] <= 5)))
    }
    others = in_stretches(numbered, stretches(kept, size))
    kept |= {line.start for count in others for line in count.lines}
    return Headings(only(lines, kept), chosen + others)


def choose_between(lines: list[Line], start: int, end: int) -> list[Count]:
    """The forms of the headings between two places in the text. lines: those with a number."""
    forms = defaultdict(list)
    for line in lines:
        forms[line.form].append(line)
    counts = [count for form, own in forms.items() if (count := count_up(form, own, end)).lines]
    if chosen := choose(counts, end - start):
        taken = {line.start for count in chosen for line in count.lines}
        chosen[0] = filled(chosen[0], [line for line in lines if line.start not in taken], end)
    return chosen


def stretches(kept: set[int], size: int) -> list[tuple[int, int]]:
    """Where no heading stands for long: headings of another form may be there, or those of another book."""
    gaps = [(a, b) for a, b in pairwise(sorted({-1, size} | kept)) if b - a >= MIN_BODY]
    lengths = sorted(b - a for a, b in gaps)
    return [(a, b) for a, b in gaps if b - a > LONG * lengths[len(lengths) // 2]]


def in_stretches(lines: list[Line], places: list[tuple[int, int]]) -> list[Count]:
    """The forms of the headings in some stretches of the text. Where a form is used outside, too, it is none."""
    starts = [line.start for line in lines]
    inside = [lines[bisect_right(starts, start) : bisect_left(starts, end)] for start, end in places]
    everywhere = Counter(line.form for line in lines)
    here = Counter(line.form for own in inside for line in own)
    found = []
    for (start, end), own in zip(places, inside):
        chosen = choose_between(own, start, end)
        if chosen and explains(chosen[0], end - start) and 2 * here[chosen[0].form] > everywhere[chosen[0].form]:
            found += chosen
    return found


def without_endings(lines: list[Line]) -> list[Line]:
    """The lines, without those that end a chapter: 第三章 完 below 第三章 少年, but not a last chapter's 第百章 完."""
    titles = [None if line.value is None or line.is_marked else ending_title(line.text) for line in lines]
    headings = Counter(line.form for line, title in zip(lines, titles) if line.certain and title is None)
    endings = Counter(line.form for line, title in zip(lines, titles) if title is not None)
    kept, last = set(), {}
    for line, title in zip(lines, titles):
        above = last.get(line.form)
        is_below = above and above.value == line.value and line.start - above.end >= MIN_BODY
        is_all = endings[line.form] > headings[line.form] + bool(title)  # the headings have another form
        if title is not None and (is_all or (is_below and may_end(title, above.text))):
            continue
        kept.add(line.start)
        if line.certain:
            last[line.form] = line
    return only(lines, kept)


def table_of_contents(lines: list[Line]) -> set[int]:
    """Which lines, by their number, are in a table of contents: headings in a row with no text between them."""
    contents, run = set(), []
    last = {line.text: i for i, line in enumerate(lines)}
    for i, line in enumerate([*lines, None]):
        if line and line.certain and run and not line.has_text_before:
            run.append(i)
            continue
        if len(run) > MIN_CONTENTS:
            # The last one has text under it. Where it comes again, that is an introduction.
            contents.update(run if last[lines[run[-1]].text] > run[-1] else run[:-1])
        run = [i] if line and line.certain else []
    return contents


def only(lines: list[Line], kept: set[int]) -> list[Line]:
    """The lines that start at these places. A line that is left out is text between the others."""
    result, has_text = [], False
    for line in lines:
        has_text |= line.has_text_before
        if line.start in kept:
            result.append(replace(line, has_text_before=has_text))
        has_text = line.start not in kept
    return result


# -- chapters ---------------------------------------------------------------------------------------------------------


@dataclass
class Part:
    """A part of the text, from start to end in bytes: a chapter, or what is to be cut into pieces."""

    start: int
    end: int
    headings: list[Line]
    may_cut: bool = False  # when it is longer than MAX_CHAPTER, it is no chapter


def plan(headings: Headings, documents: list[tuple[int, bool]], size: int) -> list[Part]:
    """The chapters of a text. A heading with no text under it (a volume's) begins the next chapter; many in a row, a
    table of contents, are a chapter of their own."""
    starts = dict.fromkeys([0, *document_starts(headings, documents)]) | {line.start: line for line in headings.lines}
    parts, end = [], 0
    for start in sorted(starts):
        line, last = starts[start], parts[-1] if parts else None
        is_next = start <= end or (line and not line.has_text_before)  # no text stands between it and the one before
        if last and last.headings and is_next:
            last.headings += [line] if line else []
        else:
            if last:
                last.end = start
            parts.append(Part(start, size, [line] if line else []))
        end = line.end if line else start
    parts = [piece for part in parts for piece in without_contents(part)]
    mark_long(parts, headings)
    return parts


def without_contents(part: Part) -> list[Part]:
    """The part, or the table of contents before its last heading and the rest."""
    if len(part.headings) <= MIN_CONTENTS or part.headings[-1].end >= part.end:
        return [part]
    last = part.headings[-1]
    return [Part(part.start, last.start, part.headings[:-1]), Part(last.start, part.end, [last])]


def mark_long(parts: list[Part], headings: Headings) -> None:
    """Which parts may be cut when they are long: those in which there seem to be no headings.

    They are those without a heading of their own; and a long one after which the count begins again, since the
    headings of another book may be missing there.
    """
    is_found = bool(headings.counts) or any(line.is_marked for line in headings.lines)
    main = {line.start: line.value for line in headings.counts[0].lines} if headings.counts else {}
    longest = sorted(part.end - part.start for part in parts if part.headings)[-2:-1]
    following = None  # the number of the next chapter
    for part in reversed(parts):
        values = [main[line.start] for line in part.headings if line.start in main]
        begins_again = bool(values) and following is not None and following <= values[-1]
        part.may_cut = not part.headings or not is_found
        if begins_again and longest and part.end - part.start > 2 * longest[0]:
            part.may_cut = True
        following = values[0] if values else following


def document_starts(headings: Headings, documents: list[tuple[int, bool]]) -> list[int]:
    """Where documents begin a chapter: everywhere, unless the count of the headings goes on from one to the next.

    A chapter may run through several files, as pages of a book do. Where there are no numbers on both sides, what the
    most of the others do is done. Volumes do not count: each holds many chapters. Where the texts in a file are
    paragraphs, they begin nothing.
    """
    documents = without_paragraphs(documents)
    main = headings.counts[0].lines if headings.counts and not headings.counts[0].is_of_volumes else []
    places = [line.start for line in main]
    begins, unknown, votes = [], [], Counter()
    for start, first_of_file in documents:
        i = bisect_left(places, start)
        if i < len(main) and main[i].start == start:
            continue  # the heading begins the chapter
        if 0 < i < len(main):
            goes_on = main[i].value == main[i - 1].value + 1
            votes[first_of_file] += 1 if goes_on else -1
            begins += [] if goes_on else [start]
        else:
            unknown.append((start, first_of_file, i > 0))
    return begins + [start for start, first, has_before in unknown if not (has_before and votes[first] > 0)]


def without_paragraphs(documents: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """The documents, but not those that follow another in their file, when these are as short as paragraphs."""
    sizes = sorted(b - a for (a, _), (b, is_first) in zip(documents, documents[1:]) if not is_first)
    if not sizes or sizes[len(sizes) // 2] > MAX_PARAGRAPH:
        return documents
    return [(start, is_first) for start, is_first in documents if is_first]


def split_by_size(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters, cut after line breaks where there are any, else after sentences."""
    pieces, start = [], 0
    while start < len(text):
        end = cut_place(text, start + size, start + 2 * size)
        if len(text) - end < size // 2:
            end = len(text)
        pieces.append(text[start:end])
        start = end
    return pieces


def cut_place(text: str, first: int, last: int) -> int:
    """The first place between two where a paragraph, or else a sentence, ends; or the last place."""
    if end := text.find("\n", first, last) + 1:
        return end
    sentence = SENTENCE_END.search(text, first, last)
    return sentence.end() if sentence else last


def nearest_end(text: str, place: int) -> int:
    """The end of the paragraph, or else of the sentence, that is nearest to a place."""
    reach = max(20, min(place, len(text) - place) // 2)
    ends = [text.rfind("\n", max(0, place - reach), place) + 1, text.find("\n", place, place + reach) + 1]
    if not any(ends):
        ends = [match.end() for match in SENTENCE_END.finditer(text, max(0, place - reach), place + reach)]
    return min((end for end in ends if 0 < end < len(text)), key=lambda end: abs(end - place), default=place)
