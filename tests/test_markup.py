import pytest

from text.markup import parse_xml, read_html, read_markdown
from text.tags import MarkupInText


@pytest.mark.parametrize(
    "page, text",
    [
        ("<html><head><title>x</title></head><body>甲</body></html>", "甲"),
        ("<h1>第一回 风　雪</h1>\n<p>甲</p><p>乙</p>", "第一回 风　雪\n甲\n乙"),
        ("<p>他\n  说：&ldquo;去&rdquo;</p>", "他说：“去”"),
        ("<p>one\n two</p>", "one two"),
        ("<p>他<b>\n说</b></p>", "他说"),
        ("甲<br/>乙<br>丙", "甲\n乙\n丙"),
        ("<ruby>罢<rp>(</rp><rt>ba</rt><rp>)</rp></ruby>", "罢"),
        ("<ruby>罢<rt>ba了<rt>le</ruby>去", "罢去"),
        ("<p><ruby>罢<rt>ba<p>去", "罢\n去"),
        ("甲<script>x('<p>')</script><style>p{}</style>", "甲"),
        ("<head><title/><script src='x'/></head><p>甲", "甲"),
        ("<p>甲<svg><title>图</title></svg><img alt='图'>", "甲"),
        ("<table><tr><td>甲<td>乙<tr><td>丙</table>", "甲　乙\n丙"),
        ("<ul><li>甲<li>乙</ul><blockquote>丙</blockquote>", "甲\n乙\n丙"),
        ("<pre>甲\n  乙</pre>丙", "甲\n  乙\n丙"),
        ("<p>&nbsp;&#12288;甲&nbsp;乙 &bogus; & 1 < 2", " 　甲 乙 &bogus; & 1 < 2"),
        ("<h2><p>第一章</p><p>风起</p></h2><p>甲", "第一章 风起\n甲"),
        ("<![CDATA[甲<乙]]>", "甲<乙"),
        ('<!DOCTYPE html [<!ENTITY a "b">]><p>甲', "甲"),
        ("<o:p>甲</o:p><html:p>乙</html:p>", "甲\n乙"),
        ("<body>甲</body></html><html><body>乙", "甲\n乙"),
        ("甲\0乙", "甲乙"),
        ("<p hidden>无<br>用</p>甲<b style='Display: none'>无<i>用</i></b>乙<p>丙<img hidden>丁", "甲乙\n丙丁"),
        ("<body style='display:none'><h2 style='display:none'>第一章</h2><img><p>甲", "第一章\n甲"),
        ("<div>\n　　甲，\n乙\n　　丙\n</div>", "　　甲，乙\n　　丙"),
    ],
)
def test_read_html_gives_the_text_that_is_read(page, text):
    assert read_html(page).text == text


def test_read_html_reads_elements_that_are_nested_thousands_deep():
    assert read_html("<font><div>甲" * 20_000).text == "甲\n" * 19_999 + "甲"


@pytest.mark.parametrize("opening", ["<!-- ", "<title>", "<script>", "<style>", "<textarea hidden><svg><title>"])
def test_read_html_keeps_the_text_after_an_element_that_hides_it_all(opening):
    page = read_html("<p>甲</p>" + opening + "<p>乙说了些话。</p>" * 300)
    assert page.text.count("乙说了些话。") == 300


def test_read_html_marks_headings_as_titles():
    page = read_html("<h1>书</h1><h2>第一章<br/>风起</h2><p>甲</p><h3><b>一</b></h3><h4>注</h4>")
    assert page.titles == {"书", "第一章 风起", "一"}


def test_read_html_with_a_tag_for_each_character_is_not_damaged():
    page = read_html("<div>" + "<p>" + "<span class='c'>甲</span>" * 900 + "</p></div>")
    assert (page.lines, page.damaged) == (["甲" * 900], False)


def test_read_html_leaves_out_links_to_other_pages():
    links = "<a href=1>上一章</a> ← <a href=2>目录</a> → <a href=3>下一章</a>"
    page = read_html(f"<div>{links}</div><p>甲<a href=4>[1]</a></p><p><a href=5>乙</a></p>")
    assert (page.lines, page.navigation) == (["甲[1]", "乙"], 1)


def test_read_html_counts_hidden_elements_and_links_that_are_shown():
    links = "<a href=1>上一章</a> <a href=2>目录</a>"
    page = read_html(f"<p hidden>无<b>用</b></p><p>甲<a href=3>[1]</a></p><p>{links}</p><p style='display:none'>")
    assert (page.hidden, page.links, page.linked, page.navigation) == (2, 1, 3, 1)


def test_read_html_reads_a_character_that_is_a_picture():
    page = read_html("<p>姓<img alt='喆'/>，<img alt='图一'/><img/></p><p><img alt='图'/></p>")
    assert (page.lines, page.pictures, page.pictures_in_text) == (["姓喆，"], 3, 2)


def test_read_html_counts_the_icon_of_a_footnote_as_a_picture():
    page = read_html("<p>他说<a class='duokan-footnote' href='#f1'><img alt='注' src='note.png'/></a>，走了。</p>")
    assert "".join(page.lines).strip() == "他说，走了。" and page.pictures == 1


def test_read_html_takes_a_long_heading_for_a_paragraph():
    assert read_html(f"<h2>{'甲' * 200}</h2>").titles == set()


# -- markup in a plain text ------------------------------------------------------------------------------------------


def resolve(text: str, size: int = 10**6):
    markup = MarkupInText()
    return "".join(markup.blocks(text[i : i + size] for i in range(0, len(text), size))), markup.notes()


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    "text, result",
    [
        ("甲<br />\n乙<br>丙<BR/>丁", "甲\n乙\n丙\n丁"),
        ("<p>甲</p>\n<p class='x'>乙</p>", "甲\n乙"),
        ("&nbsp;&nbsp;甲&ldquo;乙&#12288;&#x4e00;", "  甲“乙　一"),
        ("[size=3][color=#000]甲[/color][/size]乙[b]丙[/b]", "甲乙丙"),
        ('<span data-v-7ba5bd90="">甲</span><img src="a" alt><p data-x>乙</p>', "甲\n乙"),
        ("<b>甲</b>和<font color=red>乙</font><a href='http://x.com/?a=1&b=2'>丙</a>", "甲和乙丙"),
    ],
)
def test_markup_in_text_is_resolved(text, result, size):
    if size == 1000:
        assert resolve(text)[0].strip("\n").replace("\n\n", "\n") == result.strip("\n")
    else:  # the first of several comes before it is known that they are several
        assert resolve("<br>&nbsp;<br>&nbsp;" * 100 + text, 300 + size)[0].rstrip("\n").endswith(result.split("\n")[-1])


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2 & 3 > 2",
        "<<甲>>",
        "<第一章>",
        "A&B;",
        "甲<br>乙",
        "[b]",
        "[第一章][/甲]",
        "&lt;和&gt;",
        "R&D <3 <3 <3 <3",
        "<i love you><i love you><i love you>",
        "火球术[S]，等级[B]，评价[A]，[I]，(>_<)",
        "<S>级，<A>级，<b>级，<I>型",
    ],
)
def test_markup_in_text_leaves_what_is_prose(text):
    assert resolve(text)[0] == text


def test_markup_in_text_takes_a_letter_in_brackets_for_a_tag_only_where_it_is_closed():
    assert resolve("<b>甲</b>[s]乙[/s]，[S]级<B>级<I>级<br>")[0] == "甲乙，[S]级<B>级<I>级\n"


def test_markup_in_text_takes_nbsp_without_its_semicolon():
    assert resolve("&nbsp&nbsp他说&nbsp;&lt他&amp")[0] == "  他说 &lt他&amp"


def test_markup_in_text_leaves_scripts_out_and_keeps_what_follows_one_that_does_not_end():
    assert resolve("甲<script>x('<p>')</script>乙<!-- 丙 -->丁<rt>a</rt>戊<script>己")[0] == "甲乙丁戊<script>己"


@pytest.mark.parametrize("opening", ["<script>", "<!--", " "])
def test_markup_in_text_takes_a_time_that_grows_with_the_text(opening):
    text = "<br>" * 3 + "甲" + opening * 100_000 + "</style>"  # minutes, if every opening searched to the end
    assert resolve(text)[0].endswith(opening * 100_000 + "</style>")


def test_markup_in_text_that_was_escaped_is_resolved():
    assert resolve("&lt;p&gt;甲&lt;/p&gt;&lt;p&gt;乙&lt;/p&gt;")[0].split() == ["甲", "乙"]


def test_markup_in_text_takes_spelled_line_breaks():
    text, notes = resolve("甲\\n乙\\r\\n丙\\n丁\\n戊")
    assert (text, notes) == ("甲\n乙\n丙\n丁\n戊", ["taken for line breaks: 4 times \\n"])


def test_markup_in_text_leaves_a_spelled_line_break_among_others():
    assert resolve("甲\\n\n" * 9)[0] == "甲\\n\n" * 9


def test_markup_in_text_is_counted():
    assert resolve("甲<br>乙<br>丙&nbsp;")[1] == ["taken for what they mean: 2 HTML tags, 1 entities"]


# -- Markdown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, text",
    [
        ("# 第一章 风起\n甲", "第一章 风起\n甲"),
        ("第一章\n====\n甲", "第一章\n甲"),
        ("**甲**说：*乙*，_丙_，~~丁~~", "甲说：乙，丙，丁"),
        ("a_b_c 和 2 * 3 * 4", "a_b_c 和 2 * 3 * 4"),
        ("甲![图](a.png)[乙](http://x(y))", "甲乙"),
        ("> 甲\n> 乙", "甲\n乙"),
        ("甲  \n乙\\\n1\\. 丙", "甲\n乙\n1. 丙"),
        ("[系统]: 恭喜宿主 获得神剑\n~~~好吃！\n~~~ python\n~~~", "[系统]: 恭喜宿主 获得神剑\n~~~好吃！\n\n"),
        ("甲[^1]乙\n\n[^1]: 注释\n[a]: http://x.com/y 't'\r\n[b]: 1.html", "甲乙\n\n注释\n\n"),
        ("他走了。\n---\n甲", "他走了。\n---\n甲"),
        ("---\ntitle: 书\ntags: [a]\n---\n甲", "甲"),
        ("* * *", "* * *"),
        ("#话题# 上了热搜\n#她在等#", "#话题# 上了热搜\n#她在等#"),
        ("#第一章\n##第二章##\n# 第三章 #", "第一章\n第二章\n第三章"),
        ("甲<br>乙<br>丙&nbsp;", "甲\n乙\n丙 "),
    ],
)
def test_read_markdown_takes_the_marks_out(source, text):
    assert read_markdown(source).text == text


def test_read_markdown_marks_headings_as_titles():
    page = read_markdown("# 书\n\n##第一章 **风起** ##\n\n雨落\n---\n甲 # 乙")
    assert page.titles == {"书", "第一章 风起", "雨落"}


# -- XML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "<a><b c='1&2'>甲 & 乙&nbsp;</b>",
        "\n\ufeff<?xml version='1.0' encoding='gb2312'?><a><b c='1&amp;2'>甲 &amp; 乙 </b></a>",
    ],
)
def test_parse_xml_goes_on_after_mistakes(source):
    (element,) = parse_xml(source)
    assert (element.get("c"), element.text) == ("1&2", "甲 & 乙" + element.text[-1])


def test_parse_xml_expands_no_entities():
    root = parse_xml('<!DOCTYPE x [<!ENTITY a "aaaa">]><x y="&a;">&a;</x>')
    assert (root.get("y"), root.text) == ("&a;", "&a;")


@pytest.mark.parametrize("source", ["", "甲", "<", "<?xml"])
def test_parse_xml_refuses_what_has_no_element(source):
    with pytest.raises(ValueError):
        parse_xml(source)
