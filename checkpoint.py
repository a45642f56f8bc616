"""
A checkpoint is a Hugging Face model folder plus the trainer's state:

    out/novel/ckpt-00001000/
        config.json  model.safetensors  generation_config.json            transformers' GPT2LMHeadModel opens these,
        tokenizer.json  tokenizer_config.json  vocab.txt                  its AutoTokenizer these
        trainer_state.pt  trainer.json                                    and train.py --resume these

    model = load_pretrained("out/novel")        # a checkpoint, a run (its best checkpoint), or a transformers folder
    save_pretrained(model, "my-model", tokenizer=tok)

A folder gets its name only when everything in it is written and on the disk, so at any kill there is a whole one.
Only safetensors and weights_only=True: opening a stranger's checkpoint runs none of its code.
"""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from configurator import UserError
from model import GPT, GPTConfig
from tokenizer import SPECIALS, Tokenizer

CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""GPT-2's files hold these as (in, out), the other way round than nn.Linear."""

FIXED = {  # what GPT-2 settles and this model does not vary: a config.json that says otherwise is refused
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False, True),  # a matter of precision, not of what is computed
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}


# -- out -------------------------------------------------------------------------------------------------------------


def save_pretrained(model: GPT, folder, tokenizer: Tokenizer, trainer_state: dict | None = None, facts: dict | None = None):
    """Write a checkpoint folder: aside, synced, then renamed to its name.

    trainer_state: tensors and plain types, for trainer_state.pt. facts: a few words on it, for trainer.json (`val_loss`
    is what makes a checkpoint the best). Raises UserError when `folder` exists; OSError when it cannot be written
    (a full disk, say), and then leaves nothing behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; a checkpoint does not overwrite another")
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name, content in _json_files(model.config, tokenizer).items():
            (aside / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(aside / "vocab.txt")
        save_file(_to_gpt2(model), aside / "model.safetensors", metadata={"format": "pt"})
        if facts is not None:
            (aside / "trainer.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if trainer_state is not None:
            torch.save(trainer_state, aside / "trainer_state.pt")
        for path in aside.iterdir():
            path.chmod(0o644)  # safetensors leaves its file to its owner alone
            _sync(path)
        _sync(aside)
        os.replace(aside, folder)
        _sync(folder.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors report a full disk in their own way
        shutil.rmtree(aside, ignore_errors=True)
        raise error if isinstance(error, OSError) else OSError(f"cannot write {folder}: {error}") from None


def _sync(path: Path) -> None:
    """Wait until the file or folder is on the disk. (Windows cannot open folders, and needs writing rights to sync.)"""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _to_gpt2(model: GPT) -> dict[str, torch.Tensor]:
    """The weights as GPT-2's files have them: Conv1D the other way round, no vocabulary padding."""
    weights = {name: p.detach().cpu() for name, p in model.named_parameters()}
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][: model.config.vocab_size]
    return {name: (w.t() if name.endswith(CONV1D) else w).contiguous() for name, w in weights.items()}


def _json_files(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, dict]:
    ends = {"bos_token_id": tokenizer.cls, "eos_token_id": tokenizer.cls, "pad_token_id": tokenizer.token_to_id("[PAD]")}
    special = {"bos_token": "[CLS]", "eos_token": "[CLS]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return {
        "config.json": {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": config.vocab_size,
            "n_positions": config.block_size,
            "n_ctx": config.block_size,
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "activation_function": "gelu_new",
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            **ends,
        },
        "generation_config.json": {**ends, "do_sample": True},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.block_size,
            "clean_up_tokenization_spaces": False,
            "split_digits": tokenizer.split_digits,  # ours: see Tokenizer
            **special,
        },
        "tokenizer.json": tokenizer_json(tokenizer),
    }


def tokenizer_json(tokenizer: Tokenizer) -> dict:
    """The tokenizer in the `tokenizers` library's format, giving our ids and our text."""
    vocab = {token: i for i, token in enumerate(tokenizer.tokens)}
    # [SEP] is an ordinary added token, not a special one: transformers leaves special ones out of the text that it
    # prints, and this one is the line break. `normalized`: it is looked for after "\n" has become [SEP].
    added = [
        {"id": vocab[token], "content": token, "special": token != "[SEP]", "normalized": token == "[SEP]" and tokenizer.native,
         "single_word": False, "lstrip": False, "rstrip": False}
        for token in sorted(SPECIALS, key=vocab.get)
    ]  # fmt: skip
    line_break = {"type": "Replace", "pattern": {"String": "[SEP]"}, "content": "\n"}
    if tokenizer.native:  # characters, and bytes for the rest: a byte-fallback BPE without merges
        normalizer = {"type": "Replace", "pattern": {"String": "\n"}, "content": "[SEP]"}
        pre_tokenizer = None
        decoder = {"type": "Sequence", "decoders": [line_break, {"type": "ByteFallback"}, {"type": "Fuse"}]}
        model = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "[UNK]", "byte_fallback": True, "fuse_unk": False,
                 "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}  # fmt: skip
    else:
        normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                      "lowercase": True}  # fmt: skip
        pre_tokenizer = {"type": "BertPreTokenizer"}
        if tokenizer.split_digits:
            digits = "".join(re.escape(chr(code)) for code in range(0x110000) if chr(code).isdigit())
            split = {"type": "Split", "pattern": {"Regex": f"[{digits}]"}, "behavior": "Isolated", "invert": False}
            pre_tokenizer = {"type": "Sequence", "pretokenizers": [pre_tokenizer, split]}
        unspace = {"type": "Replace", "pattern": {"Regex": " (?![0-9A-Za-z])|(?<![0-9A-Za-z]) "}, "content": ""}
        decoder = {"type": "Sequence", "decoders": [line_break, {"type": "WordPiece", "prefix": "##", "cleanup": False},
                                                    {"type": "Fuse"}, unspace]}  # fmt: skip
        model = {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                 "max_input_chars_per_word": 100}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder, "model": model}  # fmt: skip


# -- in --------------------------------------------------------------------------------------------------------------


def find_checkpoint(folder, prefer: str = "best") -> Path:
    """The checkpoint that a folder means: itself, or of a run's the best by validation or the "last".

    Raises UserError when there is none.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        return folder
    found = checkpoints(folder)
    if not found:
        if folder.is_file():
            raise UserError(f"{folder} is a file; a model is a folder: {folder.parent}, perhaps")
        what = "is not a model folder: no config.json in it and no ckpt-... folder" if folder.is_dir() else "is no folder here: it does not exist"
        raise UserError(f"{folder} {what}. (A run's folder is one: python train.py config/laptop.py makes out/laptop)")
    if prefer == "best":
        return min(reversed(found), key=val_loss)  # the newest of equals
    return found[-1]


def val_loss(checkpoint: Path) -> float:
    """The validation loss that the checkpoint was saved with; infinity when it was not validated."""
    loss = facts(checkpoint).get("val_loss")
    return loss if type(loss) in (int, float) and loss < float("inf") else float("inf")  # NaN is not less


def facts(checkpoint: Path) -> dict:
    """What trainer.json says of a checkpoint; nothing where there is none."""
    return _read_json(checkpoint / "trainer.json") if (checkpoint / "trainer.json").exists() else {}


def checkpoints(run: Path) -> list[Path]:
    """A run's whole checkpoints, oldest first."""
    return sorted(c for c in Path(run).glob("ckpt-*") if re.fullmatch(r"ckpt-\d+", c.name) and (c / "config.json").exists())


def newest_run(out: Path) -> Path:
    """The run under out/ that was saved last. Raises UserError when there is none."""
    runs = [run for run in Path(out).glob("*") if checkpoints(run)]
    if not runs:
        raise UserError(f"no trained model under {out}. Train one with: python train.py config/laptop.py")
    return max(runs, key=lambda run: checkpoints(run)[-1].stat().st_mtime)


def load_pretrained(folder, prefer: str = "best") -> GPT:
    """The model of a checkpoint, a run, or a transformers GPT-2 folder: in eval mode, fp32, on the CPU.

    Reads model.safetensors, safetensors shards with an index, or an old pytorch_model.bin. Raises UserError, naming
    the file and what is wrong in it, for settings that this model does not have, and for missing, surplus, misshapen or
    non-finite weights.
    """
    folder = find_checkpoint(folder, prefer)
    config = read_config(folder)
    with torch.device("meta"):  # no memory and no fresh weights, for they are replaced at once
        model = GPT(config, init=False)
    model.load_state_dict(_from_gpt2(_read_weights(folder), model, folder), assign=True)
    model.tie_weights()
    return model.eval()


def load_tokenizer(folder) -> Tokenizer:
    """The tokenizer of a checkpoint folder: vocab.txt, or the vocabulary in its tokenizer.json."""
    folder = Path(folder)
    settings = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    split_digits = settings.get("split_digits") is True
    given = Tokenizer.load(folder / "vocab.txt", split_digits) if (folder / "vocab.txt").exists() else None
    path = folder / "tokenizer.json"
    if not path.exists():
        return given or Tokenizer.load(folder / "vocab.txt")  # which says that it is missing
    model = _read_json(path).get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    readable = isinstance(vocab, dict) and model.get("type") in ("WordPiece", "BPE") and not model.get("merges")
    if not readable or sorted(map(str, vocab.values())) != sorted(map(str, range(len(vocab)))):
        if given:
            return given
        raise UserError(f"{path}: only BERT vocabularies and this project's own can be read")
    tokens = sorted(vocab, key=lambda token: int(vocab[token]))
    if given and given.tokens != tokens:
        raise UserError(f"{folder}: vocab.txt and tokenizer.json are not the same vocabulary")
    return given or Tokenizer(tokens, split_digits, name=str(path))


def load_trainer_state(folder: Path) -> dict:
    """What save_pretrained was given as trainer_state. Raises UserError when there is none, or it is damaged."""
    return _torch_load(folder / "trainer_state.pt")


def read_config(path: Path) -> GPTConfig:
    """A config.json, or the one in a folder -> GPTConfig. Raises UserError for what GPT-2 has and this model has not."""
    path = path / "config.json" if path.is_dir() else path
    values = _read_json(path)
    for name, allowed in FIXED.items():
        if values.get(name, allowed[0]) not in allowed:
            raise UserError(f"{path}: {name}={values[name]!r} is not supported, only {allowed[0]!r}")
    if values.get("n_inner") not in (None, 4 * values.get("n_embd", 768)):
        raise UserError(f"{path}: n_inner={values['n_inner']} is not supported, only 4 * n_embd")
    sizes = {
        "vocab_size": values.get("vocab_size"),
        "block_size": values.get("n_positions", values.get("n_ctx", 1024)),
        "n_layer": values.get("n_layer", 12),
        "n_head": values.get("n_head", 12),
        "n_embd": values.get("n_embd", 768),
    }
    for name, size in sizes.items():
        if type(size) is not int or not 0 < size < (1000 if name == "n_layer" else 10**7):
            raise UserError(f"{path} is not a GPT-2 configuration: {name} is {size!r}")
    if sizes["n_embd"] % sizes["n_head"]:
        raise UserError(f"{path}: n_embd={sizes['n_embd']} is not a multiple of n_head={sizes['n_head']}")
    dropouts = [values.get(name, 0.1) for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")]
    if not all(type(rate) in (int, float) and 0 <= rate < 1 for rate in dropouts):
        raise UserError(f"{path}: dropout rates are {dropouts}; shares from 0 up to 1 are expected")
    return GPTConfig(**sizes, dropout=float(max(dropouts)))


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / "model.safetensors").exists():
        return _read_safetensors(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        places = _read_json(index).get("weight_map")
        if not isinstance(places, dict) or not all(type(shard) is str and shard and Path(shard).name == shard for shard in places.values()):
            raise UserError(f"{index} does not say in which of the folder's files each weight is")
        shards = sorted(set(places.values()))
        return {name: w for shard in shards for name, w in _read_safetensors(folder / shard).items()}
    if (folder / "pytorch_model.bin").exists():
        return _torch_load(folder / "pytorch_model.bin")
    raise UserError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def _from_gpt2(stored: dict[str, torch.Tensor], model: GPT, folder: Path) -> dict[str, torch.Tensor]:
    """The files' weights under the model's names and shapes, fp32. Raises UserError for any that do not fit."""
    config, expected = model.config, {name: p.shape for name, p in model.named_parameters()}
    weights = {}
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        raise UserError(f"{folder}: its weights are not a table of names and tensors")
    for name, w in stored.items():
        if not isinstance(w, torch.Tensor) or not w.is_floating_point() or w.layout != torch.strided or w.is_meta:
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                continue
            raise UserError(f"{folder}: {name} is no plain floating-point tensor")
        name = name if name.startswith(("transformer.", "lm_head.")) else "transformer." + name
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue  # the causal mask, which old files carry along
        weights[name] = (w.t() if name.endswith(CONV1D) and w.dim() == 2 else w).float()  # a view of the file's mapped pages
    head = weights.pop("lm_head.weight", None)
    table = "transformer.wte.weight"
    if head is not None and table in weights and not torch.equal(head, weights[table]):
        raise UserError(f"{folder}: the output head has weights of its own; only heads tied to the embedding are supported")
    missing, surplus = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or surplus:
        raise UserError(f"{folder}: weights missing: {', '.join(missing[:3]) or 'none'}; surplus: {', '.join(surplus[:3]) or 'none'}")
    if weights[table].shape == (config.vocab_size, config.n_embd):
        padding = torch.zeros(config.padded_vocab_size - config.vocab_size, config.n_embd)
        weights[table] = torch.cat((weights[table], padding))
    for name, w in weights.items():
        if w.shape != expected[name]:
            raise UserError(f"{folder}: {name} has shape {tuple(w.shape)}, but config.json asks for {tuple(expected[name])}")
        if not w.sum().isfinite():
            raise UserError(f"{folder}: {name} holds NaN or infinite numbers")
    return {**weights, "lm_head.weight": weights[table]}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _torch_load(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except pickle.UnpicklingError:
        raise UserError(f"{path} holds more than tensors and plain values, which could run code; it was not opened") from None
    except Exception as error:  # damaged bytes make torch.load throw whatever they please
        reason = str(error).partition("\n")[0] or "cut short"
        raise UserError(f"{path} is damaged: {reason}") from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content
