"""
The requests of OpenAI's completions API, checked, and the objects that answer them.

Fields: https://platform.openai.com/docs/api-reference/completions. docs/api.md lists what else is accepted.
"""

import re
import time
import uuid
from dataclasses import dataclass

from configurator import UserError
from generation.batching import START_OF_CHAPTER
from generation.sampling import SamplingParams

MOST_LOGPROBS, MOST_CANDIDATES, MOST_TEXTS = 20, 50, 128
MOST_STOPS, LONGEST_STOP = 64, 200  # stop strings and their characters
IGNORED = ("presence_penalty", "frequency_penalty", "logit_bias")  # accepted; a warning says that they do nothing
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An error that a client gets, with its HTTP status. `body` is OpenAI's error object."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None, headers=None):
        super().__init__(message)
        self.status, self.headers = status, headers
        kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class CandidatesRequest:
    """What may come after a prompt?"""

    model: str  # "": the default
    prompt: str | tuple[int, ...]
    prefix: str  # stays in the context window
    params: SamplingParams
    count: int


@dataclass(frozen=True)
class CompletionRequest:
    """Prompts to continue, each n times."""

    model: str  # "": the default
    prompts: tuple[str | tuple[int, ...], ...]
    prefix: str  # stays in the context window
    params: SamplingParams  # params.max_new_tokens is at least 1, params.stop "" or "chapter"
    max_tokens: int  # may be 0
    n: int
    seed: int | None  # None: another text each time
    stops: tuple[str, ...]  # texts before which a continuation ends
    logprobs: int | None
    echo: bool
    stream: bool
    include_usage: bool
    warnings: tuple[str, ...]

    @property
    def scores_prompt(self) -> bool:
        """Are log probabilities of the prompt asked for?"""
        return self.echo and self.logprobs is not None


class Fields:
    """The fields of a JSON object, with their types. A field that is missing or null has its default."""

    def __init__(self, body):
        if not isinstance(body, dict):
            raise ApiError(400, "the body must be a JSON object")
        self.body = body

    def get(self, name: str, default, kinds, what: str):
        """A field's value. bool is no number. Raises ApiError."""
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise ApiError(400, f"{name} must be {what}", name, "invalid_type")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.get(name, default, (int, float), "a number")
        if not abs(value) < 1e30:  # also NaN
            raise ApiError(400, f"{name} must be a number below 1e30", name, "invalid_value")
        return float(value)

    def integer(self, name: str, default: int | None, lowest: int = -(2**63), highest: int = 2**63 - 1):
        value = self.get(name, default, (int, float), "an integer")
        if isinstance(value, float):
            if not value.is_integer():
                raise ApiError(400, f"{name} must be an integer", name, "invalid_type")
            value = int(value)
        if value is not None and not lowest <= value <= highest:
            raise ApiError(400, f"{name} is {value}; it must be from {lowest} to {highest}", name, "invalid_value")
        return value

    def flag(self, name: str) -> bool:
        return self.get(name, False, bool, "true or false")

    def text(self, name: str) -> str:
        return check_text(self.get(name, "", str, "a string"), name)

    def params(self, max_new_tokens: int = 1, stop: str = "") -> SamplingParams:
        """The sampling parameters. Their defaults are those of sample.py."""
        default = SamplingParams()
        try:
            return SamplingParams(
                max_new_tokens=max_new_tokens,
                stop=stop,
                temperature=self.number("temperature", default.temperature),
                top_k=max(0, self.integer("top_k", default.top_k, -1, 2**31)),  # -1 is llama.cpp's way to say "off"
                top_p=self.number("top_p", default.top_p) or 1e-6,  # 0: only the most likely token
                min_p=self.number("min_p", default.min_p),
                # rep_pen: KoboldAI Lite's name
                repetition_penalty=self.number(
                    "repetition_penalty", self.number("rep_pen", default.repetition_penalty)
                ),
            )
        except UserError as error:
            message = str(error).removeprefix("--")
            raise ApiError(400, message, message.partition("=")[0], "invalid_value") from None


def check_text(text: str, name: str) -> str:
    """The text. Raises ApiError for lone surrogates, which JSON can hold and UTF-8 cannot."""
    if re.search("[\ud800-\udfff]", text):
        raise ApiError(400, f"{name} is not valid text: it holds half of a surrogate pair", name, "invalid_value")
    return text


def parse_completion(body, most_tokens: int) -> CompletionRequest:
    """A request's JSON -> CompletionRequest. most_tokens: the largest max_tokens. Raises ApiError."""
    fields = Fields(body)
    if fields.text("suffix"):
        raise ApiError(400, "suffix: this model continues text, it does not fill a gap", "suffix", "unsupported")
    max_tokens = fields.integer("max_tokens", min(16, most_tokens), 0, most_tokens)
    prompts, n = parse_prompts(body.get("prompt")), fields.integer("n", 1, 1, MOST_TEXTS)
    if len(prompts) * n > MOST_TEXTS:
        raise ApiError(400, f"{len(prompts)} prompts times n={n}: at most {MOST_TEXTS} texts", "n", "invalid_value")
    seed = fields.integer("seed", None)
    stops = parse_stops(body.get("stop"))
    return CompletionRequest(
        model=fields.text("model"),
        prompts=prompts,
        prefix=fields.text("prefix"),
        params=fields.params(max(1, max_tokens), "chapter" if START_OF_CHAPTER in stops else ""),
        max_tokens=max_tokens,
        n=n,
        seed=seed if seed is None or seed >= 0 else None,  # -1 is the way of others to say "any"
        stops=tuple(stop for stop in stops if stop != START_OF_CHAPTER),
        logprobs=None if body.get("logprobs") is False else fields.integer("logprobs", None, 0, MOST_LOGPROBS),
        echo=fields.flag("echo"),
        stream=fields.flag("stream"),
        include_usage=Fields(fields.get("stream_options", {}, dict, "an object")).flag("include_usage"),
        warnings=tuple(f"{name} does nothing here" for name in IGNORED if body.get(name)),
    )


def parse_candidates(body) -> CandidatesRequest:
    """A request's JSON -> CandidatesRequest. Raises ApiError."""
    fields, prompts = Fields(body), parse_prompts(body.get("prompt"))
    if len(prompts) > 1:
        raise ApiError(400, "prompt must be one text", "prompt", "invalid_type")
    return CandidatesRequest(
        model=fields.text("model"),
        prompt=prompts[0],
        prefix=fields.text("prefix"),
        params=fields.params(),
        count=fields.integer("count", 10, 1, MOST_CANDIDATES),
    )


def parse_prompts(prompt) -> tuple[str | tuple[int, ...], ...]:
    """A string, a list of strings, a list of ids or a list of such lists -> the prompts. Raises ApiError.

    None: the start of a chapter.
    """
    if prompt is None:
        return (START_OF_CHAPTER,)
    prompts = prompt if isinstance(prompt, list) and not is_ids(prompt) else [prompt]
    if not prompts or not all(isinstance(item, str) or is_ids(item) for item in prompts):
        raise ApiError(
            400,
            "prompt must be a string, a list of strings, a list of token ids or a list of such lists",
            "prompt",
            "invalid_type",
        )
    return tuple(check_text(item, "prompt") if isinstance(item, str) else tuple(item) for item in prompts)


def is_ids(item) -> bool:
    """Is it a list of token ids, not empty?"""
    return isinstance(item, list) and bool(item) and all(type(i) is int for i in item)


def parse_stops(stop) -> list[str]:
    """null, a string or a list of strings -> the stop strings, without empty ones. Raises ApiError."""
    stops = [] if stop is None else stop if isinstance(stop, list) else [stop]
    if not all(isinstance(item, str) for item in stops):
        raise ApiError(400, "stop must be a string or a list of strings", "stop", "invalid_type")
    if len(stops) > MOST_STOPS or any(len(item) > LONGEST_STOP for item in stops):
        raise ApiError(
            400,
            f"stop: at most {MOST_STOPS} stop strings of at most {LONGEST_STOP} characters",
            "stop",
            "invalid_value",
        )
    return [item for item in stops if item]


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """A piece of text with the model's log probability of it (natural logarithm)."""

    text: str
    offset: int  # where it begins in the text of the choice, in characters
    logprob: float | None  # None: nothing comes before it
    top: dict[str, float] | None  # the most likely tokens at this place


@dataclass(frozen=True)
class Delta:
    """New text of one choice."""

    index: int
    text: str
    tokens: tuple[Token, ...] | None  # None: no log probabilities were asked for
    finish_reason: str | None  # "stop" or "length" in a choice's last delta


def choice_json(deltas: list[Delta]) -> dict:
    """A choice of the answer, from all its deltas or from one (in a stream)."""
    logprobs = None
    if deltas[0].tokens is not None:
        tokens = [token for delta in deltas for token in delta.tokens]
        logprobs = {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [token.top for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }
    return {
        "text": "".join(delta.text for delta in deltas),
        "index": deltas[0].index,
        "logprobs": logprobs,
        "finish_reason": deltas[-1].finish_reason,
    }


def warnings_json(warnings: list[str]) -> dict:
    """The field `warnings`, where there are any."""
    return {"warnings": warnings} if warnings else {}


def answer_head(model: str) -> dict:
    """The fields that all objects of one answer have in common."""
    return {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": model}


def answer_json(head: dict, deltas: list[Delta], warnings: list[str], **usage) -> dict:
    """A whole answer, or one event of a stream. head: of answer_head. usage: the field `usage`, if there is one."""
    by_index = {}
    for delta in deltas:
        by_index.setdefault(delta.index, []).append(delta)
    choices = [choice_json(by_index[index]) for index in sorted(by_index)]
    return {**head, "choices": choices, **usage, **warnings_json(warnings)}
