"""Continuations in batches, on the small run of the tests."""

from collections import Counter

import pytest
import torch
from conftest import story
from test_wordpiece import BERT

import checkpoint
from configurator import UserError
from generation import batching
from generation.batching import Continuation, generate, max_batch_size
from generation.optimize import optimize_for_inference
from generation.sampling import SamplingParams
from tokenizer import Tokenizer

CPU = torch.device("cpu")
PROMPTS = [
    "却说阿青行至山门",
    "“",
    "却说老道行至竹林，望见灯火，便对小石道：“天色已晚。”却说白狐行至井边，听见钟声，便对樵夫道：“",
    "",
    "却" * 40,
]


def load(workplace, dtype=torch.float32, quantize="none"):
    """The tokenizer and the model of the small run."""
    folder = checkpoint.find_checkpoint(workplace / "out/tiny")
    model = optimize_for_inference(checkpoint.load_pretrained(folder), CPU, dtype, quantize)
    return checkpoint.load_tokenizer(folder), model


@pytest.fixture(scope="module")
def tiny(workplace):
    return load(workplace)


def in_batches_of(size, tokenizer, model, prompts, params):
    """The texts of all prompts, generated `size` at a time."""
    texts = []
    for first in range(0, len(prompts), size):
        texts += generate(model, tokenizer, prompts[first : first + size], params, seed=3, first_row=first)
    return [continuation.text for continuation in texts]


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_generate_in_16_and_8_bits_does_not_depend_on_the_batch(workplace, quantize):
    """For prompts of the same length; after the window has moved."""
    tokenizer, model = load(workplace, torch.bfloat16, quantize)
    params = SamplingParams(max_new_tokens=70, temperature=1.5, top_p=1.0)
    prompts = ["却说阿青行至山门"] * 3 + ["且说白狐行至井边"] * 3
    texts = [in_batches_of(size, tokenizer, model, prompts, params) for size in (6, 1, 4)]
    assert texts[0] == texts[1] == texts[2] and len(set(texts[0])) == 6


def test_generate_in_fp32_does_not_depend_on_the_batch(tiny):
    """For prompts of different lengths; after the window has moved."""
    params = SamplingParams(max_new_tokens=70, repetition_penalty=1.1)
    texts = [in_batches_of(size, *tiny, PROMPTS, params) for size in (5, 1, 2)]
    assert texts[0] == texts[1] == texts[2]
    assert all(text.startswith(prompt) for text, prompt in zip(texts[0], PROMPTS))


@pytest.mark.parametrize("stop, last", [("paragraph", "\n"), ("，", "，")])
def test_generate_stops_after_a_paragraph_or_a_text(tiny, stop, last):
    tokenizer, model = tiny
    params = SamplingParams(max_new_tokens=3000, stop=stop)
    for continuation in generate(model, tokenizer, PROMPTS, params, seed=1):
        assert continuation.done and continuation.new_tokens < params.max_new_tokens
        assert continuation.new_text.endswith(last) and last not in continuation.new_text[:-1]


def test_continuation_stops_after_the_last_paragraph_of_a_chapter():
    tokenizer = Tokenizer.build(Counter(story()))
    continuation = Continuation(tokenizer, "却", SamplingParams(stop="paragraph"))
    continuation.add(tokenizer.cls)
    assert (continuation.done, continuation.text) == (True, "却")


def test_generate_does_not_complete_a_prompt_that_ends_inside_a_character(tiny):
    """Alone or in a batch with a longer prompt."""
    tokenizer, model = tiny
    ids, params = tokenizer.encode("却说龘").tolist(), SamplingParams(max_new_tokens=6)
    cut, longer = ids[:-1], tokenizer.encode("却说阿青行至山门").tolist()
    batch = [Continuation(tokenizer, tokenizer.decode(row), params, row) for row in (cut, longer)]
    alone = [Continuation(tokenizer, tokenizer.decode(cut), params, cut)]
    together, single = (generate(model, tokenizer, rows, params, seed=3)[0] for rows in (batch, alone))
    assert together.ids == single.ids and "\ufffd" not in together.new_text


def test_generate_stops_before_the_next_chapter(tiny):
    tokenizer, model = tiny
    params = SamplingParams(max_new_tokens=3000, stop="chapter", top_p=1.0, temperature=2.0)
    for continuation in generate(model, tokenizer, PROMPTS, params, seed=1):
        assert continuation.done and continuation.new_tokens < params.max_new_tokens
        assert continuation.ids[-1] == tokenizer.cls and tokenizer.cls not in continuation.ids[1:-1]


def test_generate_writes_only_whole_assigned_characters(tiny):
    """At a temperature at which bytes are as likely as anything."""
    tokenizer, model = tiny
    params = SamplingParams(max_new_tokens=400, temperature=100.0, top_p=1.0)
    for continuation in generate(model, tokenizer, ["却说"] * 4, params, seed=1):
        assert "\ufffd" not in continuation.text and "[UNK]" not in continuation.text
        assert all(c in "\n\t" or c.isprintable() or c.isspace() for c in continuation.text)
        assert tokenizer.is_byte[continuation.ids].sum() > 50
        assert tokenizer.decode(continuation.ids).replace("[CLS]", "\n\n") == continuation.text


def test_generate_is_up_to_date_after_an_exception(tiny):
    tokenizer, model = tiny

    def interrupt(batch):
        if batch[0].new_tokens == 5:
            raise KeyboardInterrupt

    batch = [Continuation(tokenizer, "却说", SamplingParams())]
    with pytest.raises(KeyboardInterrupt):
        generate(model, tokenizer, batch, SamplingParams(), seed=1, on_update=interrupt)
    assert batch[0].new_tokens == 5 and len(batch[0].text) > 2


def test_continuation_holds_bytes_back_until_a_character_is_whole():
    tokenizer = Tokenizer.build(Counter(story()), min_count=2)
    text = "却说龘😀é老道\n第"
    continuation, pieces = Continuation(tokenizer, "始", SamplingParams()), []
    for i in tokenizer.encode(text).tolist():
        before = continuation.text
        continuation.add(i)
        pieces.append(continuation.text[len(before) :])
    assert continuation.text == "始" + text and not any("\ufffd" in piece for piece in pieces) and "" in pieces


def test_continuation_shows_a_chapter_as_an_empty_line():
    tokenizer = Tokenizer.build(Counter(story()))
    continuation = Continuation(tokenizer, "却", SamplingParams())
    continuation.add(tokenizer.cls)
    assert continuation.text == "却\n\n"


def test_continuation_keeps_spaces_between_words_of_a_bert_vocabulary():
    continuation = Continuation(BERT, "的hello", SamplingParams())
    for token in ("want", "##ed", "的", "hello", "[SEP]", "hello"):
        continuation.add(BERT.token_to_id(token))
    assert continuation.text == "的hello wanted的hello\nhello"


def test_continuation_refuses_a_prompt_of_lone_surrogates():
    with pytest.raises(UserError, match="not valid text"):
        Continuation(Tokenizer.build(Counter(story())), "\ud800", SamplingParams())


@pytest.mark.parametrize("caches, least, most", [(200, 10, 99), (0, 16, 16), (0.0001, 1, 1)])
def test_max_batch_size_is_what_half_of_the_memory_holds(tiny, monkeypatch, caches, least, most):
    """A cache: keys and values of 2 layers, 32 wide, 32 positions, fp32. 0: the free memory is unknown."""
    monkeypatch.setattr(batching, "free_memory", lambda device: int(caches * 2 * 2 * 32 * 32 * 4))
    assert least <= max_batch_size(tiny[1], CPU, 30) <= most


def test_max_batch_size_counts_the_ids(tiny, monkeypatch):
    monkeypatch.setattr(batching, "free_memory", lambda device: 2**30)
    assert max_batch_size(tiny[1], CPU, 10**7) == 2
