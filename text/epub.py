"""
EPUB -> text, as reading apps show it (EPUB 3.3, W3C, and the older forms; damaged ones as far as they go).

The whole book is one text. Titles are headings and the entries of the table of contents.
"""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from text.containers import DAMAGE, File, Unreadable, member_names, open_zip
from text.encodings import Decoder, counted, detect_encoding, noted, superset
from text.markup import MAX_TITLE, Page, local_name, parse_xml, read_html
from text.natural import natural_key

FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
PAGES = (".xhtml", ".html", ".htm", ".xht")
NOT_PAGES = re.compile("(?i)(image|audio|video|font)/|text/css|javascript|font|x-dtbncx|/pdf|smil")


def check_book(file: File) -> None:
    """Raises Unreadable for a bomb and for a book that only its shop's apps can read. Obfuscated fonts do not count."""
    archive = open_zip(file)
    if sum(info.file_size for info in archive.infolist()) > file.max_size:
        raise file.too_large()
    names = {name.lower(): name for name in archive.namelist()}
    encrypted = "meta-inf/rights.xml" in names or "meta-inf/sinf.xml" in names
    encrypted |= any(info.flag_bits & 1 for info in archive.infolist())
    if "meta-inf/encryption.xml" in names and not encrypted:
        with archive.open(names["meta-inf/encryption.xml"]) as member:
            root = parse_xml(MarkupDecoder().decode(member.read(2**20)))
        methods = [e.get("Algorithm") for e in root.iter() if local_name(e) == "EncryptionMethod"]
        encrypted = any(method not in FONT_OBFUSCATION for method in methods)
    if encrypted:
        raise Unreadable(
            f"{file.name} is encrypted (DRM), only its shop's apps can read it; give a copy that is not, or a .txt",
            "encrypted",
        )


def declared_encoding(head: bytes) -> str:
    """The encoding that a page's XML declaration or <meta> names; "" for none, or one that Python does not know."""
    found = re.search(
        rb"""(?i)<\?xml[^>]*encoding\s*=\s*["']([\w.:-]+)|<meta[^>]*charset\s*=\s*["']?([\w.:-]+)""", head[:4096]
    )
    try:
        name = superset((found[1] or found[2]).decode()) if found else ""
    except LookupError:
        return ""
    return {"iso8859-1": "cp1252", "ascii": ""}.get(name, name)


@dataclass
class MarkupDecoder:
    """Decodes pages. What they declare, or the user says, is right unless the evidence is against it."""

    encoding: str = "auto"  # what the user says
    encodings: set[str] = field(default_factory=set)  # those of all pages
    replaced: int = 0

    def decode(self, data: bytes) -> str:
        declared = declared_encoding(data) if self.encoding == "auto" else superset(self.encoding)
        name = detect_encoding(data, declared)
        decoder = Decoder(name, errors="replace")
        text = decoder.decode(data, final=True)
        self.encodings.add(name)
        self.replaced += decoder.replaced
        return text


@dataclass
class Entry:
    """An entry of the table of contents."""

    label: str
    path: str
    fragment: str


@dataclass
class Book:
    file: File
    open_member: Callable[[str], Iterator[bytes]]  # gives a file of the archive in chunks
    decoder: MarkupDecoder  # for its pages
    notes: list[str]
    titles: set[str] = field(default_factory=set)  # filled while blocks() is read

    def blocks(self) -> Iterator[str]:
        """The text, page by page."""
        infos = open_zip(self.file).infolist()
        self.names = {normal_path(name): info.filename for name, info in zip(member_names(infos), infos)}
        self.missing, self.damaged = [], []
        self.pictures = self.pictures_in_text = self.contents_pages = self.navigation = self.hidden = 0
        spine, entries = self.package()
        empty = True
        for path in spine:
            page = self.page(path)
            if page and page.lines:
                self.mark_titles(page, [entry for entry in entries if entry.path == path])
                self.titles |= page.titles
                empty = False
                yield page.text + "\n"
        if empty and (self.damaged or not spine):
            raise Unreadable(
                f"{self.file.name}: none of its pages can be read: {some(self.damaged or ['there are none'])}"
            )
        self.write_notes(spine)

    def read(self, name: str, decoder: MarkupDecoder) -> str:
        return decoder.decode(b"".join(self.open_member(name)))

    # -- which pages -------------------------------------------------------------------------------------------------

    def package(self) -> tuple[list[str], list[Entry]]:
        """The paths of the pages in reading order, and the table of contents."""
        package = self.package_path()
        if not package:
            self.notes.append("it has no list of its pages, so they were read in the order of their names")
            return self.pages_by_name(), []
        root = parse_xml(self.read(self.names[package], MarkupDecoder()))
        base = posixpath.dirname(package)
        items = {e.get("id"): e for e in root.iter() if local_name(e) == "item"}
        paths = {name: resolve(base, e.get("href") or "") for name, e in items.items()}
        spine, contents = [], self.contents_path(root, items, paths)
        for reference in (e for e in root.iter() if local_name(e) == "itemref"):
            item = items.get(reference.get("idref"))
            if item is None:
                self.missing.append(reference.get("idref") or "?")
            elif NOT_PAGES.match(item.get("media-type") or ""):
                self.pictures += "image" in item.get("media-type")
            elif "nav" not in (item.get("properties") or "").split():
                spine.append(paths[reference.get("idref")])
        if not spine:
            self.notes.append("its reading order is empty, so its pages were read in the order of their names")
            spine = self.pages_by_name()
        return list(dict.fromkeys(spine)), self.entries(contents)

    def package_path(self) -> str:
        """The path of the .opf, from container.xml, or else the first that there is; "" when there is none."""
        try:
            root = parse_xml(self.read(self.names["meta-inf/container.xml"], MarkupDecoder()))
            paths = [resolve("", e.get("full-path") or "") for e in root.iter() if local_name(e) == "rootfile"]
        except DAMAGE:
            paths = []
        found = next((path for path in paths if path in self.names), "")
        if not found:
            found = min((name for name in self.names if name.endswith(".opf")), key=natural_key, default="")
            if found:
                self.notes.append(f"META-INF/container.xml is missing or wrong, so {found} was taken")
        return found

    def pages_by_name(self) -> list[str]:
        names = [name for name in self.names if name.endswith(PAGES)]
        return sorted((n for n in names if not re.search(r"(^|/)(nav|toc)\.x?html?$", n)), key=natural_key)

    def contents_path(self, root, items: dict, paths: dict) -> list[str]:
        """The paths of the table of contents: the navigation page, or the .ncx of older books."""
        found = [paths[name] for name, e in items.items() if "nav" in (e.get("properties") or "").split()]
        found += [paths[name] for name, e in items.items() if "dtbncx" in (e.get("media-type") or "")]
        found += [paths[e.get("toc")] for e in root.iter() if local_name(e) == "spine" and e.get("toc") in paths]
        return [path for path in dict.fromkeys(found) if path in self.names]

    def entries(self, contents: list[str]) -> list[Entry]:
        """The entries of the first table of contents that has any."""
        for path in contents:
            try:
                root = parse_xml(self.read(self.names[path], MarkupDecoder()))
            except DAMAGE:
                continue
            entries = [Entry(label, *target(path, href)) for label, href in links(root) if label]
            if entries:
                return entries
        return []

    # -- pages ---------------------------------------------------------------------------------------------------------

    def page(self, path: str) -> Page | None:
        """A page, or None for one without text."""
        name = self.names.get(path) or self.names.get(normal_path(unquote(path)))
        if name is None:
            self.missing.append(path)
            return None
        try:
            source = self.read(name, self.decoder)
        except Unreadable:
            raise
        except DAMAGE as error:
            self.damaged.append(f"{name} ({str(error) or type(error).__name__})"[:120])
            return None
        page = read_html(source) if "<" in source else Page(lines=[line for line in source.split("\n") if line.strip()])
        if page.damaged:
            self.damaged.append(f"{name} (only its tags were taken out)")
        self.navigation += page.navigation
        self.hidden += page.hidden
        length = sum(map(len, page.lines))
        if page.links >= 3 and page.linked >= 0.8 * length and length <= 60 * page.links:
            self.contents_pages += 1  # a table of contents
            return None
        if not page.lines and not re.search("cover|titlepage", path):
            self.pictures += page.pictures
        self.pictures_in_text += page.pictures_in_text
        return page

    def mark_titles(self, page: Page, entries: list[Entry]) -> None:
        """Find the entries of the table of contents in the page. One without its line is put where it leads to."""
        page.anchors[""] = 0
        inserted, taken = [], set()
        for entry in entries:
            at = min(page.anchors.get(entry.fragment, 0), len(page.lines) - 1)
            line = find_title(page.lines, entry.label, at)
            if line is not None:
                page.titles.add(page.lines[line].strip())
            elif at not in taken and self.is_missing_title(page, entry, at):
                inserted.append((at, entry.label))
            taken.add(at)
        for at, label in sorted(inserted, reverse=True):
            page.lines.insert(at, label)
            page.titles.add(label)

    def is_missing_title(self, page: Page, entry: Entry, at: int) -> bool:
        """Is the entry the title of what follows, which has no title of its own? Some are just the names of files."""
        if any(line.strip() in page.titles for line in page.lines[at : at + 3]):
            return False
        name = posixpath.basename(entry.path)
        is_name = entry.label.strip().lower() in (entry.path, name, name.split(".")[0])
        return not is_name and len(entry.label) <= MAX_TITLE and len(page.text) > 2 * len(entry.label)

    def write_notes(self, spine: list[str]) -> None:
        read, replaced = set(spine), self.decoder.replaced
        others = [name for path, name in self.names.items() if path.endswith(PAGES) and path not in read]
        others = [name for name in others if not re.search(r"(?i)(^|/)(nav|toc|cover|titlepage)\w*\.x?html?$", name)]
        unread = f"not in its reading order, and not read: {counted(len(others), 'page')}: {some(others)}"
        self.notes += noted(
            {
                f"missing: {counted(len(self.missing), 'page')}: {some(self.missing)}": len(self.missing),
                f"damaged: {counted(len(self.damaged), 'page')}: {some(self.damaged)}": len(self.damaged),
                f"not of its page's encoding, and replaced by U+FFFD: {counted(replaced, 'byte')}": replaced,
                f"left out: {counted(self.navigation, 'line')} of links": self.navigation,
                f"left out: {counted(self.hidden, 'hidden element')}": self.hidden,
                f"alone on its page, and not read: {counted(self.pictures, 'picture')}": self.pictures,
                f"inside a line, and not read: {counted(self.pictures_in_text, 'picture')}": self.pictures_in_text,
                f"left out: {counted(self.contents_pages, 'page')} with a table of contents": self.contents_pages,
                unread: len(others),
            }
        )


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def normal_path(path: str) -> str:
    """A path as the key under which a member is found: upper and lower case are the same, as on Windows and macOS."""
    return unicodedata.normalize("NFC", posixpath.normpath(path.replace("\\", "/")).lstrip("/")).lower()


def resolve(base: str, href: str) -> str:
    return normal_path(posixpath.join(base, unquote(re.split("[#?]", href)[0]).strip()))


def target(path: str, href: str) -> tuple[str, str]:
    """The path and the fragment that a link in the page `path` leads to."""
    href, _, fragment = href.partition("#")
    return (resolve(posixpath.dirname(path), href) if href else path), unquote(fragment)


def links(root) -> Iterator[tuple[str, str]]:
    """Labels and targets: <a href> inside the <nav> of the contents, or <navPoint>."""
    for point in (e for e in root.iter() if local_name(e) == "navPoint"):
        label = next((text_of(e) for e in point.iter() if local_name(e) == "text"), "")
        yield label, next((e.get("src") or "" for e in point if local_name(e) == "content"), "")
    navs = [e for e in root.iter() if local_name(e) == "nav"]
    toc = [e for e in navs if any(key.endswith("type") and "toc" in value.split() for key, value in e.attrib.items())]
    for nav in toc or navs[:1]:
        for link in (e for e in nav.iter() if local_name(e) == "a" and e.get("href")):
            yield text_of(link), link.get("href")


def text_of(element) -> str:
    return " ".join("".join(element.itertext()).split())


def squeeze(text: str) -> str:
    """What two spellings of a title have in common: the letters and digits."""
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"\W", "", text) or "".join(text.split())


def find_title(lines: list[str], label: str, at: int) -> int | None:
    """The line that an entry of the contents means: near the place that it leads to, or the same line anywhere."""
    label = squeeze(label)
    for number in range(at, min(at + 3, len(lines))):
        line = squeeze(lines[number])
        following = squeeze("".join(lines[number : number + 3]))
        in_two_lines = len(line) > 1 and label.startswith(line) and following.startswith(label)
        if line == label or in_two_lines or (len(line) <= MAX_TITLE // 2 and len(label) > 1 and line.endswith(label)):
            return number
    return next((number for number, line in enumerate(lines) if squeeze(line) == label), None)
