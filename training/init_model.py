"""The model that a run begins with: new, resumed, or with the weights of another folder."""

from dataclasses import replace
from pathlib import Path

import checkpoint
from configurator import UserError
from dataset import Corpus
from model import GPT, GPTConfig
from training.init_embeddings import init_embeddings
from training.trainer_state import suggest_previous


def init_model(config: GPTConfig, init_from: str, from_text: bool, resume_from: Path | None, corpus: Corpus) -> GPT:
    """A new model of this config, or one with the weights of a checkpoint (resume_from) or of a folder (init_from).

    init_from: scratch, or a folder whose shape replaces that of the config; its block_size may be cut.
    from_text: a new model's embeddings begin with what init_embeddings counts in the training text.
    Raises UserError for weights of another vocabulary or with fewer positions, and for init_from with members.
    """
    if not resume_from and init_from == "scratch":
        model = GPT(config)
        if from_text:
            init_embeddings(model, corpus.train)
        return model
    if config.members > 1 and not resume_from:
        raise UserError("--members is for new models: with --init_from a saved ensemble is fine-tuned as one plain GPT")
    source = resume_from or checkpoint.find_checkpoint(init_from)
    with suggest_previous(resume_from):
        tokenizer, model = checkpoint.load_with_tokenizer(source)
    if tokenizer != corpus.tokenizer:
        raise UserError(
            f"{source} has another vocabulary than {corpus.folder.as_posix()}."
            f" Prepare the text with --vocab={(source / 'vocab.txt').as_posix()}"
        )
    weights, shape = model.state_dict(), model.config
    if config.block_size > shape.block_size:
        raise UserError(f"{source} has {shape.block_size} positions, so --block_size={shape.block_size} at most")
    of_weights = {name: getattr(shape, name) for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    model = GPT(replace(config, **of_weights))
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][: config.block_size]
    model.load_state_dict(weights)
    return model
