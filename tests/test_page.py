"""The page in a real browser (headless Chromium), with a real server behind it."""

import functools
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed (Debian: apt install chromium)", allow_module_level=True)

from conftest import story
from serving import copy_of_one_run, running_server, wait_for

import serve

expect = sync_api.expect
expect.set_options(timeout=20_000)
SHORT = {"length": 24, "language": "en"}  # settings of most tests
ENDLESS = {"length": 20_000, "language": "en"}  # longer than a test waits, but not for ever
START = "却说阿青行至渡口，"


@pytest.fixture(scope="module")
def workplace(workplace, tmp_path_factory):
    return copy_of_one_run(workplace, tmp_path_factory.mktemp("one-run"))


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    sandbox = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]  # root has none
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(workplace):
    """One server for most tests."""
    with running_server(workplace / "out/tiny") as server:
        yield server


@pytest.fixture
def open_context(browser, server):
    """A function that makes a browser context with settings. Its pages must have no errors and no foreign requests."""
    problems, contexts = [], []

    def open_context(settings=SHORT, url=None, **options):
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        origin = url or server.url
        context.set_default_timeout(20_000)
        watch(context, origin, problems)
        fill = "localStorage.settings ??= " + json.dumps(json.dumps(settings))
        context.add_init_script(f"if (location.protocol === 'http:') {fill}")
        return context

    open_context.problems = problems
    yield open_context
    for context in contexts:
        context.close()
    server.wait_until_idle()
    assert not problems


def watch(context, origin: str, problems: list[str]) -> None:
    """Collect what must not happen: errors of the page, and requests to others."""

    def on_request(request):
        if not request.url.startswith((origin, "blob:", "data:")):
            problems.append(f"a request to {request.url}")

    context.on("request", on_request)
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on("console", lambda message: message.type == "error" and problems.append(message.text))


@pytest.fixture
def open_page(open_context, server):
    """A function that opens the page in a context of its own."""

    def open_page(settings=SHORT, url=None, **options):
        return visit(open_context(settings, url, **options), url or server.url)

    open_page.problems = open_context.problems
    return open_page


def visit(context, url: str):
    """A new tab with the page, ready to be typed into."""
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#text")).to_be_focused()
    return page


def text_of(page) -> str:
    return "\n".join(page.locator("#text p").all_text_contents())


def inks_of(page) -> list[tuple[str, str]]:
    """(who, text) for each stretch of the text."""
    read = """paragraph => [...paragraph.childNodes].filter(node => node.textContent)
              .map(node => [node.className === "by-model" ? "model" : "typed", node.textContent])"""
    return [tuple(ink) for paragraph in page.locator("#text p").all() for ink in paragraph.evaluate(read)]


def wait_until_written(page) -> None:
    """Wait until the model has ended its text."""
    expect(page.locator("#progress")).to_have_text(re.compile("^(done|stopped|the model ends)"))


def press_and_wait(page, key: str) -> None:
    """Press a key that lets the model write, and wait for its end."""
    page.locator("#progress").evaluate("element => (element.textContent = '')")  # it may say "done" from before
    page.keyboard.press(key)
    wait_until_written(page)


def type_paragraphs(page, *paragraphs: str) -> None:
    """Type paragraphs, each with its Enter."""
    for paragraph in paragraphs:
        page.keyboard.type(paragraph)
        page.keyboard.press("Enter")


def continue_text(page, start: str = START) -> str:
    """Type a text, let the model continue it, and return the whole."""
    page.keyboard.type(start)
    press_and_wait(page, "Control+Enter")
    return text_of(page)


def find_seed(server, start: str, condition) -> int:
    """The first seed whose continuation of a text is as wanted."""
    return next(seed for seed in range(1, 10_000) if condition(server.text("[CLS]" + start, seed=seed, max_tokens=4)))


def undo(page) -> None:
    page.keyboard.press("Control+z")


# -- writing -----------------------------------------------------------------------------------------------------------


def test_continue_adds_the_model_text_in_its_own_ink(open_page):
    page = open_page()
    text = continue_text(page)
    assert text.startswith(START) and len(text) > len(START)
    first, second, *_ = inks_of(page)
    assert first == ("typed", START) and second[0] == "model"


def test_continue_sends_the_text_before_the_cursor_as_the_model_was_trained(open_page, server):
    page = open_page()
    page.keyboard.type("第一回 山门")
    for key in ["Enter", "　", "却", "说", "Enter", "Enter", "第", "二", "ArrowLeft"]:
        page.keyboard.press(key) if len(key) > 1 else page.keyboard.insert_text(key)
    page.keyboard.press("Control+Enter")
    wait_until_written(page)
    assert server.jobs[-1].request.prompts == ("[CLS]第一回 山门\n却说[CLS]第",)
    assert text_of(page).endswith("二")


def test_continue_until_the_paragraph_ends_goes_on_with_the_next(open_page, server):
    start = "却说阿青行至渡口，拾得一剑，便对老道道：“此去无妨。”"
    seed = find_seed(server, start, lambda text: text.startswith("\n"))
    page = open_page({**SHORT, "until": "paragraph", "seed": seed})
    first, second = continue_text(page, start).split("\n")
    assert first == start and second


def test_stop_ends_the_work_on_the_server(open_page, server):
    page = open_page(ENDLESS)
    page.keyboard.type(START)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#text .by-model").first).to_be_visible()
    page.keyboard.press("Escape")
    wait_until_written(page)
    server.wait_until_idle()
    assert server.jobs[-1].cancelled


def test_stop_keeps_what_was_written(open_page):
    page = open_page(ENDLESS)
    page.keyboard.type(START)
    page.click("#continue")
    expect(page.locator("#progress")).to_have_text(re.compile(r"writing, \d{2}"))
    page.click("#stop")
    assert len(text_of(page)) > len(START) + 9


def test_text_can_be_edited_while_the_model_writes(open_page):
    page = open_page(ENDLESS)
    page.keyboard.type(START)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#text .by-model").first).to_be_visible()
    page.keyboard.press("Control+Home")
    page.keyboard.type("话说")
    before = len(text_of(page))
    wait_for(lambda: len(text_of(page)) > before)
    page.keyboard.press("Escape")
    assert text_of(page).startswith("话说" + START)


def test_retry_replaces_the_last_continuation(open_page):
    page = open_page({**SHORT, "seed": 7})
    first = continue_text(page)
    press_and_wait(page, "Alt+r")
    second = text_of(page)
    assert second.startswith(START) and second != first
    undo(page)
    assert text_of(page) == first


def test_retry_after_a_reload_replaces_the_model_text_at_the_cursor(open_page):
    page = open_page({**SHORT, "seed": 7})
    continue_text(page)
    page.reload()
    expect(page.locator("#text")).to_be_focused()
    press_and_wait(page, "Alt+r")
    assert [who for who, _ in inks_of(page)][0] == "typed" and len(text_of(page)) < 2 * SHORT["length"] + len(START)


@pytest.mark.parametrize("reload", [False, True])
def test_retry_replaces_neither_typed_text_nor_earlier_continuations(open_page, reload):
    page = open_page({**SHORT, "seed": 7})
    first = continue_text(page)
    second = continue_text(page, "")
    assert second.startswith(first) and second != first
    if reload:
        page.reload()
        expect(page.locator("#text")).to_be_focused()
    else:
        page.keyboard.type("阿青不语。")
    press_and_wait(page, "Alt+r")
    assert text_of(page).startswith(first) and text_of(page).endswith("" if reload else "阿青不语。")


def test_undo_takes_back_a_long_deletion_at_once(open_page):
    page = open_page()
    paste(page, "山" * 450)
    for key in ["Backspace"] * 420 + ["Home"] + ["Delete"] * 5:
        page.keyboard.press(key)
    assert text_of(page) == "山" * 25
    undo(page)
    undo(page)
    assert text_of(page) == "山" * 450


def test_undo_and_redo_take_back_typing_and_continuing(open_page):
    page = open_page()
    text = continue_text(page)
    undo(page)
    assert text_of(page) == START
    undo(page)
    assert text_of(page) == ""
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+Shift+z")
    assert text_of(page) == text


def test_compare_puts_the_chosen_continuation_in_and_keeps_the_others(open_page):
    page = open_page()
    page.keyboard.type(START)
    page.click("#compare")
    wait_until_written(page)
    cards = page.locator(".card p").all_text_contents()
    assert len(cards) == 3 and all(cards) and text_of(page) == START
    page.locator(".card").nth(1).click()
    assert text_of(page).replace("\n", "") == START + cards[1].replace("\n", "")
    expect(page.locator("#choices")).to_be_hidden()
    page.click("#open-history")
    expect(page.locator(".continuations li")).to_have_count(3)
    expect(page.locator(".continuations li", has_text="used")).to_have_count(1)


def test_compare_takes_a_continuation_by_its_key_while_all_are_written(open_page, server):
    page = open_page({**ENDLESS, "number": 2})
    page.keyboard.type(START)
    page.keyboard.press("Control+Shift+Enter")
    expect(page.locator(".card button").nth(1)).to_be_enabled()
    page.keyboard.press("Alt+2")
    expect(page.locator("#text .by-model").first).to_be_visible()
    server.wait_until_idle()


def test_retry_after_taking_one_compares_others_at_the_same_place(open_page):
    page = open_page({**SHORT, "number": 2})
    page.keyboard.type(START)
    page.click("#compare")
    wait_until_written(page)
    page.keyboard.press("Alt+1")
    taken = text_of(page)
    page.keyboard.press("Alt+r")
    assert text_of(page) == START
    wait_until_written(page)
    page.keyboard.press("Alt+2")
    assert text_of(page) != taken
    undo(page)
    assert text_of(page) == taken


def test_history_puts_a_replaced_continuation_back(open_page):
    page = open_page({**SHORT, "seed": 3})
    continuation = continue_text(page)[len(START) :]
    page.keyboard.press("Alt+r")
    wait_until_written(page)
    page.keyboard.press("Control+End")
    page.click("#open-history")
    page.locator(".continuations li").last.get_by_role("button").click()
    assert text_of(page).endswith(continuation)


def test_a_drawer_that_is_made_again_keeps_the_field_in_which_someone_types(open_page, server):
    page = open_page()
    page.click("#open-settings")
    page.click("#set-prefix")
    page.keyboard.type("白狐书生")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.evaluate("document.getElementById('language').click()")  # all texts of the page change
    expect(page.locator("#drawer h2")).to_have_text("设置")
    page.keyboard.type("与")
    expect(page.locator("#set-prefix")).to_have_value("白狐与书生")


def test_pinned_text_is_sent_with_each_request(open_page, server):
    page = open_page()
    page.click("#open-settings")
    page.fill("#set-prefix", "白狐与书生")
    page.click("#text")
    continue_text(page)
    assert server.jobs[-1].request.prefix == "白狐与书生"


def test_presets_set_the_sampling_settings(open_page, server):
    page = open_page()
    page.click("#open-settings")
    page.get_by_role("radio", name="Steady").check()
    page.click("#text")
    continue_text(page)
    assert server.jobs[-1].request.params.temperature == 0.6


# -- candidates and colours --------------------------------------------------------------------------------------------


def click_character(page, place: int) -> None:
    """Click on a character of the first paragraph."""
    find = """(paragraph, place) => {
        const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT), range = document.createRange();
        let node = walker.nextNode();
        for (; place >= node.length; node = walker.nextNode()) place -= node.length;
        range.setStart(node, place);
        range.setEnd(node, place + 1);
        const { left, top, width, height } = range.getBoundingClientRect();
        return [left + width / 3, top + height / 2];
    }"""
    page.mouse.click(*page.locator("#text p").first.evaluate(find, place))


def test_a_click_shows_the_candidates_and_choosing_one_rewrites_from_there(open_page, server):
    page = open_page({**SHORT, "seed": find_seed(server, START, lambda text: "\n" not in text)})
    text = continue_text(page)
    click_character(page, len(START) + 2)
    expect(page.locator("#candidates-about")).to_contain_text(text[len(START) + 2])
    rows = page.locator("#candidates-list button:enabled:not([aria-current])")
    expect(rows.first).to_have_text(re.compile(r"^.+ model \d.*% +filtered \d"))
    chosen = rows.first.locator(".name").text_content()
    rows.first.click()
    wait_until_written(page)
    assert text_of(page).startswith(text[: len(START) + 2] + chosen)
    undo(page)
    assert text_of(page) == text


def test_candidates_can_be_used_from_the_keyboard(open_page):
    page = open_page()
    page.keyboard.type(START)
    page.keyboard.press("Alt+w")
    expect(page.locator("#candidates-title")).to_have_text("What could come next?")
    expect(page.locator("#candidates-list button").first).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#candidates-about")).to_contain_text("，")
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_be_focused()


def test_colours_show_the_probability_of_typed_text_too(open_page, server):
    page = open_page()
    page.keyboard.type(story(2, 2).strip())
    page.keyboard.press("Alt+p")
    expect(page.locator("#text p").last.locator("[class^=level]").first).to_be_visible()
    expect(page.locator("#legend")).to_be_visible()
    scored = server.post(prompt="[CLS]" + text_of(page), echo=True, max_tokens=0, logprobs=0)["choices"][0]["logprobs"]
    levels = [level_of(math.exp(logprob)) for logprob in scored["token_logprobs"][1:21]]
    assert "".join(scored["tokens"][1:21]) in text_of(page)
    read = "paragraph => [...paragraph.children].flatMap(span => [...span.textContent].map(() => span.className))"
    shown = page.locator("#text p").first.evaluate(read)
    assert [f"level-{level}" for level in levels][: len(shown)] == shown[:20]


def level_of(probability: float) -> int:
    """The colour of a probability."""
    return next(level for level, lowest in enumerate([0.5, 0.2, 0.05, 0.01, 0]) if probability >= lowest)


# -- typing ------------------------------------------------------------------------------------------------------------


def test_backspace_joins_paragraphs_and_deletes_whole_characters(open_page):
    page = open_page()
    page.keyboard.type("山门")
    page.keyboard.press("Enter")
    page.keyboard.insert_text("渡口👍🏽")
    page.keyboard.press("Backspace")
    assert text_of(page) == "山门\n渡口"
    for key in ["ArrowLeft", "ArrowLeft", "Backspace"]:
        page.keyboard.press(key)
    assert text_of(page) == "山门渡口"


def test_typing_into_a_selection_of_several_paragraphs_replaces_it(open_page):
    page = open_page()
    type_paragraphs(page, "山门古寺。", "竹林。", "渡口井边。")
    page.keyboard.press("Control+Home")
    for key in ["ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"]:
        page.keyboard.press(key)
    page.keyboard.insert_text("集")
    assert text_of(page) == "山集口井边。\n"
    undo(page)
    assert text_of(page) == "山门古寺。\n竹林。\n渡口井边。\n"


def paste(page, text: str) -> None:
    page.locator("#text").evaluate(
        """(element, text) => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text/plain", text);
            clipboardData.setData("text/html", "<b onclick=alert()>" + text + "</b>");
            element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        text,
    )


def test_paste_takes_plain_text_without_indents(open_page):
    page = open_page()
    paste(page, "　　<b>却说</b>\r\n　　阿青")
    assert text_of(page) == "<b>却说</b>\n阿青"
    expect(page.locator("#text b")).to_have_count(0)


def test_a_keystroke_in_20000_characters_renders_one_paragraph(open_page):
    page = open_page()
    paste(page, story(60, 12))
    assert len(text_of(page)) > 20_000
    page.evaluate(
        """() => {
            const text = document.getElementById("text"), touched = (globalThis.touched = new Set());
            const block = node => (node === text || node.parentNode === text ? node : block(node.parentNode));
            new MutationObserver(all => all.forEach(({ target }) => touched.add(block(target))))
                .observe(text, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.keyboard.press("Control+Home")
    page.keyboard.insert_text("却")
    page.keyboard.press("Backspace")
    assert page.evaluate("() => touched.size") == 1


# -- input methods -----------------------------------------------------------------------------------------------------


def compose(page, text: str):
    """Begin a composition, as an input method does; returns the session with which it goes on."""
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)})
    return session


def test_input_method_text_is_typed_text(open_page):
    page = open_page()
    page.keyboard.type("却说")
    session = compose(page, "aq")
    session.send("Input.imeSetComposition", {"text": "a'qing", "selectionStart": 6, "selectionEnd": 6})
    session.send("Input.insertText", {"text": "阿青"})
    assert inks_of(page) == [("typed", "却说阿青")]
    undo(page)
    assert text_of(page) == "却说"


def test_input_method_can_replace_several_paragraphs(open_page):
    page = open_page()
    type_paragraphs(page, "山门", "渡口", "竹林")
    page.keyboard.press("Control+a")
    session = compose(page, "a")
    session.send("Input.insertText", {"text": "阿"})
    assert text_of(page) == "阿" and page.locator("#text > *").count() == 1
    undo(page)
    assert text_of(page) == "山门\n渡口\n竹林\n"


def test_keys_of_an_input_method_are_no_commands(open_page, server):
    page = open_page()
    page.keyboard.type(START)
    jobs = len(server.jobs)
    session = compose(page, "aq")
    enter = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229, "modifiers": 2}  # 2: Ctrl
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    session.send("Input.insertText", {"text": "阿青"})
    assert text_of(page) == START + "阿青" and len(server.jobs) == jobs


def test_nothing_is_written_into_the_text_while_an_input_method_composes(open_page, server):
    page = open_page(ENDLESS)
    page.keyboard.type(START)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#text .by-model").first).to_be_visible()
    page.keyboard.press("Control+Home")
    session = compose(page, "aq")
    before = text_of(page)
    # The count of written characters is shown a few times per second only: it can be below what the text holds.
    enough = len(before) - len("aq" + START) + 20
    wait_for(lambda: int(re.sub(r"\D", "", page.locator("#progress").text_content())) > enough)
    assert text_of(page) == before
    session.send("Input.insertText", {"text": "阿青"})
    page.keyboard.press("Escape")
    after = text_of(page)
    assert after.startswith("阿青" + START) and len(after) > len(before) + 20


# -- storage -----------------------------------------------------------------------------------------------------------


def test_reload_finds_text_ink_name_and_undo_again(open_page):
    page = open_page()
    text = continue_text(page)
    page.fill("#name", "渡口记")
    page.reload()
    expect(page.locator("#name")).to_have_value("渡口记")
    assert text_of(page) == text and inks_of(page)[1][0] == "model"
    undo(page)
    assert text_of(page) == START


def test_reload_right_after_a_keystroke_loses_nothing(open_page):
    page = open_page()
    page.keyboard.type("却说阿青")
    page.reload()
    expect(page.locator("#text")).to_have_text("却说阿青")


def test_reload_while_the_model_writes_keeps_the_text_and_ends_the_work(open_page, server):
    page = open_page(ENDLESS)
    page.keyboard.type(START)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#progress")).to_have_text(re.compile(r"writing, \d{2}"))
    seen = text_of(page)
    page.reload()
    expect(page.locator("#text")).to_be_focused()
    assert text_of(page).startswith(seen)
    server.wait_until_idle()


def test_several_manuscripts_are_kept_by_name(open_page):
    page = open_page()
    page.keyboard.type("山门")
    page.click("#open-manuscripts")
    page.get_by_role("button", name="New").click()
    expect(page.locator("#text")).to_have_text("")
    page.keyboard.type("渡口")
    page.fill("#name", "第二部")
    page.get_by_role("button", name=re.compile("^山门")).click()
    expect(page.locator("#text")).to_have_text("山门")
    expect(page.locator(".record")).to_have_count(2)
    page.get_by_role("button", name=re.compile("^第二部")).click()
    expect(page.locator("#text")).to_have_text("渡口")


def test_a_deleted_manuscript_with_open_choices_does_not_come_back(open_page):
    page = open_page()
    page.keyboard.type(START)
    page.click("#compare")
    wait_until_written(page)
    page.click("#open-manuscripts")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=re.compile("^Delete: ")).click()
    expect(page.locator("#text")).to_have_text("")
    page.wait_for_timeout(700)  # longer than a save waits
    page.reload()
    expect(page.locator("#text")).to_be_focused()
    assert text_of(page) == ""


def test_a_manuscript_that_cannot_be_saved_is_not_left_without_a_question(open_page):
    page = open_page()
    page.evaluate("() => { IDBObjectStore.prototype.put = () => { throw new DOMException('full') } }")
    page.keyboard.type("山门")
    expect(page.locator("#banner")).to_contain_text("cannot save")
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.click("#open-manuscripts")
    with page.expect_event("dialog") as asked:
        page.get_by_role("button", name="New").click()
    assert asked.value.message == "This manuscript cannot be saved. Leave it and lose it?"
    page.wait_for_timeout(200)
    assert text_of(page) == "山门"


def test_a_second_tab_reads_only_and_can_take_over(open_context, server):
    context = open_context()
    first = visit(context, server.url)
    first.keyboard.type("山门")
    second = context.new_page()
    second.goto(server.url)
    expect(second.locator("#banner")).to_contain_text("another tab")
    first.bring_to_front()
    first.keyboard.type("渡口")
    expect(second.locator("#text")).to_have_text("山门渡口")
    second.get_by_role("button", name="Write here").click()
    expect(first.locator("#banner")).to_contain_text("another tab")
    expect(second.locator("#text")).to_be_focused()
    second.keyboard.type("竹林")
    expect(first.locator("#text")).to_have_text("山门渡口竹林")


def test_a_tab_that_knows_of_no_other_makes_a_copy_instead_of_overwriting(open_context, server):
    context = open_context()
    first = visit(context, server.url)
    first.keyboard.insert_text("山门")
    expect(first.locator("#size")).to_contain_text("saved")
    second = context.new_page()
    second.add_init_script("BroadcastChannel.prototype.postMessage = () => {}")  # as if the other tab were frozen
    first.evaluate("() => { BroadcastChannel.prototype.postMessage = () => {} }")
    second.goto(server.url)
    expect(second.locator("#text")).to_have_text("山门")
    second.keyboard.type("渡口")
    expect(second.locator("#size")).to_contain_text("saved")
    first.bring_to_front()
    first.keyboard.type("竹林")
    expect(first.locator("#banner")).to_contain_text("copy of its own")
    first.click("#open-manuscripts")
    expect(first.locator(".record")).to_have_count(2)
    second.reload()
    expect(second.locator("#text")).to_have_text("山门渡口")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_a_text_file_is_loaded(open_page, encoding):
    page = open_page()
    text = "第一回 山门\n\n　　却说阿青。\n\n　　便走。\n\n第二回 渡口\n\n　　且说老道。\n"
    page.locator("#file").set_input_files({"name": "渡口记.txt", "mimeType": "", "buffer": text.encode(encoding)})
    expect(page.locator("#name")).to_have_value("渡口记")
    assert text_of(page) == "第一回 山门\n却说阿青。\n便走。\n\n第二回 渡口\n且说老道。"
    expect(page.locator("#text .heading")).to_have_count(2)


def test_a_downloaded_markdown_file_is_loaded_as_it_was(open_page):
    page = open_page()
    page.locator("#file").set_input_files(
        {
            "name": "记.md",
            "mimeType": "",
            "buffer": "\n\n".join(["# 记", "## 第一回 山门", "却说。", "\\- 便走。", "## 后记", "完。"]).encode(),
        }
    )
    expect(page.locator("#name")).to_have_value("记")
    assert text_of(page) == "第一回 山门\n却说。\n- 便走。\n\n后记\n完。"


def test_a_downloaded_markdown_file_without_headings_is_loaded_as_it_was(open_page):
    page = open_page()
    text = "却说孔明大喜。\n- 便走。\n1. 二。\n\n话说张飞大怒。"  # two chapters
    paste(page, text)
    page.fill("#name", "稿")
    page.click("#open-manuscripts")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download .md").click()
    markdown = Path(download.value.path()).read_bytes()
    assert markdown.decode() == "# 稿\n\n却说孔明大喜。\n\n\\- 便走。\n\n\\1. 二。\n\n* * *\n\n话说张飞大怒。\n"
    page.locator("#file").set_input_files({"name": "另.md", "mimeType": "", "buffer": markdown})
    expect(page.locator("#name")).to_have_value("另")
    assert text_of(page) == text


@pytest.mark.parametrize(
    "kind, content", [("txt", "第一回 山门\n却说。\n"), ("md", "# 记\n\n## 第一回 山门\n\n却说。\n")]
)
def test_a_manuscript_is_downloaded(open_page, kind, content):
    page = open_page()
    paste(page, "第一回 山门\n却说。")
    page.fill("#name", "记")
    page.click("#open-manuscripts")
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Download .{kind}").click()
    assert download.value.suggested_filename == f"记.{kind}"
    assert Path(download.value.path()).read_text(encoding="utf-8") == content


# -- the server --------------------------------------------------------------------------------------------------------


def test_queue_place_is_shown(open_page, server):
    page = open_page()
    stream = server.open_stream()
    wait_for(lambda: server.worker.running)
    page.keyboard.type(START)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#progress")).to_have_text("waiting, place 1 in the queue")
    stream.close()
    wait_until_written(page)


def test_key_is_asked_for_and_then_used(open_context, workplace):
    with running_server(workplace / "out/tiny", api_key="open sesame") as server:
        page = open_context(url=server.url).new_page()
        page.goto(server.url)
        page.get_by_role("textbox", name="Key").fill("open sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#model-name")).to_contain_text("tiny")
        page.click("#text")
        assert len(continue_text(page)) > len(START)
        page.close()
    open_context.problems[:] = [problem for problem in open_context.problems if "401" not in problem]


def test_a_killed_server_loses_no_text_and_is_found_again(open_page, workplace, monkeypatch):
    with running_server(workplace / "out/tiny") as first:
        page = open_page(ENDLESS, url=first.url)
        page.keyboard.type(START)
        page.keyboard.press("Control+Enter")
        expect(page.locator("#text .by-model").first).to_be_visible()
    expect(page.locator("#banner")).to_contain_text("does not answer")
    text = text_of(page)
    assert len(text) > len(START)
    monkeypatch.setattr(serve, "listen", functools.partial(listen_again, serve.listen, first.port))
    with running_server(workplace / "out/tiny"):
        expect(page.locator("#progress")).to_have_text("Connected again.")
        expect(page.locator("#banner")).to_be_hidden()
        page.keyboard.press("Control+Enter")
        wait_for(lambda: len(text_of(page)) > len(text))
        page.close()
    open_page.problems[:] = [problem for problem in open_page.problems if "ERR_" not in problem]


def listen_again(listen, port: int, host: str, _):
    """listen() at the port of before."""
    return listen(host, port)


# -- appearance --------------------------------------------------------------------------------------------------------


def test_the_language_is_the_browsers_and_can_be_switched(open_page):
    page = open_page({}, locale="zh-CN")
    expect(page.locator("#continue")).to_have_text("续写")
    page.click("#language")
    expect(page.locator("#continue")).to_have_text("Continue")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_dark_mode_is_the_systems_and_can_be_switched(open_page):
    page = open_page(color_scheme="dark")
    assert brightness(page) < 60
    page.click("#theme")
    assert brightness(page) > 200
    page.reload()
    assert brightness(page) > 200


def brightness(page) -> int:
    """Of the sheet, 0 to 255."""
    colour = page.locator(".sheet").evaluate("element => getComputedStyle(element).backgroundColor")
    return max(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_a_phone(open_page, language):
    page = open_page({**SHORT, "language": language}, viewport={"width": 360, "height": 640}, has_touch=True)
    page.keyboard.type(START)
    page.keyboard.press("Alt+p")
    wide = """() => [...document.querySelectorAll("body, body > *, main *, footer *, #drawer *")]
        .filter(element => element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML)"""
    assert page.evaluate(wide) == []
    for drawer in ("settings", "history", "manuscripts"):
        page.click(f"#open-{drawer}")
        expect(page.locator("#drawer-body > *").first).to_be_visible()
        assert page.evaluate(wide) == []
        page.keyboard.press("Escape")
    assert page.evaluate("() => document.scrollingElement.scrollWidth") == 360


def axe_source() -> str:
    """The source of axe-core. Skips the test where it is not installed."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(open_page, scheme):
    source = axe_source()
    page = open_page({**SHORT, "seed": 1}, color_scheme=scheme, reduced_motion="reduce")
    continue_text(page)
    page.click("#compare")
    wait_until_written(page)
    page.keyboard.press("Alt+p")
    assert serious_faults(page, source, "#choices") == []
    for drawer in ("manuscripts", "history", "settings"):
        page.click(f"#open-{drawer}")
        page.wait_for_selector(f"#drawer-body.{drawer} > *")
        assert serious_faults(page, source, "#drawer") == []
    page.keyboard.press("Alt+w")
    expect(page.locator("#candidates")).to_be_visible()
    assert serious_faults(page, source, "html") == []


def serious_faults(page, source: str, part: str) -> list[str]:
    """What axe-core finds in a part of the page, of serious or critical impact."""
    if not page.evaluate("() => 'axe' in globalThis"):
        page.evaluate(source)
    found = page.evaluate("part => axe.run(part)", part)
    return [
        f"{violation['id']}: {node['html']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
