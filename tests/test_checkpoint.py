import json
import os
import shutil
from collections import Counter

import pytest
import torch
from conftest import story
from safetensors.torch import load_file, save_file
from test_wordpiece import TOKENS as BERT_WORDS

import checkpoint
from checkpoint import find_checkpoint, load_pretrained, load_tokenizer, load_trainer_state, newest_run, save_pretrained
from configurator import UserError
from model import GPT, GPTConfig
from tokenizer import Tokenizer

NATIVE = Tokenizer.build(Counter(story()), min_count=2)
TEXT = "第1回 阿青\n却说<0x41>龘😀[SEP]x[CLS]y“é”\n\n 12\u2028 ab c" + story(2)


def make(tokenizer, seed=0, members=1):
    torch.manual_seed(seed)
    return GPT(GPTConfig(tokenizer.vocab_size, 32, 2, 2, 16, 0.1, members)).eval()


@pytest.fixture
def folder(tmp_path):
    save_pretrained(make(NATIVE), tmp_path / "ckpt-00000001", NATIVE, {"step": 1}, {"val_loss": 1.0})
    return tmp_path / "ckpt-00000001"


DIGITS = Tokenizer([*BERT_WORDS, "11", "12", "2"], split_digits=True)


@pytest.mark.parametrize("tokenizer", [NATIVE, Tokenizer(BERT_WORDS), DIGITS], ids=["native", "bert", "bert, digits"])
def test_save_pretrained_opens_in_transformers_with_the_same_logits_ids_and_text(tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    model = make(tokenizer)
    save_pretrained(model, tmp_path / "m", tokenizer)
    other, words = AutoModelForCausalLM.from_pretrained(tmp_path / "m"), AutoTokenizer.from_pretrained(tmp_path / "m")
    idx = torch.randint(0, tokenizer.vocab_size, (2, 32))
    logits = other(idx).logits
    assert logits.shape[-1] == tokenizer.vocab_size
    assert (logits - model(idx)[0]).abs().max() < 1e-4
    ids = words(TEXT, add_special_tokens=False).input_ids
    assert ids == tokenizer.encode(TEXT).tolist()
    config = json.loads((tmp_path / "m/tokenizer_config.json").read_text())  # what transformers 4 gives to the model
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert load_tokenizer(tmp_path / "m") == tokenizer
    if not tokenizer.native:
        ids = tokenizer.encode("hello want的一 ##a unaffable，的hello 1\n").tolist()
    assert words.decode(ids) == tokenizer.decode(ids)
    written = pipeline("text-generation", model=str(tmp_path / "m"))("的一", max_new_tokens=5, do_sample=False)
    assert written[0]["generated_text"].startswith("的一")


def test_save_and_load_round_trip(folder):
    model, loaded = make(NATIVE), load_pretrained(folder)
    idx = torch.randint(0, NATIVE.vocab_size, (2, 32))
    assert torch.equal(loaded(idx)[0], model(idx)[0])
    assert not loaded.training and loaded.config == model.config
    assert load_tokenizer(folder).tokens == NATIVE.tokens
    assert load_trainer_state(folder) == {"step": 1}


def test_saved_ensemble_opens_as_a_plain_gpt_here_and_in_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    model = make(NATIVE, members=2)
    save_pretrained(model, tmp_path / "m", NATIVE)
    ours, theirs = load_pretrained(tmp_path / "m"), AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    idx = torch.randint(0, NATIVE.vocab_size, (2, 32))
    assert ours.config.members == 1
    for logits in (ours(idx)[0], theirs(idx).logits):
        assert (logits - model(idx)[0]).abs().max() < 1e-4


def test_load_tokenizer_reads_tokenizer_json_without_vocab_txt(folder):
    (folder / "vocab.txt").unlink()
    assert load_tokenizer(folder).tokens == NATIVE.tokens


def test_load_tokenizer_refuses_two_different_vocabularies(folder):
    Tokenizer(NATIVE.tokens[:-1]).save(folder / "vocab.txt")
    with pytest.raises(UserError, match="not the same vocabulary"):
        load_tokenizer(folder)


def transformers_folder(path, **kwargs):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=70, n_positions=24, n_embd=16, n_layer=2, n_head=2)).eval()
    other.save_pretrained(path, **kwargs)
    return other


@pytest.mark.parametrize("form", ["safetensors", "sharded", "bin", "old bin", "bare bin"])
def test_load_pretrained_reads_every_form_of_weights(tmp_path, form):
    other = transformers_folder(tmp_path, **({"max_shard_size": "10KB"} if form == "sharded" else {}))
    if form == "sharded":
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    if "bin" in form:
        weights = dict(other.state_dict())
        if form == "old bin":  # with the mask buffers that old files carry, and the tied head written out
            for layer in range(2):
                weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
                weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        if form == "bare bin":
            weights = {name.removeprefix("transformer."): w for name, w in weights.items() if name != "lm_head.weight"}
        torch.save(weights, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    idx = torch.randint(0, 70, (2, 24))
    assert (load_pretrained(tmp_path)(idx)[0] - other(idx).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    "setting",
    [
        {"activation_function": "relu"},
        {"n_inner": 17},
        {"scale_attn_by_inverse_layer_idx": True},
        {"add_cross_attention": True},
        {"model_type": "llama"},
        {"layer_norm_epsilon": 1e-6},
        {"tie_word_embeddings": False},
        {"n_head": 0},
        {"n_head": 3},
        {"n_embd": 1.5},
        {"vocab_size": 10**30},
        {"n_layer": float("inf")},
        {"n_head": True},
    ],
)
def test_load_pretrained_names_an_unsupported_setting(folder, setting):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **setting}))
    with pytest.raises(UserError, match=next(iter(setting))):
        load_pretrained(folder)


def alter(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda w: w.pop("transformer.ln_f.bias"), "missing: transformer.ln_f.bias"),
        (lambda w: w.update({"transformer.extra": torch.ones(1)}), "surplus: transformer.extra"),
        (lambda w: w.update({"transformer.ln_f.bias": torch.ones(3)}), r"transformer.ln_f.bias has shape \(3,\)"),
        (lambda w: w["transformer.ln_f.bias"].fill_(float("nan")), "ln_f.bias holds NaN"),
        (lambda w: w.update({"lm_head.weight": torch.ones(1, 16)}), "lm_head"),
    ],
)
def test_load_pretrained_names_wrong_weights(folder, change, words):
    alter(folder, change)
    with pytest.raises(UserError, match=words):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "content", [[1], torch.ones(2), {"state_dict": {}}, {1: torch.ones(2)}, {"a": torch.ones(2, dtype=torch.int64)}]
)
def test_load_pretrained_refuses_a_bin_without_weights(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="tensor|missing"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "content", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../x"}}', "[" * 100000]
)
def test_load_pretrained_names_a_bad_shard_index(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match="index.json"):
        load_pretrained(folder)


def test_tokenizer_json_decodes_invalid_bytes_like_ours(folder):
    from transformers import AutoTokenizer

    words, torch_rng = AutoTokenizer.from_pretrained(folder), torch.Generator().manual_seed(0)
    for _ in range(300):
        ids = torch.randint(5, 275, (6,), generator=torch_rng).tolist()  # most of them bytes
        assert words.decode(ids) == NATIVE.decode(ids)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def test_load_never_runs_code_of_a_pickle(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, folder / "trainer_state.pt")
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for load, name in ((load_trainer_state, "trainer_state.pt"), (load_pretrained, "pytorch_model.bin")):
        with pytest.raises(UserError, match=name):
            load(folder)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.pt", "config.json"])
@pytest.mark.parametrize("keep", [0, 100])
def test_load_names_a_truncated_file(folder, name, keep):
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(UserError, match=name):
        load_trainer_state(folder) if name == "trainer_state.pt" else load_pretrained(folder)


def test_find_checkpoint_prefers_the_best(tmp_path):
    run = tmp_path / "out/run"
    for step, loss in ((1, 3.0), (2, 2.0), (3, 2.5), (4, None)):
        metadata = {} if loss is None else {"val_loss": loss}
        save_pretrained(make(NATIVE), run / f"ckpt-{step:08d}", NATIVE, {}, metadata)
    shutil.copytree(run / "ckpt-00000004", run / ".ckpt-00000005.writing")  # killed while saving
    assert find_checkpoint(run).name == "ckpt-00000002"
    assert checkpoint.checkpoints(run)[-1].name == "ckpt-00000004"
    assert find_checkpoint(run / "ckpt-00000003").name == "ckpt-00000003"
    assert newest_run(tmp_path / "out") == run


@pytest.mark.parametrize("name, message", [("none", "does not exist"), ("", "not a model folder")])
def test_find_checkpoint_without_a_model_says_so(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        find_checkpoint(tmp_path / name)


def test_newest_run_without_a_run_says_how_to_train(tmp_path):
    with pytest.raises(UserError, match="no trained model"):
        newest_run(tmp_path / "none")


def test_save_pretrained_on_a_full_disk_leaves_no_files(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_pretrained(make(NATIVE), folder.with_name("ckpt-00000002"), NATIVE, {"step": 2})
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_save_pretrained_does_not_overwrite(folder):
    with pytest.raises(UserError, match="exists"):
        save_pretrained(make(NATIVE), folder, NATIVE)


@pytest.mark.parametrize("form", ["DataParallel", "bare"])
def test_load_pretrained_reads_names_with_other_prefixes(folder, form):
    """`module.` of DataParallel, and no `transformer.` at all."""
    before = load_pretrained(folder)

    def rename(weights):
        for name in list(weights):
            new = f"module.{name}" if form == "DataParallel" else name.removeprefix("transformer.")
            weights[new] = weights.pop(name)

    alter(folder, rename)
    assert torch.equal(load_pretrained(folder).lm_head.weight, before.lm_head.weight)


# -- transformers with its defaults ------------------------------------------------------------------------------------


def test_pipeline_with_its_defaults_fits_the_context_window(folder):
    from transformers import pipeline

    torch.manual_seed(0)
    ids = pipeline("text-generation", model=str(folder))("却说", return_tensors=True)[0]["generated_token_ids"]
    assert ids[:2] == NATIVE.encode("却说").tolist() and 2 < len(ids) <= 32


def test_transformers_generate_without_arguments_starts_a_chapter(folder):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    ids = AutoModelForCausalLM.from_pretrained(folder).generate()[0]
    assert ids[0] == NATIVE.cls and len(ids) <= 32 and not set(ids[1:].tolist()) & set(NATIVE.never_generated.tolist())


def test_transformers_generates_left_padded_prompts_as_each_alone(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = ["却说阿青行至山门", "老道"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    out = model.generate(**batch, do_sample=False, max_new_tokens=8)
    for row, prompt in zip(out, prompts):
        one = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        alone = model.generate(**one, do_sample=False, max_new_tokens=8)[0]
        assert row[-8:].tolist()[: len(alone) - one.input_ids.size(1)] == alone[one.input_ids.size(1) :].tolist()


def test_generation_config_has_the_sampling_defaults_of_sample_py(folder):
    from generation.sampling import SamplingParams

    config, params = json.loads((folder / "generation_config.json").read_text()), SamplingParams()
    assert {name: config[name] for name in ("temperature", "top_k", "top_p")} == {
        "temperature": params.temperature,
        "top_k": params.top_k,
        "top_p": params.top_p,
    }
