import pytest

from text.markup import html_to_text, parse_xml


@pytest.mark.parametrize(
    "page, text",
    [
        ("<html><head><title>x</title></head><body>甲</body></html>", "甲"),
        ("<h1>第一回 风　雪</h1>\n<p>甲</p><p>乙</p>", "第一回 风　雪\n甲\n乙"),
        ("<p>他\n  说：&ldquo;去&rdquo;</p>", "他说：“去”"),
        ("<p>one\n two</p>", "one two"),
        ("甲<br/>乙<br>丙", "甲\n乙\n丙"),
        ("<ruby>罢<rp>(</rp><rt>ba</rt><rp>)</rp></ruby>", "罢"),
        ("甲<script>x()</script><style>p{}</style>", "甲"),
    ],
    ids=["head", "blocks", "line break in Chinese", "line break in English", "br", "ruby", "script"],
)
def test_html_to_text_gives_the_text_that_is_read(page, text):
    assert html_to_text(page) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_parse_xml_refuses_declared_entities(encoding):
    with pytest.raises(ValueError, match="entities"):
        parse_xml('<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'.encode(encoding))
