"""One text of an answer while it is generated: whole pieces, stop strings held back, log probabilities."""

from collections.abc import Sequence

import torch

from generation.batching import Continuation
from generation.completions import Delta, Token
from generation.sampling import SamplingParams
from tokenizer import Tokenizer


class Choice(Continuation):
    """A continuation as a client gets it. `take` gives what is new; what may begin a stop string waits."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: list[int],
        params: SamplingParams,
        stops: tuple[str, ...] = (),
        index: int = 0,
        logprobs: int | None = None,
        offset: int = 0,
    ):
        """ids: of the prompt, at least one. offset: characters before the generated text (those of an echo)."""
        super().__init__(tokenizer, "", params, ids)
        self.index, self.stops, self.logprobs, self.offset = index, stops, logprobs, offset
        self.unscored, self.scores = [], []  # a score per id: (log probability, the most likely tokens)
        self.pieces = []  # (text, number of the first of its ids, number of the id after it)
        self.sent_pieces, self.sent = 0, 0  # pieces and characters that `take` has given
        self.finish_reason, self.finish_sent = None, False

    def add(self, i: int, logprobs: torch.Tensor | None = None) -> None:
        """Take the next id. logprobs: (V,), those of the model at this place; needed where log probabilities are."""
        before = len(self.text)
        super().add(i)
        if self.logprobs is not None:
            self.unscored.append((i, logprobs))
        if len(self.text) > before:
            first = self.pieces[-1][2] if self.pieces else 0
            self.pieces.append((self.text[before:], first, self.new_tokens))
            ends = [self.text.find(stop, max(0, before - len(stop) + 1)) for stop in self.stops]
            if any(end >= 0 for end in ends):
                self.text = self.text[: min(end for end in ends if end >= 0)]
                self.done, self.finish_reason = True, "stop"
        if self.done and self.finish_reason is None:
            ended = self.params.stop == "chapter" and i == self.tokenizer.cls
            self.finish_reason = "stop" if ended else "length"

    def take(self) -> Delta | None:
        """The pieces that are whole and not taken yet; None: nothing is new."""
        if self.unscored:
            ids, logprobs = zip(*self.unscored)
            self.scores += scores(self.tokenizer, torch.stack(logprobs), ids, self.logprobs, chapter="\n\n")
            self.unscored.clear()
        begin, tokens = self.sent, []
        limit = len(self.text) - (0 if self.done else held_back(self.text, self.stops))
        while self.sent < limit:
            piece, first, end = self.pieces[self.sent_pieces]
            if self.sent + len(piece) > limit and not self.done:
                break
            if self.logprobs is not None:
                # A character of several bytes is one token: their log probabilities are added.
                logprob = sum(score[0] for score in self.scores[first:end])
                tokens.append(Token(piece, self.offset + self.sent, logprob, {**self.scores[first][1], piece: logprob}))
            self.sent, self.sent_pieces = min(self.sent + len(piece), limit), self.sent_pieces + 1
        if self.sent == begin and (not self.done or self.finish_sent):
            return None
        self.finish_sent = self.done
        tokens = None if self.logprobs is None else tuple(tokens)
        return Delta(self.index, self.text[begin : self.sent], tokens, self.finish_reason)


def held_back(text: str, stops: tuple[str, ...]) -> int:
    """The length of the longest end of the text with which a stop string begins."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def scores(tokenizer: Tokenizer, logprobs: torch.Tensor, ids: Sequence[int], k: int, chapter: str) -> list[tuple]:
    """(log probability of the id, {text: log probability} of the k most likely) for each id. logprobs: (n, V)."""
    own = logprobs.gather(1, torch.tensor(ids, device=logprobs.device)[:, None])[:, 0].tolist()
    values, tokens = (tensor.tolist() for tensor in logprobs.topk(min(k, logprobs.size(1))))
    tops = [
        {token_text(tokenizer, i, chapter): value for i, value in zip(row, numbers)}
        for row, numbers in zip(tokens, values)
    ]
    return list(zip(own, tops))


def token_text(tokenizer: Tokenizer, i: int, chapter: str = "[CLS]") -> str:
    """What a token stands for: "\\n" for [SEP], `chapter` for [CLS], "<0xE4>" for a byte."""
    if i in (tokenizer.sep, tokenizer.cls):
        return "\n" if i == tokenizer.sep else chapter
    token = tokenizer.tokens[i] if i < tokenizer.vocab_size else tokenizer.tokens[tokenizer.unk]
    return token if tokenizer.native else token.removeprefix("##")
