import pytest
from book_files import ENCRYPTION, PACKAGE, epub, page, paragraphs, zip_archive

from configurator import UserError
from text.readers import find_sources

PAGES = [page("<h2>第一章 风起</h2><p>甲说了些话。</p>"), page("<h2>第二章 雨落</h2><p>乙说了些话。</p>")]
TEXT = "第一章 风起\n甲说了些话。\n第二章 雨落\n乙说了些话。\n"


def read(tmp_path, data: bytes, encoding: str = "auto"):
    """The text, the titles and the notes of an EPUB, which is one document."""
    (tmp_path / "a.epub").write_bytes(data)
    (source,) = find_sources([str(tmp_path / "a.epub")], encoding)
    (document,) = [(list(document.blocks), document.titles) for document in source.documents()]
    return "".join(document[0]), document[1], source.notes


def test_epub_is_one_document_whose_headings_are_titles(tmp_path):
    assert read(tmp_path, epub(PAGES)) == (TEXT, {"第一章 风起", "第二章 雨落"}, [])


@pytest.mark.parametrize("media_type", ["text/xml", "application/xml", "text/html", "", "application/octet-stream"])
def test_epub_reads_pages_of_any_media_type(tmp_path, media_type):
    assert read(tmp_path, epub(PAGES, media_type=media_type))[0] == TEXT


def test_epub_reads_what_follows_an_unclosed_element(tmp_path):
    unclosed = page("<p><ruby>罢<rt>ba<p>甲<br>乙<img src='x'><p>丙<b>丁")
    assert read(tmp_path, epub([unclosed, PAGES[1]]))[0].startswith("罢\n甲\n乙\n丙丁\n第二章")


def test_epub_reads_what_follows_a_closed_element_that_is_open_in_html(tmp_path):
    assert (
        read(tmp_path, epub(["<html><head><title/><script src='x'/></head><body><a id='x'/><p>甲</p></body></html>"]))[
            0
        ]
        == "甲\n"
    )


@pytest.mark.parametrize("text", ["某某著", "甲" * 300])
@pytest.mark.parametrize("declaration", ['<?xml version="1.0" encoding="GB2312"?>', '<meta charset="gb2312">'])
def test_epub_page_in_the_encoding_that_it_declares(tmp_path, declaration, text):
    pages = [f"{declaration}<p>{text}</p>".encode("gb18030"), *PAGES]
    assert read(tmp_path, epub(pages))[0] == f"{text}\n{TEXT}"


def test_epub_page_that_declares_a_wrong_encoding(tmp_path):
    wrong = f'<?xml version="1.0" encoding="GB2312"?>{PAGES[0]}'
    assert read(tmp_path, epub([wrong, PAGES[1]]))[0] == TEXT


def test_epub_page_in_another_language_that_it_declares(tmp_path):
    text = "名前はまだ無い。どこで生れたか"
    assert read(tmp_path, epub([f'<meta charset="shift_jis"><p>{text}</p>'.encode("cp932")]))[0] == f"{text}\n"


def test_epub_counts_bytes_that_do_not_fit(tmp_path):
    text, _, notes = read(tmp_path, epub([PAGES[0].encode().replace("甲".encode(), b"\xff\xff"), PAGES[1]]))
    assert text == TEXT.replace("甲", "\ufffd\ufffd")
    assert notes == ["not of its page's encoding, and replaced by U+FFFD: 2 bytes"]


@pytest.mark.parametrize("before", ["\n\n", "\ufeff", " \ufeff\n"])
def test_epub_allows_white_space_before_the_declaration(tmp_path, before):
    declaration = before + '<?xml version="1.0" encoding="utf-8"?>'
    package = PACKAGE.format(items='<item id="c0" href="text/0.xhtml"/>', references='<itemref idref="c0"/>')
    data = epub([declaration + PAGES[0]], {"OEBPS/content.opf": declaration + package})
    assert read(tmp_path, data)[0].lstrip("\ufeff") == "第一章 风起\n甲说了些话。\n"


def test_epub_names_missing_pages_and_reads_the_rest(tmp_path):
    package = PACKAGE.format(
        items='<item id="c0" href="text/0.xhtml"/><item id="c1" href="text/1.xhtml"/>',
        references='<itemref idref="c0"/><itemref idref="nowhere"/><itemref idref="c1"/>',
    )
    text, _, notes = read(tmp_path, epub([*PAGES], {"OEBPS/content.opf": package, "OEBPS/text/0.xhtml": None}))
    assert text == "第二章 雨落\n乙说了些话。\n"
    assert notes == ["missing: 2 pages: nowhere, oebps/text/0.xhtml"]


@pytest.mark.parametrize("missing", ["META-INF/container.xml", "OEBPS/content.opf"])
def test_epub_without_its_lists_is_read_and_said(tmp_path, missing):
    text, _, notes = read(tmp_path, epub(PAGES, {missing: None}))
    assert text == TEXT
    assert len(notes) == 1


def test_epub_with_an_empty_spine_is_read_in_natural_order(tmp_path):
    pages = [page(f"<p>甲{i}</p>") for i in range(12)]
    text, _, notes = read(tmp_path, epub(pages, {"OEBPS/content.opf": PACKAGE.format(items="", references="")}))
    assert text == "".join(f"甲{i}\n" for i in range(12))
    assert "order of their names" in notes[0]


def test_epub_finds_files_whose_names_differ_in_case_and_escapes(tmp_path):
    package = PACKAGE.format(items='<item id="c" href="Text/%E7%94%B2%201.xhtml"/>', references='<itemref idref="c"/>')
    data = epub([], {"OEBPS/content.opf": package, "oebps/text/甲 1.XHTML": PAGES[0]})
    assert read(tmp_path, data)[0] == "第一章 风起\n甲说了些话。\n"


def test_epub_finds_files_whose_names_are_in_gbk(tmp_path):
    package = PACKAGE.format(items='<item id="c" href="第一章.xhtml"/>', references='<itemref idref="c"/>')
    data = epub([], {"OEBPS/content.opf": package, "OEBPS/abcdef.xhtml": PAGES[0]})
    assert read(tmp_path, data.replace(b"abcdef", "第一章".encode("gbk")))[0] == "第一章 风起\n甲说了些话。\n"


def test_epub_counts_pictures_in_lines(tmp_path):
    notes = read(tmp_path, epub([page("<p>他姓<img src='a.jpg'/>。</p>")]))[2]
    assert notes == ["inside a line, and not read: 1 picture"]


def test_epub_chapter_in_several_pages_has_no_marks_inside(tmp_path):
    text, titles, _ = read(tmp_path, epub([PAGES[0], page("<p>再说。</p>"), page("<p>又说。</p>")]))
    assert (text, titles) == ("第一章 风起\n甲说了些话。\n再说。\n又说。\n", {"第一章 风起"})


def test_epub_counts_pages_of_pictures(tmp_path):
    text, _, notes = read(tmp_path, epub([page("<img src='a.jpg' alt='图'/>"), *PAGES]))
    assert (text, notes) == (TEXT, ["alone on its page, and not read: 1 picture"])


def test_epub_cover_is_not_counted(tmp_path):
    package = PACKAGE.format(
        items='<item id="c" href="cover.xhtml"/><item id="c0" href="text/0.xhtml"/>',
        references='<itemref idref="c" linear="no"/><itemref idref="c0"/>',
    )
    extra = {"OEBPS/content.opf": package, "OEBPS/cover.xhtml": page("<img src='a.jpg'/>")}
    text, _, notes = read(tmp_path, epub(PAGES[:1], extra))
    assert (text, notes) == ("第一章 风起\n甲说了些话。\n", [])


def test_epub_leaves_out_a_page_of_contents(tmp_path):
    links = "".join(f'<p><a href="{i}.xhtml">第{i}章</a></p>' for i in range(9))
    text, _, notes = read(tmp_path, epub([page(f"<h1>目录</h1>{links}"), *PAGES]))
    assert (text, notes) == (TEXT, ["left out: 1 page with a table of contents"])


def test_epub_reads_a_short_page_with_links_to_other_pages(tmp_path):
    links = "".join(f'<p><a href="{i}.xhtml">上一章</a> <a href="{i}.xhtml">下一章</a></p>' for i in range(9))
    text, _, notes = read(tmp_path, epub([page(f"<p>甲说了些话。</p>{links}")]))
    assert (text, notes) == ("甲说了些话。\n", ["left out: 9 lines of links"])


def test_epub_counts_hidden_elements(tmp_path):
    text, _, notes = read(tmp_path, epub([page("<p>甲说了些话。</p><p hidden='hidden'>无用</p>")]))
    assert (text, notes) == ("甲说了些话。\n", ["left out: 1 hidden element"])


def test_epub_names_pages_that_are_not_in_its_order(tmp_path):
    _, _, notes = read(tmp_path, epub(PAGES, {"OEBPS/text/more.xhtml": page("<p>番外</p>")}))
    assert notes == ["not in its reading order, and not read: 1 page: OEBPS/text/more.xhtml"]


# -- the table of contents -------------------------------------------------------------------------------------------


def entry(label: str, href: str) -> str:
    return f'<li><a href="{href}">{label}</a></li>'


def test_contents_mark_lines_as_titles(tmp_path):
    text, titles, _ = read(
        tmp_path, epub([page(paragraphs("风起\n甲说了些话。"))], contents=entry("风起", "text/0.xhtml"))
    )
    assert (text, titles) == ("风起\n甲说了些话。\n", {"风起"})


def test_contents_mark_a_title_in_two_lines(tmp_path):
    pages = [page(paragraphs("第一章\n风起\n甲说了些话。"))]
    text, titles, _ = read(tmp_path, epub(pages, contents=entry("第一章 风起", "text/0.xhtml")))
    assert (text, titles) == ("第一章\n风起\n甲说了些话。\n", {"第一章"})


def test_contents_name_a_chapter_whose_page_does_not(tmp_path):
    pages = [page("<img src='title.png'/>" + paragraphs("甲说了些话，乙也说了。\n丙没有说话。"))]
    text, titles, _ = read(tmp_path, epub(pages, contents=entry("第一章 风起", "text/0.xhtml")))
    assert (text, titles) == ("第一章 风起\n甲说了些话，乙也说了。\n丙没有说话。\n", {"第一章 风起"})


@pytest.mark.parametrize("label", ["第1章：风起", "第１章 风　起", "1.xhtml", "第一章 风起"])
def test_contents_add_no_title_where_there_is_one(tmp_path, label):
    heading = "<h2>第1章 风起</h2>" if label.startswith("第一") else "<p>第1章 风起</p>"
    pages = [page("<p>甲说了些话，乙也说了。</p>"), page(heading + "<p>甲说了些话，乙也说了。</p>")]
    text, _, _ = read(tmp_path, epub(pages, contents=entry(label, "text/1.xhtml")))
    assert text == "甲说了些话，乙也说了。\n第1章 风起\n甲说了些话，乙也说了。\n"


def test_contents_lead_into_the_middle_of_a_page(tmp_path):
    pages = [page("<p>甲说了些话，又说了些。</p><p id='b'>乙说了些话，又说了些。</p>")]
    contents = entry("风起", "text/0.xhtml") + entry("雨落", "text/0.xhtml#b")
    text, titles, _ = read(tmp_path, epub(pages, contents=contents))
    assert text == "风起\n甲说了些话，又说了些。\n雨落\n乙说了些话，又说了些。\n"
    assert titles == {"风起", "雨落"}


def test_contents_of_an_older_book(tmp_path):
    ncx = (
        '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint>'
        "<navLabel><text>风 &amp; 雨</text></navLabel>"
        '<content src="text/0.xhtml"/></navPoint></navMap></ncx>'
    )
    package = (
        '<package><manifest><item id="c0" href="text/0.xhtml"/>'
        '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/></manifest>'
        '<spine toc="ncx"><itemref idref="c0"/></spine></package>'
    )
    data = epub(
        [page(paragraphs("风 &amp; 雨\n甲。"))],
        {"OEBPS/content.opf": package, "OEBPS/toc.ncx": ncx, "OEBPS/nav.xhtml": None},
    )
    assert read(tmp_path, data)[1] == {"风 & 雨"}


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        {"META-INF/encryption.xml": ENCRYPTION.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")},
        {"META-INF/rights.xml": "<rights/>"},
        {"META-INF/sinf.xml": "<fairplay/>"},
    ],
    ids=["aes", "rights", "sinf"],
)
def test_encrypted_epub_is_refused_as_encrypted(tmp_path, extra):
    with pytest.raises(UserError, match="encrypted"):
        read(tmp_path, epub(PAGES, extra))


def test_epub_with_obfuscated_fonts_is_read(tmp_path):
    fonts = {"META-INF/encryption.xml": ENCRYPTION.format("http://www.idpf.org/2008/embedding")}
    assert read(tmp_path, epub(PAGES, fonts))[0] == TEXT


def test_epub_expands_no_entities(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    text, _, _ = read(
        tmp_path, epub([bomb + "<p>甲&b;&nbsp;&ldquo;</p>"], {"OEBPS/nav.xhtml": bomb + "<nav>&b;</nav>"})
    )
    assert text == "甲&b; “\n"


def test_epub_without_pages_is_refused(tmp_path):
    with pytest.raises(UserError, match="none of its pages"):
        read(tmp_path, epub([b"\0\1\2\3" * 100]))


def test_epub_in_name_only_is_read_as_the_archive_that_it_is(tmp_path):
    assert read(tmp_path, zip_archive({"a.txt": "甲说了些话。"}))[0] == "甲说了些话。"
