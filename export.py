"""
Write a model as one GGUF file, for llama.cpp and what is built on it: Ollama, LM Studio, KoboldCpp.

    python export.py                                      the newest run under out/ -> NAME.gguf
    python export.py --model=out/novel --save=novel.gguf --quantize=f16

The file holds weights, vocabulary and recommended sampling. A Modelfile for Ollama is written, too.
Needs the package gguf (pip install gguf). docs/export.md says how to open the file.
"""

from dataclasses import dataclass
from typing import Literal

from configurator import PathStr, UserError, configure, quote, run


@dataclass
class Settings:
    model: PathStr = ""  # a run, a checkpoint, or a transformers GPT-2 folder; empty: the newest run under out/
    save: PathStr = ""  # the .gguf file to write, or a folder for it; empty: NAME.gguf in this folder
    quantize: Literal["f32", "f16", "bf16", "q8_0"] = "q8_0"  # precision of the weights: 32, 16, 16 or 8.5 bits
    overwrite: bool = False  # replace files that exist


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import re
from contextlib import closing
from pathlib import Path

import numpy as np

import checkpoint
from files import replacing, write_atomic
from model import GPT
from tokenizer import SPECIALS, Tokenizer

try:
    import gguf
except ImportError:  # an optional package
    gguf = None

# What sample.py does by default: the name in GGUF, the name in a Modelfile, the value.
SAMPLING = (
    ("temp", "temperature", 1.0),
    ("top_k", "top_k", 0),
    ("top_p", "top_p", 0.95),
    ("min_p", "min_p", 0.0),
    ("penalty_repeat", "repeat_penalty", 1.0),
)
ORDER = "penalties;dry;temperature;top_k;top_p;min_p;xtc"  # sample.py's; llama.cpp's default has the temperature last
# The chat template: programs that only chat continue the text of all messages.
CONTINUE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main(s: Settings) -> None:
    if gguf is None:
        raise UserError("export.py needs the package gguf: pip install gguf")
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    path, modelfile = output_files(s.save, model_name(folder), s.overwrite)
    tokenizer, model = load(folder)
    tensors = convert(model, tokenizer.vocab_size, s.quantize)
    write_gguf(path, folder, model, tokenizer, tensors, s.quantize)
    length = max(1, model.config.block_size // 2)  # leaves half of the context window for the prompt
    write_atomic(modelfile, ollama_modelfile(path.name, model.config.block_size, length).encode())
    print(f"read       {folder.as_posix()}")
    print_result(path, modelfile, tensors, s.quantize, length)


def model_name(folder: Path) -> str:
    """The name of a run, or of another model's folder."""
    folder = folder.resolve()
    return folder.parent.name if re.fullmatch(r"ckpt-\d+", folder.name) else folder.name


def output_files(save: str, name: str, overwrite: bool) -> tuple[Path, Path]:
    """The GGUF file and the Modelfile to write. Raises UserError for a bad name, and for a file that exists."""
    path = Path(save or ".")
    path = path / f"{name}.gguf" if path.is_dir() else path
    if path.suffix != ".gguf":
        raise UserError(f"--save={save}: a name that ends in .gguf, or a folder that exists, is needed")
    modelfile = path.with_suffix(".Modelfile")
    for file in (path, modelfile):
        if file.exists() and not overwrite:
            raise UserError(f"{file} exists already. Replace it: --overwrite. Write another: --save=NAME.gguf")
    return path, modelfile


def load(folder: Path) -> tuple[Tokenizer, GPT]:
    """A checkpoint's tokenizer and model. Raises UserError for a vocabulary that llama.cpp cannot use."""
    tokenizer, model = checkpoint.load_with_tokenizer(folder)
    if not tokenizer.native:
        raise UserError(
            f"{folder} has a BERT vocabulary and cannot be exported: with those, llama.cpp puts a space before every"
            " character and drops line breaks.\nPrepare the text with --vocab=auto and train a model on that."
        )
    return tokenizer, model


# -- the weights -----------------------------------------------------------------------------------------------------


def convert(model: GPT, vocab_size: int, quantize: str) -> dict[str, tuple]:
    """The weights under llama.cpp's names: name -> (array, GGML type), an array of bytes for bf16 and q8_0.

    Matrices are (out, in), as in llama.cpp's own conversion of GPT-2. Vectors and position embeddings are always f32.
    Rows that blocks of 32 do not fill cannot be q8_0 and become f16. The embedding is cut to vocab_size rows; the head
    is tied to it and not written.
    """
    types = gguf.GGMLQuantizationType
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, model.config.n_layer)
    tensors = {}
    for gpt2_name, parameter in model.named_parameters():
        name, w = names.get_name(gpt2_name, try_suffixes=(".weight", ".bias")), parameter.detach()
        w = w[:vocab_size] if name == "token_embd.weight" else w
        kind = types.F32 if w.dim() == 1 or name == "position_embd.weight" else types[quantize.upper()]
        if kind == types.Q8_0 and w.shape[-1] % 32:
            kind = types.F16
        tensors[name] = gguf.quants.quantize(np.ascontiguousarray(w.numpy()), kind), kind
    return tensors


# -- the file --------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, folder: Path, model: GPT, tokenizer: Tokenizer, tensors: dict, quantize: str) -> None:
    """Write the file. Raises UserError when it cannot be written.

    After any error, and after Ctrl-C, the old file is still there, and no temporary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The writer is closed before the file is renamed or removed, which Windows refuses for an open file.
        with replacing(path) as temporary, closing(gguf.GGUFWriter(temporary, "gpt2")) as writer:
            fields = description(folder, model, quantize) | vocabulary(tokenizer) | {"sampling_sequence": ORDER}
            fields |= {f"sampling_{key}": value for key, _, value in SAMPLING}
            for name, value in fields.items():
                getattr(writer, f"add_{name}")(value)
            writer.add_array("tokenizer.ggml.suppress_tokens", sorted(tokenizer.never_generated.tolist()))
            add_training(writer, folder)
            for tensor_name, (array, kind) in tensors.items():
                writer.add_tensor(tensor_name, array, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
    except OSError as error:  # numpy gives no reason when the disk is full
        raise UserError(f"cannot write {path}: {error.strerror or 'the disk is full, perhaps'}") from None


def description(folder: Path, model: GPT, quantize: str) -> dict:
    """The fields for the name and the shape: NAME -> the value for the writer's add_NAME."""
    config = model.config
    return {
        "type": "model",
        "name": model_name(folder),
        "size_label": gguf.size_label(model.num_params(), 0, 0, 0),
        "file_type": gguf.LlamaFileType[f"{'ALL' if quantize == 'f32' else 'MOSTLY'}_{quantize.upper()}"],
        "quantization_version": gguf.GGML_QUANT_VERSION,
        "context_length": config.block_size,
        "embedding_length": config.n_embd,
        "feed_forward_length": 4 * config.n_embd,
        "block_count": config.n_layer,
        "head_count": config.n_head,
        "layer_norm_eps": 1e-5,
    }


def vocabulary(tokenizer: Tokenizer) -> dict:
    """The fields for llama.cpp's SentencePiece tokenizer with byte fallback (tokenizer model "llama").

    It merges two neighbours that form a token. Here no token has two characters, so a character
    stays a token, and one that has no token becomes its UTF-8 bytes: the ids are Tokenizer's, whatever the scores.
    """
    tokens, types = zip(*(gguf_token(token, tokenizer) for token in tokenizer.tokens))
    return {
        "tokenizer_model": "llama",
        "tokenizer_pre": "default",
        "token_list": tokens,
        "token_types": types,
        "token_scores": [0.0] * len(tokens),
        "bos_token_id": tokenizer.cls,  # starts a chapter
        "eos_token_id": tokenizer.cls,  # the chapter before it has ended
        "unk_token_id": tokenizer.unk,
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
        "add_bos_token": False,
        "add_eos_token": False,
        "add_space_prefix": False,
        "chat_template": CONTINUE,
    }


def add_training(writer, folder: Path) -> None:
    """Add what is known of the training: step, losses, the name of the text's folder."""
    training = checkpoint.read_metadata(folder)
    training["data_dir"] = Path(str(training.get("data_dir", ""))).name  # without the folders of this machine
    add = {int: writer.add_int64, float: writer.add_float64, str: writer.add_string}
    for key, value in training.items():
        if type(value) in add and value != "":
            add[type(value)](f"training.{key}", value)


def gguf_token(token: str, tokenizer: Tokenizer) -> tuple[str, int]:
    """A token's text and type in the file.

    SentencePiece writes a space as "▁" (U+2581) and prints that as a space. User-defined tokens are found before that
    and printed as they are: so are both characters. A vocabulary without the space has the byte for it.
    """
    types = gguf.TokenType
    if token in SPECIALS:
        return ("\n", types.NORMAL) if token == "[SEP]" else (token, types.CONTROL)
    if token in (" ", "▁") or (token == "<0x20>" and " " not in tokenizer.tokens):
        return token.replace("<0x20>", " "), types.USER_DEFINED
    return token, types.BYTE if len(token) > 1 else types.NORMAL


def ollama_modelfile(file_name: str, block_size: int, length: int) -> str:
    """What `ollama create` reads. length: how many tokens to write at most."""
    numbers = [*((name, value) for _, name, value in SAMPLING), ("num_ctx", block_size), ("num_predict", length)]
    lines = [
        f"FROM ./{file_name}",
        "# The model continues the prompt; it does not chat.",
        'TEMPLATE "{{ .Prompt }}"',
        *(f"PARAMETER {name} {value}" for name, value in numbers),
        'PARAMETER stop "[CLS]"',
    ]
    return "\n".join(lines) + "\n"


def print_result(path: Path, modelfile: Path, tensors: dict, quantize: str, length: int) -> None:
    """What was written, and the commands that open it."""
    print(f"wrote      {path.as_posix()}: {path.stat().st_size / 1e6:,.1f} MB, {len(tensors)} tensors, {quantize}")
    f16 = sum(kind == gguf.GGMLQuantizationType.F16 for _, kind in tensors.values()) if quantize == "q8_0" else 0
    if f16:
        print(f"           {f16} of them in f16: the length of their rows is not a multiple of 32")
    file = quote(str(path))
    print(f'llama.cpp  llama-completion -m {file} -no-cnv -n {length} -p "YOUR TEXT"')
    print(f'Ollama     ollama create my-novel -f {quote(str(modelfile))}, then: ollama run my-novel "YOUR TEXT"')
    print(f"LM Studio  lms import --copy {file}")


if __name__ == "__main__":
    run(main, settings)
