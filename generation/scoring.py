"""What the model expects at a place in a text: candidates for the next token, log probabilities of a given text."""

from collections.abc import Iterator

import torch

from generation.batching import START_OF_CHAPTER, last_window, utf8_constraint
from generation.choices import scores, token_text
from generation.completions import ApiError, CandidatesRequest, Token
from model import GPT, filter_logits
from tokenizer import Tokenizer

MOST_SCORED = 65536  # tokens of a prompt


def encode_prompt(tokenizer: Tokenizer, block_size: int, prompt: str | tuple[int, ...], prefix: str):
    """The ids of prefix and prompt, the number of those that stay in the context window, and warnings.

    Raises ApiError when the vocabulary has none of the prompt's characters, or not its ids.
    """
    warnings = []
    fixed = tokenizer.encode_lines(prefix).tolist() if prefix else []
    if len(fixed) > block_size // 2:
        fixed = fixed[len(fixed) - block_size // 2 :]
        warnings.append(f"the prefix is longer than half of the context window: its last {len(fixed)} tokens are used")
    if isinstance(prompt, tuple):
        if not all(0 <= i < tokenizer.vocab_size for i in prompt):
            raise ApiError(400, f"token ids are 0 to {tokenizer.vocab_size - 1}", "prompt", "invalid_value")
        ids = list(prompt)
        if ids and tokenizer.is_byte[ids[-1]] and tokenizer.decode(ids[-4:]).endswith("\ufffd"):
            warnings.append("the prompt ends inside a character, which is not completed")
    else:
        ids = tokenizer.encode_lines(prompt or ("" if fixed else START_OF_CHAPTER)).tolist()
    if not fixed + ids:
        raise ApiError(400, "the vocabulary has none of the prompt's characters", "prompt", "invalid_value")
    return fixed + ids, len(fixed), warnings


@torch.inference_mode()
def find_candidates(
    model: GPT, tokenizer: Tokenizer, ids: list[int], keep: int, request: CandidatesRequest
) -> list[dict]:
    """The most likely next tokens, with their probabilities before and after the filters."""
    params = request.params
    device = model.transformer.wpe.weight.device
    window = torch.tensor([last_window(ids, model.config.block_size, keep)], device=device)
    logits = model.next_logits(window, model.new_cache(1, window.size(1))).float()  # (1, V)
    choosable = logits + utf8_constraint(tokenizer, model.config.vocab_size, device)[0][0]  # -inf: never
    filtered = filter_logits(
        choosable,
        window,
        temperature=params.temperature,
        top_k=1 if params.temperature == 0 else params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
    ).softmax(-1)[0]  # (V,)
    probability = logits.softmax(-1)[0]
    best = choosable[0].topk(min(request.count, int(choosable.isfinite().sum()))).indices
    return [
        {"text": token_text(tokenizer, i), "token_id": i, "probability": before, "filtered": after}
        for i, before, after in zip(best.tolist(), probability[best].tolist(), filtered[best].tolist())
    ]


@torch.inference_mode()
def score_ids(model: GPT, tokenizer: Tokenizer, ids: list[int], keep: int, k: int) -> Iterator[list[tuple]]:
    """Yield the scores of ids[keep:], window by window. The first id of a text without a prefix has (None, None).

    An id has at least half a context window before it, where the text is that long.
    """
    device, room = model.transformer.wpe.weight.device, model.config.block_size - keep
    start, scored = keep, max(1, keep)
    if not keep:
        yield [(None, None)]
    while scored < len(ids):
        end = min(start + room + 1, len(ids))  # the last is only predicted
        read = torch.tensor([ids[:keep] + ids[start : end - 1]], device=device)
        logits = model(read)[0][0].float()  # (T, V)
        logprobs = logits[scored - end :].log_softmax(-1)
        yield scores(tokenizer, logprobs, ids[scored:end], k, chapter=START_OF_CHAPTER)
        scored, start = end, max(keep, end - max(1, room // 2))


def prompt_tokens(tokenizer: Tokenizer, prompt: str, ids: list[int], id_scores: list[tuple]) -> tuple[Token, ...]:
    """The tokens of a prompt with their scores. Their texts together are the prompt."""
    spans = prompt_spans(tokenizer, prompt, ids)
    begins = [0, *(begin for begin, _, _ in spans[1:]), len(prompt)]
    tokens = []
    for (_, first, end), begin, stop in zip(spans, begins, begins[1:]):
        text, top = prompt[begin:stop], id_scores[first][1]
        logprob = None if top is None else sum(score[0] for score in id_scores[first:end])
        tokens.append(Token(text, begin, logprob, None if top is None else {**top, text: logprob}))
    return tuple(tokens)


def prompt_spans(tokenizer: Tokenizer, prompt: str, ids: list[int]) -> list[tuple[int, int, int]]:
    """(where it begins in the prompt, number of its first id, number of the id after it) of each token of a prompt.

    The bytes of a character are one token. BERT's rules change capitals and leave spaces out: there a token begins
    where its text is found next, and what lies between belongs to the token before.
    """
    spans, at, number = [], 0, 0
    lower = prompt.lower() if len(prompt.lower()) == len(prompt) else prompt
    while number < len(ids):
        i, begin, end = ids[number], at, number + 1
        if tokenizer.is_byte[i]:
            size = len(prompt[at : at + 1].encode())
            while end < min(len(ids), number + size) and tokenizer.is_byte[ids[end]]:
                end += 1
            at += 1
        else:
            texts = [tokenizer.tokens[i], token_text(tokenizer, i)]  # "[SEP]" and the line break, for example
            finds = [(s.find(text, at, at + len(text) + 64), len(text)) for text in texts for s in (prompt, lower)]
            begin, length = min((find for find in finds if find[0] >= 0), default=(at, 1))
            at = begin + length
        spans.append((begin, number, end))
        number = end
    return spans
