"""The API's requests, and the text of an answer as it grows."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import story
from test_wordpiece import BERT

from generation.batching import generate
from generation.choices import Choice, held_back
from generation.completions import ApiError, Delta, Token, choice_json, parse_candidates, parse_completion
from generation.sampling import SamplingParams
from generation.scoring import encode_prompt, prompt_tokens
from model import GPTConfig
from tokenizer import Tokenizer

NATIVE = Tokenizer.build(Counter(story()))


def parse(**fields):
    return parse_completion({"prompt": "却说", **fields}, most_tokens=100)


def choice(text: str, stops=(), max_new_tokens=100, stop="", **settings) -> tuple[Choice, list[Delta]]:
    """A choice that was given a text token by token, and what it gave."""
    params = SamplingParams(max_new_tokens=max_new_tokens, stop=stop)
    made, deltas = Choice(NATIVE, [NATIVE.cls], params, stops, **settings), []
    for number, i in enumerate(NATIVE.encode(text).tolist()):
        if made.done:
            break
        logprobs = torch.full((NATIVE.vocab_size,), -99.0)
        logprobs[NATIVE.token_to_id("青")], logprobs[i] = -0.5, -1.0 - number
        made.add(i, logprobs)
        deltas += [delta] if (delta := made.take()) else []
    return made, deltas


# -- requests ----------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_api_and_of_sample():
    request = parse_completion({}, most_tokens=100)
    assert request.prompts == ("[CLS]",) and request.max_tokens == 16 and request.n == 1
    assert request.params == SamplingParams(max_new_tokens=16) and request.seed is request.logprobs is None
    assert not (request.echo or request.stream or request.include_usage or request.stops or request.warnings)


def test_default_length_is_within_the_limit_of_the_server():
    assert parse_completion({"prompt": "却"}, 8).max_tokens == 8


def test_null_is_the_default():
    names = "prompt max_tokens n seed stop logprobs echo stream stream_options temperature top_p top_k min_p model"
    assert parse_completion(dict.fromkeys(names.split()), 100) == parse_completion({}, 100)


def test_unknown_fields_are_ignored():
    assert parse(best_of=3, user="x", typical_p=1, mirostat_mode=2) == parse()


def test_fields_of_koboldai_lite_are_understood():
    """With its box "Non-Standard Fields" ticked."""
    request = parse(
        max_tokens=80, model="tiny", temperature=0.75, top_p=0.92, n=1, max_context_length=1024, max_length=80,
        rep_pen=1.07, rep_pen_range=360, sampler_order=[6, 0, 1, 3, 4, 2, 5], memory="", trim_stop=True, top_k=100,
        use_default_badwordsids=False, bypass_eos=False, min_p=0, tfs=1, presence_penalty=0, logit_bias={},
        logprobs=False, replace_instruct_placeholders=True, stop_sequence=["a"], stream=True,
    )  # fmt: skip
    assert request.params == SamplingParams(80, "", 0.75, 100, 0.92, 0.0, 1.07) and request.logprobs is None
    assert request.stream and not request.warnings


def test_fields_of_sillytavern_are_understood():
    """With its API type "Text Generation WebUI"."""
    request = parse(
        prompt="却说", max_new_tokens=90, max_tokens=90, temperature=1, top_p=1, typical_p=1, sampler_seed=-1,
        min_p=0.1, repetition_penalty=1, frequency_penalty=0, presence_penalty=0, top_k=0, skew=0, min_tokens=0,
        length_penalty=1, early_stopping=False, add_bos_token=True, dynamic_temperature=False, do_sample=True, seed=-1,
        stop=["\n老道:"], stopping_strings=["\n老道:"], truncation_length=2048, ban_eos_token=False, api_type="ooba",
        skip_special_tokens=True, top_a=0, tfs=1, mirostat_mode=0, rep_pen=1, guidance_scale=1, negative_prompt="",
        grammar_string="", sampler_priority=["temperature"], logit_bias=[], stream=True, custom_token_bans="",
        api_server="http://127.0.0.1:8000/v1", model=None, n=None,
    )  # fmt: skip
    assert request.params == SamplingParams(90, "", 1.0, 0, 1.0, 0.1, 1.0) and request.stops == ("\n老道:",)
    assert request.seed is None and request.model == "" and not request.warnings


@pytest.mark.parametrize(
    "prompt, prompts",
    [
        ("却", ("却",)),
        ("", ("",)),
        (["却", "说"], ("却", "说")),
        ([5, 6], ((5, 6),)),
        ([[5], [6, 7]], ((5,), (6, 7))),
    ],
)
def test_prompts_are_texts_or_token_ids(prompt, prompts):
    assert parse(prompt=prompt).prompts == prompts


def test_what_other_programs_call_off_is_off():
    assert parse(seed=-1).seed is None and parse(top_k=-1).params.top_k == 0 and parse(stop=["", "。"]).stops == ("。",)


def test_top_p_of_zero_keeps_only_the_most_likely_token():
    assert 0 < parse(top_p=0).params.top_p < 1e-5


def test_stop_at_the_chapter_is_no_text():
    request = parse(stop=["[CLS]", "。"])
    assert request.params.stop == "chapter" and request.stops == ("。",)


def test_penalties_that_do_nothing_are_named():
    assert parse(presence_penalty=0.5, frequency_penalty=0).warnings == ("presence_penalty does nothing here",)


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"prompt": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prefix": "\ud800"}, "prefix"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "16"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": float("inf")}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 10**30}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": 65, "prompt": ["a", "b"]}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"seed": 2**63}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": "a" * 201}, "stop"),
        ({"echo": "yes"}, "echo"),
        ({"stream": 1}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"model": 5}, "model"),
        ({"suffix": "end"}, "suffix"),
    ],
    ids=str,
)
def test_bad_fields_are_named(fields, param):
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    error = caught.value.body["error"]
    assert caught.value.status == 400 and error["param"] == param and param in error["message"]
    assert error["type"] == "invalid_request_error" and error["code"]


@pytest.mark.parametrize("body", [[], "text", None, 3])
def test_body_that_is_no_object_is_refused(body):
    for parse_body in (lambda body: parse_completion(body, 100), parse_candidates):
        with pytest.raises(ApiError, match="JSON object"):
            parse_body(body)


@pytest.mark.parametrize("fields", [{"count": 51}, {"count": 0}, {"prompt": ["a", "b"]}])
def test_candidates_are_limited(fields):
    with pytest.raises(ApiError):
        parse_candidates(fields)


# -- the text of a choice ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, stops, held",
    [
        ("却说", ("。”",), 0),
        ("却说。", ("。”",), 1),
        ("却说。", ("。", "说。”"), 2),
        ("aab", ("aabaac",), 3),
        ("", ("a",), 0),
        ("却说", (), 0),
    ],
)
def test_held_back_is_the_longest_beginning_of_a_stop_string(text, stops, held):
    assert held_back(text, stops) == held


def test_stop_string_is_never_given():
    made, deltas = choice("却说老道。”便对", stops=("。”",))
    assert [delta.text for delta in deltas] == ["却", "说", "老", "道", ""]
    assert deltas[-1].finish_reason == made.finish_reason == "stop"


def test_held_back_text_is_given_when_it_is_no_stop_string():
    _, deltas = choice("老道。便", stops=("。”",))
    assert [delta.text for delta in deltas] == ["老", "道", "。便"]


def test_held_back_text_is_given_at_the_end():
    _, deltas = choice("老道。便", stops=("。”",), max_new_tokens=3)
    assert [(delta.text, delta.finish_reason) for delta in deltas] == [("老", None), ("道", None), ("。", "length")]


def test_earliest_stop_string_counts():
    _, deltas = choice("却说老道便对", stops=("便", "老道便", "说老"))
    assert "".join(delta.text for delta in deltas) == "却" and deltas[-1].finish_reason == "stop"


def test_paragraph_ends_at_a_line_break_and_at_a_chapter():
    for end in ("\n", "[CLS]"):
        _, deltas = choice(f"却说{end}老道", stops=("\n",))
        assert "".join(delta.text for delta in deltas) == "却说" and deltas[-1].finish_reason == "stop"


def test_chapter_ends_without_its_token():
    _, deltas = choice("却\n说[CLS]老道", stop="chapter")
    assert "".join(delta.text for delta in deltas) == "却\n说" and deltas[-1].finish_reason == "stop"


def test_character_of_bytes_is_given_whole_with_the_sum_of_its_scores():
    _, deltas = choice("却😀说", logprobs=1)
    assert [delta.text for delta in deltas] == ["却", "😀", "说"]
    (token,) = deltas[1].tokens
    assert token == Token("😀", 1, -2.0 - 3.0 - 4.0 - 5.0, {"青": -0.5, "😀": -14.0})
    assert deltas[2].tokens[0].offset == 2


def test_logprobs_end_where_the_text_ends():
    _, deltas = choice("却说老道便", stops=("道便",), logprobs=0, offset=7)
    answer = choice_json(deltas)
    assert answer["text"] == "却说老" == "".join(answer["logprobs"]["tokens"])
    assert answer["logprobs"]["text_offset"] == [7, 8, 9] and answer["logprobs"]["token_logprobs"] == [-1, -2, -3]


def test_each_row_gets_the_scores_of_its_own_steps():
    """Prompts of 1 and 3 tokens, four steps read at once: the first row ends where the second begins, in step 2."""
    params = SamplingParams(max_new_tokens=2)
    batch = [Choice(NATIVE, [NATIVE.cls] * n, params, logprobs=0) for n in (1, 3)]
    logits = torch.randn(4, 2, NATIVE.vocab_size, generator=torch.Generator().manual_seed(1))
    ids = NATIVE.encode("却说老道").tolist()

    def stream(idx, max_new_tokens, on_logits, **settings):
        for step in range(4):
            on_logits(logits[step])
            yield torch.tensor([ids[step]] * 2)

    wpe = SimpleNamespace(weight=torch.empty(0, device="meta"))  # no CPU: several steps are read at once
    transformer, config = SimpleNamespace(wpe=wpe), GPTConfig(NATIVE.vocab_size, 8)
    model = SimpleNamespace(transformer=transformer, config=config, stream=stream)
    deltas = []
    update = lambda batch: deltas.extend(choice.take() for choice in batch)  # noqa: E731
    generate(model, NATIVE, batch, params, seed=1, on_update=update, with_logprobs=True)
    expected = logits.log_softmax(-1)
    assert [delta.text for delta in deltas] == ["却说", "老道"]
    for row, steps in ((0, (0, 1)), (1, (2, 3))):
        own = [expected[step, row, ids[step]].item() for step in steps]
        assert [token.logprob for token in deltas[row].tokens] == pytest.approx(own)


# -- prompts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [NATIVE, BERT], ids=["native", "bert"])
@pytest.mark.parametrize("prompt", ["[CLS]的一[SEP]want\n  Wanted😀 é, 的的龘 ", "Want", " 的", "😀😀"])
def test_tokens_of_a_prompt_are_its_text(tokenizer, prompt):
    ids = tokenizer.encode_lines(prompt).tolist()
    tokens = prompt_tokens(tokenizer, prompt, ids, [(None, None)] + [(-1.0, {})] * (len(ids) - 1))
    assert "".join(token.text for token in tokens) == prompt and len(tokens) <= len(ids)
    assert [token.offset for token in tokens] == [sum(len(t.text) for t in tokens[:i]) for i in range(len(tokens))]
    assert tokens[0].logprob is None and all(token.logprob <= -1 for token in tokens[1:])


def test_capitals_belong_to_the_tokens_that_bert_rules_make_of_them():
    ids = BERT.encode_lines("的 Wanted。").tolist()
    tokens = prompt_tokens(BERT, "的 Wanted。", ids, [(-1.0, {})] * len(ids))
    assert [token.text for token in tokens[:3]] == ["的 ", "Want", "ed"]


def test_prefix_takes_at_most_half_of_the_window():
    ids, keep, warnings = encode_prompt(NATIVE, 8, "却说", "阿青老道小石")
    assert NATIVE.decode(ids) == "老道小石却说" and keep == 4 and "last 4 tokens" in warnings[0]
    assert encode_prompt(NATIVE, 8, "却说", "阿青")[1:] == (2, [])


def test_empty_prompt_starts_a_chapter_but_not_after_a_prefix():
    assert encode_prompt(NATIVE, 8, "", "")[0] == [NATIVE.cls]
    assert NATIVE.decode(encode_prompt(NATIVE, 8, "", "阿青")[0]) == "阿青"


@pytest.mark.parametrize("prompt", [(NATIVE.vocab_size,), (-1,)])
def test_token_ids_outside_the_vocabulary_are_refused(prompt):
    with pytest.raises(ApiError, match="token ids are 0 to"):
        encode_prompt(NATIVE, 8, prompt, "")


def test_prompt_of_ids_that_ends_inside_a_character_is_named():
    whole = NATIVE.encode_lines("却龘").tolist()
    assert encode_prompt(NATIVE, 8, tuple(whole), "")[2] == []
    assert "inside a character" in encode_prompt(NATIVE, 8, tuple(whole[:-1]), "")[2][0]


def test_prompt_without_known_characters_is_refused():
    with pytest.raises(ApiError, match="none of the prompt's characters"):
        encode_prompt(BERT, 8, "   ", "")
