"""What the worker does for a request. The results go to `emit`, a function that may be called in any thread."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from generation.choices import Choice
from generation.completions import ApiError, CandidatesRequest, CompletionRequest, Delta, Usage
from generation.scoring import MOST_SCORED, encode_prompt, find_candidates, prompt_tokens, score_ids
from model import GPT
from tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory."""

    folder: Path
    tokenizer: Tokenizer
    model: GPT


@dataclass(frozen=True)
class Waiting:
    """The place of a request in the queue, from 1; 0: it is being served."""

    place: int


@dataclass(frozen=True)
class Finished:
    """The last event of a request that succeeded. result: a Usage, or the candidates."""

    result: Usage | list[dict]


class Job(ABC):
    """A request, from the queue to its last event."""

    def __init__(self, request: CompletionRequest | CandidatesRequest, emit: Callable):
        """emit: called with Waiting, Delta, and last with Finished or an ApiError."""
        self.request, self.emit = request, emit
        self.loaded = None  # the model for which the prompts are encoded
        self.warnings = []  # for the client; complete when the prompts are encoded
        self.cancelled = False  # nobody waits for the results any more
        self.finished = False  # the last event was emitted

    def prepare(self, loaded: LoadedModel) -> None:
        """Encode the prompts, unless that is done. Raises ApiError."""
        if self.loaded is not loaded:
            self.encode(loaded)
            self.loaded = loaded

    @abstractmethod
    def encode(self, loaded: LoadedModel) -> None:
        """Make ids of the request's texts. Raises ApiError."""

    def finish(self, event: Finished | ApiError) -> None:
        """Emit the last event."""
        if not self.finished:
            self.finished = True
            self.emit(event)


class CandidatesJob(Job):
    """What may come next?"""

    def encode(self, loaded: LoadedModel) -> None:
        request, block_size = self.request, loaded.model.config.block_size
        self.ids, self.keep, self.warnings = encode_prompt(loaded.tokenizer, block_size, request.prompt, request.prefix)

    def run(self, loaded: LoadedModel) -> None:
        """Find the candidates. Raises ApiError."""
        self.prepare(loaded)
        self.finish(Finished(find_candidates(loaded.model, loaded.tokenizer, self.ids, self.keep, self.request)))


class CompletionJob(Job):
    """Continuations of one or several prompts."""

    def encode(self, loaded: LoadedModel) -> None:
        request, tokenizer, block_size = self.request, loaded.tokenizer, loaded.model.config.block_size
        self.prompts, self.choices = [], []
        for number, prompt in enumerate(request.prompts):
            ids, self.keep, warnings = encode_prompt(tokenizer, block_size, prompt, request.prefix)
            if request.scores_prompt and len(ids) > MOST_SCORED:
                message = f"the prompt has {len(ids):,} tokens; at most {MOST_SCORED:,} are scored"
                raise ApiError(400, message, "prompt", "invalid_value")
            text = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
            self.prompts.append((ids, text))
            offset = len(text) if request.echo else 0
            for index in range(number * request.n, (number + 1) * request.n):
                choice = Choice(tokenizer, ids, request.params, request.stops, index, request.logprobs, offset)
                self.choices.append(choice)
        self.warnings = [*request.warnings, *warnings]
        lengths = [min(len(ids), block_size) for ids, _ in self.prompts]
        self.shortest, self.longest = min(lengths), max(lengths)  # as the model reads them

    @property
    def shareable(self) -> bool:
        """May the texts be written in one batch with those of other requests?

        With a seed they may not: it belongs to the rows of one batch, and in 16 bits a text can depend on the batch.
        """
        return self.request.seed is None and self.request.max_tokens > 0

    @property
    def settings(self) -> tuple:
        """What all texts of a batch have in common, besides the model."""
        return self.keep, replace(self.request.params, max_new_tokens=1, stop="")

    def echo(self, loaded: LoadedModel) -> None:
        """Emit the prompts, if they are wanted, with scores if those are. With max_tokens=0 this is all."""
        request, n = self.request, self.request.n
        for number, (ids, text) in enumerate(self.prompts):
            text, tokens = (text if request.echo else ""), (None if request.logprobs is None else ())
            if request.scores_prompt:
                scores = []
                for window in score_ids(loaded.model, loaded.tokenizer, ids, self.keep, request.logprobs):
                    if self.cancelled:
                        return
                    scores += window
                tokens = prompt_tokens(loaded.tokenizer, text, ids[self.keep :], scores)
            if request.echo or not request.max_tokens:
                reason = None if request.max_tokens else "length"
                for index in range(number * n, (number + 1) * n):
                    self.emit(Delta(index, text, tokens, reason))
        if not request.max_tokens:
            self.finish(Finished(self.usage()))

    def update(self) -> None:
        """Emit what is new, and finish when all is done. A cancelled job is done."""
        if self.finished:
            return
        for choice in self.choices:
            choice.done = choice.done or self.cancelled
            if delta := choice.take():
                self.emit(delta)
        if all(choice.done for choice in self.choices):
            self.finish(Finished(self.usage()))

    def usage(self) -> Usage:
        """The tokens of the prompts, and those generated so far."""
        return Usage(sum(len(ids) for ids, _ in self.prompts), sum(choice.new_tokens for choice in self.choices))
