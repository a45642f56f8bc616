from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import script, story
from test_wordpiece import TOKENS as BERT_WORDS

import export
import files
from checkpoint import find_checkpoint, load_pretrained, load_tokenizer, save_pretrained
from configurator import UserError
from export import Settings, main
from model import GPT, GPTConfig
from tokenizer import Tokenizer

gguf = pytest.importorskip("gguf")

COUNTS = Counter(story())
NATIVE = Tokenizer.build(COUNTS + Counter({" ": 9, "a": 9}), min_count=2)
NO_SPACE = Tokenizer.build(COUNTS, min_count=2)
BLOCK_CHARACTER = Tokenizer.build(COUNTS + Counter({" ": 9, "▁": 9}), min_count=2)
METADATA = {"step": 12, "data_dir": "data/mine", "val_loss": 3.25, "bits_per_char": 5.5, "tokens": 12345}
TEXTS = [
    "却说阿青\n\n行至渡口，问起归路。\n",
    " 阿青  abc\t一 \n x",
    "龘😀é, naïve 🐉\u3000\u2028 ▁ a▁ ▁",
    "<0x41> <s> </s> [CLS]第1回[SEP",
    "\r\n\0 [PAD][UNK]",
    "",
]


def make(tokenizer, n_embd=64):
    """An untrained model. Weights four times as large as usual, so that its logits differ."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 2, 2, n_embd)).eval()
    for p in model.parameters():
        p.data *= 4
    return model


def saved(path, tokenizer=NATIVE, n_embd=64):
    """The settings to export a checkpoint that was saved in the run's folder `path`/novel."""
    save_pretrained(make(tokenizer, n_embd), path / "novel/ckpt-00000012", tokenizer, {}, METADATA)
    return {"model": str(path / "novel"), "save": str(path / "novel.gguf")}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The settings of an export to f32, and a reader of its file. Tests only read both."""
    settings = saved(tmp_path_factory.mktemp("export"))
    main(Settings(**settings, quantize="f32"))
    return settings, gguf.GGUFReader(settings["save"])


def field(reader, key):
    return reader.fields[key].contents()


def weights(path):
    """The tensors of a file as f32, by name."""
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}


BLOCK_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def expected_weights(model, vocab_size):
    """The model's weights under the names that llama.cpp's src/models/gpt2.cpp asks for."""
    state = {name.removeprefix("transformer."): p.detach().numpy() for name, p in model.named_parameters()}
    wanted = {
        "token_embd.weight": state["wte.weight"][:vocab_size],
        "position_embd.weight": state["wpe.weight"],
        "output_norm.weight": state["ln_f.weight"],
        "output_norm.bias": state["ln_f.bias"],
    }
    for layer in range(model.config.n_layer):
        for ours, theirs in BLOCK_NAMES.items():
            for kind in ("weight", "bias"):
                wanted[f"blk.{layer}.{theirs}.{kind}"] = state[f"h.{layer}.{ours}.{kind}"]
    return wanted


# -- weights ---------------------------------------------------------------------------------------------------------


def test_export_f32_keeps_every_weight_exactly(exported):
    found, wanted = weights(exported[0]["save"]), expected_weights(make(NATIVE), NATIVE.vocab_size)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], w) for name, w in wanted.items())


@pytest.mark.parametrize("quantize, error", [("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 0.57 / 127)])
def test_export_rounds_matrices_to_the_precision(tmp_path, quantize, error):
    settings = saved(tmp_path)
    main(Settings(**settings, quantize=quantize))
    found = weights(settings["save"])
    for name, w in expected_weights(make(NATIVE), NATIVE.vocab_size).items():
        matrix = w.ndim == 2 and name != "position_embd.weight"
        largest = abs(w.reshape(-1, 32)).max(1, keepdims=True)  # q8_0 has a scale, in f16, for each 32
        difference = abs(found[name] - w).reshape(-1, 32)
        assert (difference <= largest * error * matrix).all() and difference.any() == matrix


def test_export_q8_0_keeps_rows_of_other_lengths_in_f16_and_says_so(tmp_path, capsys):
    settings = saved(tmp_path, n_embd=16)
    main(Settings(**settings))
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(settings["save"]).tensors}
    assert types["blk.0.attn_qkv.weight"] == types["token_embd.weight"] == "F16"
    assert types["blk.0.ffn_down.weight"] == "Q8_0"  # its rows have 64 numbers
    assert "7 of them in f16" in capsys.readouterr().out


def test_export_reads_a_transformers_folder_and_cuts_ids_without_a_token(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(vocab_size=NATIVE.vocab_size + 7, n_positions=24, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    NATIVE.save(tmp_path / "gpt2/vocab.txt")
    main(Settings(model=str(tmp_path / "gpt2"), save=str(tmp_path), quantize="f32"))
    found, wanted = weights(tmp_path / "gpt2.gguf"), load_pretrained(tmp_path / "gpt2")
    assert all(np.array_equal(found[n], w) for n, w in expected_weights(wanted, NATIVE.vocab_size).items())


# -- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, value",
    [
        ("general.architecture", "gpt2"),
        ("general.name", "novel"),
        ("general.file_type", gguf.LlamaFileType.ALL_F32),
        ("gpt2.context_length", 32),
        ("gpt2.embedding_length", 64),
        ("gpt2.feed_forward_length", 256),
        ("gpt2.block_count", 2),
        ("gpt2.attention.head_count", 2),
        ("gpt2.attention.layer_norm_epsilon", pytest.approx(1e-5)),
        ("general.sampling.temp", pytest.approx(1.0)),
        ("general.sampling.top_p", pytest.approx(0.95)),
        ("general.sampling.top_k", 0),
        ("general.sampling.min_p", 0),
        ("training.step", 12),
        ("training.bits_per_char", 5.5),
        ("training.data_dir", "mine"),
        ("tokenizer.ggml.model", "llama"),
        ("tokenizer.ggml.bos_token_id", NATIVE.cls),
        ("tokenizer.ggml.eos_token_id", NATIVE.cls),
        ("tokenizer.ggml.add_bos_token", False),
        ("tokenizer.ggml.add_eos_token", False),
        ("tokenizer.ggml.add_space_prefix", False),
        ("tokenizer.ggml.suppress_tokens", NATIVE.never_generated.tolist()),
    ],
)
def test_export_metadata(exported, key, value):
    assert field(exported[1], key) == value


def vocabulary(reader):
    """The file's tokens, each with the name of its type."""
    types = (gguf.TokenType(i).name for i in field(reader, "tokenizer.ggml.token_type"))
    return list(zip(field(reader, "tokenizer.ggml.tokens"), types))


def test_export_writes_every_token_with_its_type(exported):
    special = {"[SEP]": ("\n", "NORMAL"), " ": (" ", "USER_DEFINED")}
    special |= {token: (token, "CONTROL") for token in ("[PAD]", "[UNK]", "[CLS]", "[MASK]")}
    for i, token in enumerate(vocabulary(exported[1])):
        ours = NATIVE.tokens[i]
        assert token == special.get(ours, (ours, "BYTE" if NATIVE.is_byte[i] else "NORMAL"))


@pytest.mark.parametrize("tokenizer", [NATIVE, NO_SPACE, BLOCK_CHARACTER], ids=["space", "no space", "U+2581"])
def test_export_tokens_are_all_different_and_one_is_the_space(tmp_path, tokenizer):
    settings = saved(tmp_path, tokenizer)
    main(Settings(**settings))
    tokens = vocabulary(gguf.GGUFReader(settings["save"]))
    assert len({token for token, _ in tokens}) == tokenizer.vocab_size
    assert tokens[tokenizer.encode(" ")[0]] == (" ", "USER_DEFINED")


def test_export_without_training_metadata(tmp_path):
    save_pretrained(make(NATIVE), tmp_path / "model", NATIVE)
    main(Settings(model=str(tmp_path / "model"), save=str(tmp_path)))
    assert not any(key.startswith("training.") for key in gguf.GGUFReader(tmp_path / "model.gguf").fields)


def test_export_writes_a_modelfile_for_ollama(exported):
    path = exported[0]["save"].replace(".gguf", ".Modelfile")
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines[0] == "FROM ./novel.gguf"
    assert {'TEMPLATE "{{ .Prompt }}"', 'PARAMETER stop "[CLS]"', "PARAMETER num_ctx 32"} <= set(lines)
    assert {"PARAMETER temperature 1.0", "PARAMETER top_p 0.95", "PARAMETER top_k 0"} <= set(lines)


# -- files and mistakes ----------------------------------------------------------------------------------------------


def test_export_script_names_the_file_after_the_run_and_says_how_to_open_it(tmp_path):
    saved(tmp_path / "out")
    printed = script("export.py", cwd=tmp_path).stdout
    assert (tmp_path / "novel.gguf").exists() and (tmp_path / "novel.Modelfile").exists()
    assert "28 tensors, q8_0" in printed and "lms import --copy novel.gguf" in printed
    assert "llama-completion -m novel.gguf -no-cnv -n 16" in printed and "-f novel.Modelfile" in printed


@pytest.mark.parametrize("name", ["novel.gguf", "novel.Modelfile"])
def test_export_does_not_overwrite(tmp_path, name):
    settings = saved(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} exists already.*--overwrite"):
        main(Settings(**settings))
    assert (tmp_path / name).read_text() == "mine"


def test_export_overwrite_replaces_both_files(tmp_path):
    settings = saved(tmp_path)
    for name in ("novel.gguf", "novel.Modelfile"):
        (tmp_path / name).write_text("mine")
    main(Settings(**settings, overwrite=True))
    assert (tmp_path / "novel.gguf").read_bytes()[:4] == b"GGUF"
    assert (tmp_path / "novel.Modelfile").read_text().startswith("FROM")


@pytest.mark.parametrize("error, raised", [(OSError(), UserError), (KeyboardInterrupt(), KeyboardInterrupt)])
@pytest.mark.parametrize("place", ["write_tensors_to_file", "replace"])
def test_export_that_fails_keeps_the_old_file_and_no_temporary_file(tmp_path, monkeypatch, place, error, raised):
    def fail(*_):
        raise error

    settings = saved(tmp_path)
    (tmp_path / "novel.gguf").write_text("old")
    monkeypatch.setattr(files.os if place == "replace" else gguf.GGUFWriter, place, fail)
    with pytest.raises(raised):
        main(Settings(**settings, overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["novel", "novel.gguf"]
    assert (tmp_path / "novel.gguf").read_text() == "old"


def test_export_to_a_full_disk_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("512 requested and 0 written")  # numpy's words

    settings = saved(tmp_path)
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(UserError, match="cannot write .*novel.gguf: the disk is full"):
        main(Settings(**settings))


def test_export_refuses_a_bert_vocabulary(tmp_path):
    settings = saved(tmp_path, Tokenizer(BERT_WORDS))
    with pytest.raises(UserError, match="BERT vocabulary"):
        main(Settings(**settings))


def test_export_refuses_a_vocabulary_larger_than_the_model(tmp_path):
    settings = saved(tmp_path)
    folder = tmp_path / "novel/ckpt-00000012"
    (folder / "tokenizer.json").unlink()
    Tokenizer([*NATIVE.tokens, "龘"]).save(folder / "vocab.txt")
    with pytest.raises(UserError, match="the vocabulary has .* tokens, the model"):
        main(Settings(**settings))


def test_export_refuses_a_name_that_does_not_end_in_gguf(tmp_path):
    settings = saved(tmp_path)
    with pytest.raises(UserError, match="ends in .gguf"):
        main(Settings(model=settings["model"], save=str(tmp_path / "novel.bin")))


def test_export_without_gguf_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(export, "gguf", None)
    with pytest.raises(UserError, match="pip install gguf"):
        main(Settings())


# -- the same model in llama.cpp, where llama-cpp-python is installed ------------------------------------------------


needs_llama_cpp = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")


def open_in_llama_cpp(path, **kwargs):
    """The model in llama.cpp, with keys and values in f32 as in ours."""
    import llama_cpp

    f32 = llama_cpp.GGML_TYPE_F32
    return llama_cpp.Llama(str(path), n_ctx=0, n_threads=1, type_k=f32, type_v=f32, verbose=False, **kwargs)


@needs_llama_cpp
@pytest.mark.parametrize("tokenizer", [NATIVE, NO_SPACE, BLOCK_CHARACTER], ids=["space", "no space", "U+2581"])
def test_llama_cpp_gives_the_same_ids_and_text(tmp_path, tokenizer):
    settings = saved(tmp_path, tokenizer)
    main(Settings(**settings, quantize="f32"))
    other = open_in_llama_cpp(settings["save"])
    for text in [*TEXTS, story(2)]:
        ids = other.tokenize(text.encode(), add_bos=True, special=True)
        assert ids == tokenizer.encode(text).tolist()
        assert other.detokenize(ids, special=True).decode() == text


@needs_llama_cpp
def test_llama_cpp_gives_the_same_logits(exported):
    other = open_in_llama_cpp(exported[0]["save"], logits_all=True)
    ids = NATIVE.encode("却说阿青\n行至 渡口，龘问起归路。").tolist()
    other.eval(ids)
    logits = make(NATIVE)(torch.tensor([ids]))[0][0, :, : NATIVE.vocab_size]
    assert logits.std() > 1
    assert abs(other.scores[: len(ids)] - logits.detach().numpy()).max() < 0.01


@needs_llama_cpp
def test_llama_cpp_continues_with_the_same_text(workplace, tmp_path):
    main(Settings(model=str(workplace / "out/tiny"), save=str(tmp_path), quantize="f32"))
    folder = find_checkpoint(workplace / "out/tiny")
    tokenizer, model = load_tokenizer(folder), load_pretrained(folder)
    ids = torch.tensor([tokenizer.encode("却说阿青行至").tolist()])
    ours = model.generate(ids, 20, temperature=0, seed=1)[0, ids.size(1) :]
    other = open_in_llama_cpp(tmp_path / "tiny.gguf")
    completion = other.create_completion("却说阿青行至", max_tokens=20, temperature=0, seed=1)
    assert completion["choices"][0]["text"] == tokenizer.decode(ours.numpy())


@needs_llama_cpp
def test_llama_cpp_chat_continues_the_messages(workplace, tmp_path):
    main(Settings(model=str(workplace / "out/tiny"), save=str(tmp_path), quantize="f32"))
    other = open_in_llama_cpp(tmp_path / "tiny.gguf")
    plain = other.create_completion("却说阿青行至", max_tokens=10, temperature=0, seed=1)
    messages = [{"role": "user", "content": "却说阿青"}, {"role": "assistant", "content": "行至"}]
    chat = other.create_chat_completion(messages, max_tokens=10, temperature=0, seed=1)
    assert chat["choices"][0]["message"]["content"] == plain["choices"][0]["text"]
