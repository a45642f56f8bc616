"""
Prompts in, continuations out, several in one batch.

    texts = generate(model, tokenizer, ["却说孔明", "[CLS]"], SamplingParams(max_new_tokens=200), seed=1)
    texts[0].text
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch

from configurator import UserError
from generation.sampling import SamplingParams
from machine import free_memory
from model import GPT
from tokenizer import Tokenizer

START_OF_CHAPTER = "[CLS]"


class Continuation:
    """A prompt and the text generated after it: ids in, whole characters out."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, params: SamplingParams, ids: list[int] | None = None):
        """prompt: "" starts a chapter. ids: those of the prompt, where they are known.

        Raises UserError when the prompt is not valid text, or the vocabulary has none of its characters.
        """
        try:
            self.ids = list(ids) if ids is not None else tokenizer.encode_lines(prompt or START_OF_CHAPTER).tolist()
        except UnicodeEncodeError:
            raise UserError(f"the prompt {prompt!r} is not valid text") from None
        if not self.ids:
            raise UserError(f"the vocabulary has none of the characters of the prompt {prompt!r}")
        self.tokenizer, self.params, self.prompt = tokenizer, params, prompt
        self.text = displayed(prompt)
        self.prompt_length, self.new_tokens, self.done = len(self.text), 0, False
        self.pending_ids = []  # bytes that are not a whole character yet
        # The last id of a BERT vocabulary: its words get a space between them.
        self.context_ids = [i for i in self.ids[-1:] if i != tokenizer.cls and not tokenizer.native]

    def add(self, i: int, logprobs: torch.Tensor | None = None) -> None:
        """Take the next id. logprobs: (V,), those of the model at this place, for a subclass that wants them."""
        tokenizer, stop = self.tokenizer, self.params.stop
        self.new_tokens += 1
        # [CLS] alone ends a chapter's last paragraph.
        ended = i in {"chapter": [tokenizer.cls], "paragraph": [tokenizer.cls, tokenizer.sep]}.get(stop, [])
        self.done = ended or self.new_tokens == self.params.max_new_tokens
        self.pending_ids.append(i)
        if i == tokenizer.cls:
            piece = "" if ended else "\n\n"
        else:
            context = tokenizer.decode(self.context_ids) if self.context_ids else ""
            piece = tokenizer.decode(self.context_ids + self.pending_ids)[len(context) :]
            if tokenizer.is_byte[i] and "\ufffd" in piece:
                return
        self.context_ids = [] if tokenizer.native or i == tokenizer.cls else [i]
        self.ids += self.pending_ids
        self.pending_ids, self.text = [], self.text + piece
        if stop not in ("", "chapter", "paragraph") and (end := self.text.find(stop, self.prompt_length)) >= 0:
            self.text, self.done = self.text[: end + len(stop)], True

    @property
    def new_text(self) -> str:
        """The generated part of the text."""
        return self.text[self.prompt_length :]


def displayed(prompt: str) -> str:
    """A prompt as it is shown: line breaks for [SEP], an empty line for a [CLS] that is not its beginning."""
    return prompt.removeprefix(START_OF_CHAPTER).replace(START_OF_CHAPTER, "\n\n").replace("[SEP]", "\n")


def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: list[str] | list[Continuation],
    params: SamplingParams,
    seed: int,
    first_row: int = 0,
    on_update: Callable[[list[Continuation]], None] = lambda batch: None,
    keep: int = 0,
    with_logprobs: bool = False,
) -> list[Continuation]:
    """Continue all prompts in one batch, until each is done.

    Row i is sampled with the random numbers of (seed, first_row + i), so it does not depend on the batch. on_update is
    called when new text has come. The continuations are up to date at any moment, also after an exception.
    keep: see GPT.stream. A prompt longer than the context window loses what follows its first `keep` ids.
    with_logprobs: `add` gets the log probabilities from which each id was chosen, before temperature and filters.
    """
    batch = [p if isinstance(p, Continuation) else Continuation(tokenizer, p, params) for p in prompts]
    device = model.transformer.wpe.weight.device
    rows = [torch.tensor(last_window(continuation.ids, model.config.block_size, keep)) for continuation in batch]
    lengths = [len(row) for row in rows]
    idx = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).to(device)
    # Reading a token makes the host wait for a GPU, so several are read at once.
    unread, logprobs, read_every = [], [], 1 if device.type == "cpu" else 8
    tokens = model.stream(
        idx,
        params.max_new_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        constraint=utf8_constraint(tokenizer, model.config.vocab_size, device),
        seed=seed,
        first_row=first_row,
        keep=keep,
        on_logits=lambda logits: logprobs.append(logits.log_softmax(-1) if with_logprobs else None),
    )
    last = max(lengths) + params.max_new_tokens - 1
    for position, token in enumerate(tokens, min(lengths)):
        unread.append(token)
        if len(unread) < read_every and position < last:
            continue
        steps = zip(torch.stack(unread).tolist(), logprobs)
        for at, (ids, scores) in enumerate(steps, position + 1 - len(unread)):
            for row, (continuation, length) in enumerate(zip(batch, lengths)):
                if length <= at and not continuation.done:
                    continuation.add(ids[row], scores[row] if with_logprobs else None)
        unread.clear()
        logprobs.clear()
        on_update(batch)
        if all(continuation.done for continuation in batch):
            break
    return batch


@lru_cache(maxsize=1)
def utf8_constraint(tokenizer: Tokenizer, vocab_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The constraint for GPT.stream: only whole characters are generated."""
    allowed, next_state = map(torch.from_numpy, tokenizer.utf8_constraint(vocab_size))
    return torch.where(allowed, 0.0, -math.inf).to(device), next_state.to(device)


def last_window(ids: list[int], block_size: int, keep: int) -> list[int]:
    """The ids that fit the context window: the first `keep`, and as many of the last as there is room for."""
    return ids if len(ids) <= block_size else ids[:keep] + ids[len(ids) - (block_size - keep) :]


def max_batch_size(model: GPT, device: torch.device, max_new_tokens: int) -> int:
    """How many texts half of the free memory holds (caches, activations, logits, ids); 16 where that is unknown."""
    c = model.config
    itemsize = 4 if device.type == "cpu" else model.transformer.wpe.weight.element_size()
    cache = 2 * c.n_layer * c.n_embd * c.block_size * itemsize
    activations = 40 * c.n_embd * c.block_size  # of one block, while the prompt is read
    ids = 24 * max_new_tokens  # twice the ids, and a random number each
    per_text = cache + activations + ids + 40 * c.vocab_size
    free = free_memory(device)
    return max(1, free // 2 // per_text) if free else 16
