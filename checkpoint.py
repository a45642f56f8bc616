"""
A checkpoint is a Hugging Face model folder plus the trainer's state:

    out/novel/ckpt-00001000/
        config.json  model.safetensors  generation_config.json            for transformers' GPT2LMHeadModel
        tokenizer.json  tokenizer_config.json  vocab.txt                  for its AutoTokenizer
        trainer_state.pt  trainer.json                                    for train.py --resume

    model = load_pretrained("out/novel")        # a checkpoint, a run (its best checkpoint), or a transformers folder
    save_pretrained(model, "my-model", tokenizer)

A folder is written under a temporary name, synced and renamed, so a kill at any moment leaves whole checkpoints.
Weights are safetensors or loaded with weights_only=True: opening a foreign checkpoint runs none of its code.
"""

import json
import pickle
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from configurator import UserError, first_line
from files import fsync, rename
from model import GPT, GPTConfig
from tokenizer import Tokenizer

# GPT-2's files store these transposed, as (in, out); nn.Linear has (out, in).
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")

# What this model does not vary. A config.json with another value is refused.
FIXED = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False, True),  # changes only the precision
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}


# -- saving ----------------------------------------------------------------------------------------------------------


def save_pretrained(
    model: GPT,
    folder: str | Path,
    tokenizer: Tokenizer,
    trainer_state: dict | None = None,
    metadata: dict | None = None,
) -> None:
    """Write a checkpoint folder under a temporary name, sync it, rename it.

    trainer_state: tensors and plain types, for trainer_state.pt. metadata: for trainer.json; its `val_loss` decides
    which checkpoint is the best. Raises UserError when `folder` exists, and OSError when it cannot be written (a full
    disk, for example); then no file is left behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; a checkpoint does not overwrite another")
    temporary = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        files = _json_files(model.config, tokenizer) | ({} if metadata is None else {"trainer.json": metadata})
        for name, content in files.items():
            (temporary / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        tokenizer.save(temporary / "vocab.txt")
        save_file(_to_gpt2(model), temporary / "model.safetensors", metadata={"format": "pt"})
        if trainer_state is not None:
            torch.save(trainer_state, temporary / "trainer_state.pt")
        for path in temporary.iterdir():
            path.chmod(0o644)  # safetensors makes its file readable by its owner only
            fsync(path)
        fsync(temporary)
        rename(temporary, folder)
        fsync(folder.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # of torch and safetensors, too
        shutil.rmtree(temporary, ignore_errors=True)
        raise error if isinstance(error, OSError) else OSError(f"cannot write {folder}: {error}") from None


def _to_gpt2(model: GPT) -> dict[str, torch.Tensor]:
    """The weights as GPT-2's files store them: Conv1D weights transposed, no padding rows."""
    weights = {name: w.cpu() for name, w in model.state_dict().items() if name != "lm_head.weight"}
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][: model.config.vocab_size]
    return {name: (w.t() if name.endswith(CONV1D) else w).contiguous() for name, w in weights.items()}


def _json_files(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, dict]:
    ends = {
        "bos_token_id": tokenizer.cls,
        "eos_token_id": tokenizer.cls,
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
    }
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
        # What sample.py does by default. max_length: more positions than n_positions make transformers fail.
        "generation_config.json": {
            **ends,
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 0.95,
            "max_length": config.block_size,
            "suppress_tokens": sorted(tokenizer.never_generated.tolist()),
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.block_size,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 adds token_type_ids by default
            "split_digits": tokenizer.split_digits,  # not transformers': see Tokenizer
            "bos_token": "[CLS]",
            "eos_token": "[CLS]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "mask_token": "[MASK]",
        },
        "tokenizer.json": tokenizer.to_huggingface(),
    }


# -- loading ---------------------------------------------------------------------------------------------------------


def find_checkpoint(folder) -> Path:
    """The checkpoint of a folder: the folder itself, or a run's best checkpoint (by validation loss).

    Raises UserError when there is none.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        return folder
    found = checkpoints(folder)
    if not found:
        if folder.is_file():
            raise UserError(f"{folder} is a file; a model is a folder: {folder.parent}, perhaps")
        if not folder.exists():
            raise UserError(f"{folder} does not exist. (python train.py config/laptop.py makes out/laptop)")
        raise UserError(f"{folder} is not a model folder: it holds neither config.json nor ckpt-... folders")
    return min(reversed(found), key=val_loss)  # of equals the newest


def val_loss(checkpoint: Path) -> float:
    """The validation loss that the checkpoint was saved with; infinity when it was not validated."""
    loss = read_metadata(checkpoint).get("val_loss")
    return loss if type(loss) in (int, float) and loss < float("inf") else float("inf")  # NaN becomes infinity


def read_metadata(checkpoint: Path) -> dict:
    """The content of a checkpoint's trainer.json; empty where there is none."""
    return _read_json(checkpoint / "trainer.json") if (checkpoint / "trainer.json").exists() else {}


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, the oldest first."""
    folders = (path for path in Path(run).glob("ckpt-*") if re.fullmatch(r"ckpt-\d+", path.name))
    return sorted(folder for folder in folders if (folder / "config.json").exists())


def newest_run(out: Path) -> Path:
    """The run under out/ that was saved last. Raises UserError when there is none."""
    runs = [run for run in Path(out).glob("*") if checkpoints(run)]
    if not runs:
        raise UserError(f"no trained model under {out}. Train one with: python train.py config/laptop.py")
    return max(runs, key=lambda run: checkpoints(run)[-1].stat().st_mtime)


def load_pretrained(folder) -> GPT:
    """The model of a checkpoint, a run, or a transformers GPT-2 folder: in eval mode, fp32, on the CPU.

    Reads model.safetensors, sharded safetensors, or an old pytorch_model.bin. Raises UserError, naming the file and
    the fault, for settings that this model does not support and for missing, surplus, misshapen or non-finite weights.
    """
    folder = find_checkpoint(folder)
    config = read_config(folder)
    with torch.device("meta"):  # no memory, no initial weights: both come from the file
        model = GPT(config, init=False)
    model.load_state_dict(_from_gpt2(_read_weights(folder), model, folder), assign=True)
    model.tie_weights()
    return model.eval()


def load_tokenizer(folder) -> Tokenizer:
    """The tokenizer of a checkpoint folder: vocab.txt, or the vocabulary in its tokenizer.json."""
    folder = Path(folder)
    settings = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    split_digits = settings.get("split_digits") is True
    path = folder / "tokenizer.json"
    if not path.exists():
        return Tokenizer.load(folder / "vocab.txt", split_digits)
    given = Tokenizer.load(folder / "vocab.txt", split_digits) if (folder / "vocab.txt").exists() else None
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


def load_with_tokenizer(folder) -> tuple[Tokenizer, GPT]:
    """A checkpoint's tokenizer and model. Raises UserError when the model lacks some of the vocabulary's ids."""
    tokenizer, model = load_tokenizer(folder), load_pretrained(folder)
    if model.config.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"{folder}: the vocabulary has {tokenizer.vocab_size:,} tokens, the model {model.config.vocab_size:,}"
        )
    return tokenizer, model


def load_trainer_state(folder: Path) -> dict:
    """The trainer_state that save_pretrained was given. Raises UserError when it is missing or damaged."""
    return _torch_load(folder / "trainer_state.pt")


def read_config(path: Path) -> GPTConfig:
    """Read a config.json, or the one of a folder. Raises UserError for settings that this model does not support."""
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
        raise UserError(f"{path}: dropout rates are {dropouts}; numbers from 0 up to 1 are expected")
    return GPTConfig(**sizes, dropout=float(max(dropouts)))


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / "model.safetensors").exists():
        return _read_safetensors(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _read_json(index).get("weight_map")
        shards = weight_map.values() if isinstance(weight_map, dict) else [None]
        if not all(type(shard) is str and shard and Path(shard).name == shard for shard in shards):
            raise UserError(f"{index} does not name the file in this folder that holds each weight")
        return {name: w for shard in sorted(set(shards)) for name, w in _read_safetensors(folder / shard).items()}
    if (folder / "pytorch_model.bin").exists():
        return _torch_load(folder / "pytorch_model.bin")
    raise UserError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def _from_gpt2(stored: dict[str, torch.Tensor], model: GPT, folder: Path) -> dict[str, torch.Tensor]:
    """The stored weights under the model's names and shapes, in fp32. Raises UserError for any that do not fit."""
    weights = _named_weights(stored, folder)
    config, expected = model.config, {name: p.shape for name, p in model.named_parameters()}
    head, embedding = weights.pop("lm_head.weight", None), "transformer.wte.weight"
    if head is not None and embedding in weights and not torch.equal(head, weights[embedding]):
        raise UserError(f"{folder}: lm_head has weights of its own; only heads tied to the embedding are supported")
    missing, surplus = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or surplus:
        missing, surplus = (", ".join(names[:3]) or "none" for names in (missing, surplus))
        raise UserError(f"{folder}: weights missing: {missing}; surplus: {surplus}")
    if weights[embedding].shape == (config.vocab_size, config.n_embd):
        padding = torch.zeros(config.padded_vocab_size - config.vocab_size, config.n_embd)
        weights[embedding] = torch.cat((weights[embedding], padding))
    for name, w in weights.items():
        if w.shape != expected[name]:
            shape, wanted = tuple(w.shape), tuple(expected[name])
            raise UserError(f"{folder}: {name} has shape {shape}, but config.json asks for {wanted}")
        if not w.sum().isfinite():
            raise UserError(f"{folder}: {name} holds NaN or infinite numbers")
    return {**weights, "lm_head.weight": weights[embedding]}


def _named_weights(stored: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """The stored weights in fp32, with full names, oriented as in nn.Linear, without the causal masks of old files."""
    if not isinstance(stored, dict) or not all(isinstance(name, str) for name in stored):
        raise UserError(f"{folder}: its weights are not a table of names and tensors")
    weights = {}
    for name, w in stored.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if not isinstance(w, torch.Tensor) or not w.is_floating_point() or w.layout != torch.strided or w.is_meta:
            raise UserError(f"{folder}: {name} is not a plain floating-point tensor")
        name = name.removeprefix("module.")  # DataParallel's
        name = name if name.startswith(("transformer.", "lm_head.")) else "transformer." + name
        # Views, so that the pages of the mapped file are not copied.
        weights[name] = (w.t() if name.endswith(CONV1D) and w.dim() == 2 else w).float()
    return weights


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
        raise UserError(f"{path} holds objects that could run code; it was not opened") from None
    except Exception as error:  # torch.load raises many types for damaged files
        raise UserError(f"{path} is damaged: {first_line(error)}") from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content
