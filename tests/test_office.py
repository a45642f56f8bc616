import pytest
from book_files import docx, odt, zip_archive

from configurator import UserError
from text.readers import find_sources

STYLES = (
    '<w:style w:styleId="1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="a5"><w:basedOn w:val="1"/></w:style>'
    '<w:style w:styleId="TOC1"><w:name w:val="toc 1"/></w:style>'
    '<w:style w:styleId="a"><w:name w:val="Normal"/></w:style>'
)


def read(tmp_path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    (source,) = find_sources([str(tmp_path / name)])
    (document,) = [("".join(document), document.titles) for document in source.documents()]
    return *document, source.notes


def paragraph(text: str, style: str = "", properties: str = "") -> str:
    style = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{style}{properties}</w:pPr><w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize("style", ["1", "a5"])
def test_docx_gives_paragraphs_and_headings(tmp_path, style):
    body = paragraph("第一章 风起", style) + paragraph("　　甲说。", "a") + paragraph("") + paragraph("乙说。")
    assert read(tmp_path, "a.docx", docx(body, STYLES)) == ("第一章 风起\n　　甲说。\n乙说。\n", {"第一章 风起"}, [])


def test_docx_paragraph_with_an_outline_level_is_a_heading(tmp_path):
    assert read(tmp_path, "a.docx", docx(paragraph("风起", properties='<w:outlineLvl w:val="0"/>')))[1] == {"风起"}


@pytest.mark.parametrize(
    "runs, text",
    [
        ("<w:t>甲</w:t><w:br/><w:t>乙</w:t><w:tab/><w:t>丙</w:t>", "甲\n乙\t丙"),
        ("<w:del><w:delText>删</w:delText></w:del><w:ins><w:r><w:t>增</w:t></w:r></w:ins>", "增"),
        (
            "<w:ruby><w:rt><w:r><w:t>ba</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>罢</w:t></w:r></w:rubyBase></w:ruby>",
            "罢",
        ),
        ("<w:instrText>PAGE</w:instrText><w:t>甲</w:t>", "甲"),
        ("<w:t>a &amp; b</w:t>", "a & b"),
    ],
)
def test_docx_reads_what_is_shown(tmp_path, runs, text):
    assert read(tmp_path, "a.docx", docx(f"<w:p><w:r>{runs}</w:r></w:p>"))[0] == text + "\n"


def test_docx_notes_what_is_not_read(tmp_path):
    body = (
        paragraph("第一章\t1", "TOC1") + "<w:p><w:r><w:t>甲</w:t><w:footnoteReference/><w:drawing/><w:sym/></w:r></w:p>"
    )
    text, _, notes = read(tmp_path, "a.docx", docx(body, STYLES))
    assert text == "甲\n"
    assert notes == ["not read: 1 contents line, 1 footnote, 1 picture, 1 symbol"]


def test_odt_gives_paragraphs_and_headings(tmp_path):
    body = (
        '<text:h text:outline-level="1">第一章<text:s/>风起</text:h>'
        "<text:p>甲<text:line-break/>乙<text:span>丙</text:span>"
        "<text:note><text:p>注</text:p></text:note>\n  丁"
        "<draw:frame><draw:image/><svg:title>图</svg:title><svg:desc>一只猫</svg:desc></draw:frame></text:p>"
    )
    text, titles, notes = read(tmp_path, "a.odt", odt(body))
    assert (text, titles, notes) == ("第一章 风起\n甲\n乙丙 丁\n", {"第一章 风起"}, ["not read: 1 footnote, 1 picture"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_fb2_gives_its_bodies(tmp_path, encoding):
    source = (
        f'<?xml version="1.0" encoding="{encoding}"?><FictionBook><description><title-info><book-title>书</book-title>'
        "</title-info></description><body><section><title><p>第一章</p><p>风起</p></title><p>甲说了些话。</p><empty-line/>"
        '<poem><v>乙</v><v>丙</v></poem></section></body><binary id="x">AAAA</binary></FictionBook>'
    )
    text, titles, _ = read(tmp_path, "a.fb2", source.encode(encoding))
    assert (text, titles) == ("第一章 风起\n甲说了些话。\n乙\n丙\n", {"第一章 风起"})


def test_fb2_leaves_out_footnotes(tmp_path):
    source = (
        "<FictionBook><body><section><title><p>第一章</p></title><p>甲<a type='note' href='#n1'>[1]</a>说。</p>"
        "</section></body><body name='notes'><section id='n1'><title><p>1</p></title><p>注</p></section></body>"
        "</FictionBook>"
    )
    text, titles, notes = read(tmp_path, "a.fb2", source.encode())
    assert (text, titles) == ("第一章\n甲说。\n", {"第一章"})
    assert notes == ["left out: 1 part with footnotes"]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
BOMBS = {
    "a.docx": docx("", extra={"word/document.xml": BOMB}),
    "a.odt": zip_archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": BOMB}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_document_that_declares_entities_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="declares entities"):
        read(tmp_path, name, BOMBS[name])
