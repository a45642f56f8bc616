"""What the worker does for a request. The results go to `emit`, a function that may be called in any thread."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from generation.batching import last_window
from generation.choices import Choice
from generation.completions import ApiError, CandidatesRequest, CompletionRequest, Delta
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
    """The last event of a request that succeeded. result: the answer's field `usage`, or the candidates."""

    result: dict | list[dict]


class Job:
    """A request, from the queue to its last event."""

    def __init__(self, request: CompletionRequest | CandidatesRequest, emit: Callable):
        """emit: called with Waiting, Delta, and last with Finished or an ApiError."""
        self.request, self.emit = request, emit
        self.encoded_for = None  # the folder of the model for which the prompts are encoded
        self.warnings = []  # for the client; complete when the prompts are encoded
        self.cancelled = False  # nobody waits for the results any more
        self.finished = False  # the last event was emitted

    def finish(self, event: Finished | ApiError) -> None:
        """Emit the last event."""
        if not self.finished:
            self.finished = True
            self.emit(event)


class CandidatesJob(Job):
    """What may come next?"""

    def run(self, loaded: LoadedModel) -> None:
        """Find the candidates. Raises ApiError."""
        request, model, tokenizer = self.request, loaded.model, loaded.tokenizer
        ids, keep, self.warnings = encode_prompt(tokenizer, model.config.block_size, request.prompt, request.prefix)
        self.finish(Finished(find_candidates(model, tokenizer, ids, keep, request)))


class CompletionJob(Job):
    """Continuations of one or several prompts."""

    def prepare(self, loaded: LoadedModel) -> None:
        """Encode the prompts, unless that is done. Raises ApiError."""
        if self.encoded_for == loaded.folder:
            return
        request, tokenizer, block_size = self.request, loaded.tokenizer, loaded.model.config.block_size
        self.prompts, self.choices, self.warnings = [], [], [*request.warnings]
        for number, prompt in enumerate(request.prompts):
            ids, self.keep, warnings = encode_prompt(tokenizer, block_size, prompt, request.prefix)
            self.warnings += [warning for warning in warnings if warning not in self.warnings]
            if request.scores_prompt and len(ids) > MOST_SCORED:
                raise ApiError(
                    400,
                    f"the prompt has {len(ids):,} tokens; at most {MOST_SCORED:,} are scored",
                    "prompt",
                    "invalid_value",
                )
            echo = (prompt if isinstance(prompt, str) else tokenizer.decode(prompt)) if request.echo else ""
            self.prompts.append((ids, echo))
            window = last_window(ids, block_size, self.keep)  # a copy per text, of a prompt that may be large
            self.choices += [
                Choice(tokenizer, window, request.params, request.stops, index, request.logprobs, len(echo))
                for index in range(number * request.n, (number + 1) * request.n)
            ]
        self.lengths = [min(len(ids), block_size) for ids, _ in self.prompts]  # as the model reads them
        self.encoded_for = loaded.folder

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
            tokens = None if request.logprobs is None else ()
            if request.scores_prompt:
                scores = []
                for window in score_ids(loaded.model, loaded.tokenizer, ids, self.keep, request.logprobs):
                    if self.cancelled:
                        return
                    scores += window
                tokens = prompt_tokens(loaded.tokenizer, text, ids[self.keep :], scores)
            if request.echo or not request.max_tokens:
                for index in range(number * n, (number + 1) * n):
                    self.emit(Delta(index, text, tokens, None if request.max_tokens else "length"))
        if not request.max_tokens:
            self.finish(Finished(self.usage()))

    def update(self) -> None:
        """Emit what is new, and finish when all is done. A cancelled job is done."""
        for choice in self.choices:
            choice.done = choice.done or self.cancelled
            if delta := choice.take():
                self.emit(delta)
        if all(choice.done for choice in self.choices):
            self.finish(Finished(self.usage()))

    def usage(self) -> dict:
        """OpenAI's object: the tokens of the prompts, and those generated so far."""
        read, generated = sum(len(ids) for ids, _ in self.prompts), sum(choice.new_tokens for choice in self.choices)
        return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}
