"""
The server and the page: python bench/serving.py --model=out/laptop

Tokens per second through the API for one, three and eight texts, the time to the first text of a stream, and, where
playwright and Chromium are, the page's first paint and the time that a keystroke takes in a text of 20,000 characters.
"""

from dataclasses import dataclass

from measure import ROOT, show, side_by_side

from configurator import PathStr, UserError, configure, run


@dataclass
class Settings:
    model: PathStr = ""  # a run or a checkpoint; empty: the newest run under out/


settings = configure(Settings) if __name__ == "__main__" else None

import json
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from functools import partial
from importlib.util import find_spec

TOKENS = 300  # per text
ROUNDS = 3  # measurements of each
WATCH_KEYSTROKES = """() => {
    globalThis.times = [];
    addEventListener("beforeinput", () => {
        const began = performance.now();
        requestAnimationFrame(() => setTimeout(() => times.push(performance.now() - began)));
    }, true);
}"""
FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main(s: Settings) -> None:
    command = [sys.executable, str(ROOT / "serve.py"), "--port=0", "--open=False", f"--model={s.model}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().partition(" ")[0]
            if not address:
                raise UserError("serve.py did not start")
            rows = api(address) + page(address)
        finally:
            server.terminate()
    show(rows)


def request(address: str, tokens: int, **fields) -> float:
    """Seconds until the first byte of the answer to a request for a continuation, which is read to its end."""
    body = json.dumps({"prompt": "却说", "max_tokens": tokens, "seed": 1, **fields}).encode()
    headers, began = {"Content-Type": "application/json"}, time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{address}v1/completions", body, headers)) as answer:
        next(line for line in answer if line.startswith((b"data:", b"{")))  # a stream begins with comments
        first = time.perf_counter() - began
        answer.read()
    return first


def api(address: str) -> list[dict]:
    """Tokens per second of all texts of a request together, and the time to the first text of a stream."""
    texts = (1, 3, 8)
    calls = {f"{n} texts of {TOKENS} tokens": partial(request, address, TOKENS, n=n) for n in texts}
    calls["one text, streamed"] = partial(request, address, TOKENS, stream=True)
    taken = side_by_side(ROUNDS, *calls.values())
    rows = [
        {"what": what, "ours": n * TOKENS / seconds, "unit": "tokens/s"}
        for what, n, seconds in zip(calls, (*texts, 1), taken)
    ]
    first = statistics.median(request(address, 20, stream=True) for _ in range(ROUNDS))
    return [*rows, {"what": "first text of a stream", "ours": first * 1e3, "unit": "ms"}]


def page(address: str) -> list[dict]:
    """First paint and a keystroke, in headless Chromium. Empty where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not (chromium and find_spec("playwright")):
        return []
    from playwright.sync_api import sync_playwright

    paints, keystrokes = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            tab = browser.new_context().new_page()
            tab.goto(address)
            tab.wait_for_function("() => document.activeElement.id === 'text'")
            paints.append(tab.evaluate(FIRST_PAINT))
            tab.keyboard.insert_text("\n".join(["却说阿青行至渡口，" * 22 + "。"] * 100))  # 20,000 characters
            tab.evaluate(WATCH_KEYSTROKES)
            for number in range(1, 11):
                tab.keyboard.insert_text("天")
                tab.wait_for_function(f"() => times.length === {number}")
            keystrokes += tab.evaluate("() => times")
            tab.context.close()
        browser.close()
    return [
        {"what": "the page's first paint", "ours": statistics.median(paints), "unit": "ms"},
        {"what": "a keystroke in 20,000 characters", "ours": statistics.median(keystrokes), "unit": "ms"},
    ]


if __name__ == "__main__":
    run(main, settings)
