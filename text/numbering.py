"""Which lines of a form are headings: those whose numbers count up through the book, with text between them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from text.headings import CHAPTER_UNITS, VOLUME_UNITS, Line, ends_as_prose, is_never, is_prose, may_be_misspelled

MIN_BODY = 150  # bytes, 50 characters: between numbered lines with less text there are no chapters
MIN_SHARE = 0.4  # of a form's uncertain lines must count up; else it is a form of prose
MIN_REGULARITY = 0.6  # the share of steps to the next number
# what a step from one number to another costs; a line that is a heading for certain, or may be one, brings 1 or less
GAP_COST, DOUBLE_COST, RESTART_COST, JUMP_COST = 0.6, 0.9, 2.0, 4.0
MAX_GAP = 5
KNOWN_FORMS = [  # which chapters and volumes usually have
    *(f"第N{unit}" for unit in CHAPTER_UNITS + VOLUME_UNITS),
    *(f"{unit}N" for unit in "卷章回部"),
    *("Chapter N", "Volume N", "Part N", "Book N"),
]


@dataclass
class Count:
    """The lines of one form that are headings."""

    form: str
    lines: list[Line]
    bodies: list[int]  # the bytes of text under each
    missing: list[int] = field(default_factory=list)  # numbers that are left out
    doubled: list[int] = field(default_factory=list)
    restarts: int = 0  # how often the numbers begin again, as in the next volume
    regularity: float = 0.0  # the share of steps that are to the next number, or back to the first

    def __post_init__(self):
        regular = 0
        for line, following, body in zip(self.lines, self.lines[1:], self.bodies):
            a, b = line.value, following.value
            # the same heading again: on the next line, or a volume's above each chapter
            repeated = a == b and (body < MIN_BODY or (self.is_of_volumes and following.certain))
            regular += b == a + 1 or (b <= 1 and a > 1) or repeated
            self.restarts += b < a
            if a + 1 < b:
                self.missing += range(a + 1, min(b, a + 1001))
            elif a == b and not repeated:
                self.doubled.append(a)
        self.regularity = regular / max(1, len(self.lines) - 1)

    def only(self, starts: set[int]) -> "Count":
        """Those of the lines that start at some places."""
        pairs = [(line, body) for line, body in zip(self.lines, self.bodies) if line.start in starts]
        return Count(self.form, [line for line, _ in pairs], [body for _, body in pairs])

    @property
    def is_backwards(self) -> bool:
        """Do the numbers go down, as in a list with the newest chapter first?"""
        return self.restarts > 0.5 * len(self.lines) and self.regularity < 0.1

    @property
    def is_of_volumes(self) -> bool:
        return any(unit in self.form for unit in VOLUME_UNITS) or self.form in ("Volume N", "Vol N", "Book N", "Part N")


def count_up(form: str, lines: Sequence[Line], end: int) -> Count:
    """The lines of a form that count up: all that are certain, and those others that fit between them.

    Lines that go on as prose does are not, unless all are such and count well. end: of the book, in bytes.
    """
    for prose_weight in (-0.3, 0.2):
        weights = weigh(lines, end, prose_weight)
        chosen = best_chain([line.value for line in lines], weights, [line.certain for line in lines])
        possible = sum(w > 0.1 and not line.certain for w, line in zip(weights, lines))
        kept = [lines[i] for i in chosen]
        regularity = Count(form, kept, bodies_of(kept, end)).regularity
        if sum(not line.certain for line in kept) < MIN_SHARE * possible or (possible and regularity < MIN_REGULARITY):
            kept = [line for line in lines if line.certain]
        if kept:
            break
    count = Count(form, kept, bodies_of(kept, end))
    is_plain = prose_weight < 0 or (len(kept) >= 5 and count.regularity >= 0.8)
    return count if is_plain else Count(form, [], [])


def filled(count: Count, lines: Sequence[Line], end: int) -> Count:
    """The count, and other lines that have a number which is missing where they stand: 第九节 or 九章 for 第九章."""
    if len(count.form) != 3 or count.form[2] not in CHAPTER_UNITS:
        return count
    lines = [line for line in lines if line.value is not None and may_be_misspelled(line.text)]
    starts, kept = [line.start for line in lines], []
    for following in count.lines:
        at, low = (kept[-1].end, kept[-1].value) if kept else (-MIN_BODY, 0)
        low = low if low < following.value else 0
        between = lines[bisect_left(starts, at) : bisect_left(starts, following.start)]
        values = Counter(line.value for line in between)
        for line in between if following.value - low <= MAX_GAP + 1 else ():
            has_text = line.start - at >= MIN_BODY and following.start - line.end >= MIN_BODY
            if low < line.value < following.value and values[line.value] == 1 and has_text:
                kept.append(line)
                at, low = line.end, line.value
        kept.append(following)
    return Count(count.form, kept, bodies_of(kept, end))


def bodies_of(lines: Sequence[Line], end: int) -> list[int]:
    """The bytes of text under each line."""
    return [b.start - a.end for a, b in zip(lines, lines[1:])] + [end - line.end for line in lines[-1:]]


def weigh(lines: Sequence[Line], end: int, prose_weight: float) -> list[float]:
    """How much speaks for each line's being a heading, before its number is looked at."""
    bodies, weights = bodies_of(lines, end), []
    end_alike = sum(ends_as_prose(line.text) for line in lines) > 0.5 * len(lines)
    for i, (line, body) in enumerate(zip(lines, bodies)):
        in_list = body < MIN_BODY or (i and bodies[i - 1] < MIN_BODY and lines[i - 1].value != line.value)
        if line.certain:
            w = 1.0
        elif is_never(line.text):
            w = -1.0
        elif in_list:
            w = 0.0
        elif is_prose(line.text):
            w = prose_weight
        else:
            w = 1.0 if end_alike or not ends_as_prose(line.text) else 0.8
        weights.append(w + 1e-7 * min(body, 10**5))  # of lines that are equal, the one with more text
    return weights


def best_chain(values: list[int], weights: list[float], certain: list[bool]) -> list[int]:
    """The numbers of the lines whose weights, less the costs of their steps, are the highest sum.

    Lines that are certain are all chosen. Linear in the lines: of all lines with a number only the best is kept.
    """
    best: dict[int, tuple[float, int]] = {}  # number -> (sum, line) of the best chain that ends there
    top, before, any_certain = (0.0, -1), [-1] * len(values), False
    for i, value in enumerate(values):
        options = [(top[0] - (RESTART_COST if value <= 1 else JUMP_COST), top[1])] if top[1] >= 0 else []
        if not any_certain:
            options.append((0.0, -1))  # the chain begins here
        if value in best:
            options.append((best[value][0] - DOUBLE_COST, best[value][1]))
        for step in range(1, MAX_GAP + 1):
            if value - step in best:
                options.append(
                    (best[value - step][0] - (step > 1) * GAP_COST - 0.01 * (step - 1), best[value - step][1])
                )
        total, before[i] = max(options)
        total += weights[i]
        if certain[i]:
            best.clear()
            top, any_certain = (total, i), True
        elif total > top[0]:
            top = (total, i)
        if value not in best or total > best[value][0]:
            best[value] = (total, i)
    chain, i = [], top[1]
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]


# -- which forms are the book's ---------------------------------------------------------------------------------------


def choose(counts: list[Count], size: int) -> list[Count]:
    """The forms of a book's headings, the one with the most chapters first. size: of the book, in bytes."""
    known = [count for count in counts if count.form in KNOWN_FORMS and is_plausible(count)]
    main = max(known, key=lambda count: (spread(count), not count.is_of_volumes, len(count.lines)), default=None)
    others = [count for count in counts if count.form not in KNOWN_FORMS and explains(count, size)]
    best = max(others, key=lambda count: spread(count) * count.regularity, default=None)
    is_good = main and not main.is_of_volumes and main.form[-1] not in "集篇" and explains(main, size)
    if best and not is_good and spread(best) > 3 * (spread(main) if main else 0):
        main = best
    if main is None:
        return []
    levels = [count for count in known if count is not main and is_level(count, main)]
    return [main, *levels, *(count for count in counts if count not in (main, *levels) and goes_on(count, main))]


def goes_on(count: Count, main: Count) -> bool:
    """Does a form take up the count where the main one leaves it, as where an author changed the headings' form?"""
    if len(count.lines) < 3 or count.regularity < MIN_REGULARITY or spread(count) < 0.7 * len(count.lines):
        return False
    before = [line for line in main.lines if line.start < count.lines[0].start]
    after = [line for line in main.lines if line.start > count.lines[-1].start]
    if len(before) + len(after) < len(main.lines):
        return False
    follows = bool(before) and 0 <= count.lines[0].value - before[-1].value <= MAX_GAP
    leads = bool(after) and 0 <= after[0].value - count.lines[-1].value <= MAX_GAP
    return follows or (leads and not before)


def spread(count: Count) -> int:
    """How many of the lines have text under them."""
    return sum(body >= MIN_BODY for body in count.bodies)


def is_plausible(count: Count) -> bool:
    """A known form: are there lines that are certain, or that count without a break?"""
    if any(line.certain for line in count.lines):
        return True
    return len(count.lines) >= 2 and count.regularity >= MIN_REGULARITY and spread(count) >= 0.5 * len(count.lines)


def is_level(count: Count, main: Count) -> bool:
    """Are these headings too, such as volumes above chapters? A stray line that only looks like one is not."""
    if len(main.lines) < 5:
        return True
    values = [line.value for line in count.lines]
    if len(values) == 1:
        is_above = any(0 <= line.start - count.lines[0].end < MIN_BODY for line in main.lines)
        return count.is_of_volumes and (values[0] == 1 or is_above)
    return count.regularity >= 0.5 and (len(values) >= 3 or any(line.certain for line in count.lines))


def explains(count: Count, size: int) -> bool:
    """An unknown form: do its numbers count up through the whole book?"""
    lines = count.lines
    if len(lines) < 4 or count.regularity < MIN_REGULARITY or spread(count) < 0.7 * len(lines):
        return False
    if count.form.startswith("第") and sum(ends_as_prose(line.text) for line in lines) > 0.3 * len(lines):
        return False  # 第一封信写着：
    covered = lines[-1].start - lines[0].start + sorted(count.bodies)[len(lines) // 2]
    return covered >= 0.5 * size and max(count.bodies) <= 0.5 * size
