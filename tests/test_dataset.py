import errno
import json
import os
import shutil

import numpy as np
import pytest
from conftest import story
from hypothesis import given, settings
from hypothesis import strategies as st

import dataset
import prepare
from configurator import UserError
from dataset import Corpus, Windows, promote_staged, validation_windows
from files import fsync, write_atomic


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two prepared folders: of a book, and of a longer one."""
    folder = tmp_path_factory.mktemp("sets")
    for name, chapters in (("short", 12), ("long", 20)):
        (folder / f"{name}.txt").write_text(story(chapters), encoding="utf-8")
        prepare.main(prepare.Settings(inputs=[str(folder / f"{name}.txt")], out_dir=str(folder / name)))
    return folder


@pytest.fixture
def prepared(sets, tmp_path):
    """A prepared folder of the test's own."""
    return shutil.copytree(sets / "short", tmp_path / "data")


# -- windows ---------------------------------------------------------------------------------------------------------

SIZES = dict(n=st.integers(10, 400), block=st.integers(1, 9), stride=st.integers(0, 12), seed=st.integers(0, 5))


@given(**SIZES)
@settings(derandomize=True)
def test_windows_come_once_per_epoch_stride_apart(n, block, stride, seed):
    windows = Windows(np.arange(n, dtype=np.uint16), block, stride, seed)
    step = stride or block
    for epoch in range(3):
        starts = np.sort(windows.starts(epoch * windows.per_epoch, windows.per_epoch))
        assert (np.diff(starts) == step).all()
        assert 0 <= starts[0] < step and starts[-1] + block < n


@given(**SIZES, first=st.integers(0, 100))
@settings(derandomize=True)
def test_windows_depend_on_their_number_alone(n, block, stride, seed, first):
    tokens = np.arange(n, dtype=np.uint16)
    x, y = Windows(tokens, block, stride, seed).batch(first, 5)  # over the ends of epochs too
    other = Windows(tokens, block, stride, seed)
    one_by_one = [other.batch(i, 1)[0][0] for i in reversed(range(first, first + 5))][::-1]
    assert x.shape == (5, block) and (y == x + 1).all()
    assert (x == one_by_one).all()


def epochs_of(seed: int) -> list[tuple[int, ...]]:
    windows = Windows(np.arange(1000, dtype=np.uint16), 10, seed=seed)
    return [tuple(windows.starts(epoch * windows.per_epoch, windows.per_epoch)) for epoch in range(8)]


def test_windows_have_another_order_and_phase_in_each_epoch():
    epochs = epochs_of(seed=1)
    assert len(set(epochs)) == 8
    assert len({min(epoch) for epoch in epochs}) > 1


def test_windows_have_another_order_with_another_seed():
    assert epochs_of(seed=1)[0] != epochs_of(seed=2)[0]


def test_windows_need_one_more_token_than_a_block():
    Windows(np.arange(11, dtype=np.uint16), 10).batch(0, 3)
    with pytest.raises(UserError, match="less than one window"):
        Windows(np.arange(10, dtype=np.uint16), 10)


@given(n=st.integers(2, 50), block=st.integers(1, 60))
@settings(derandomize=True)
def test_validation_windows_have_every_token_but_the_first_as_a_target_once(n, block):
    x, y = validation_windows(np.arange(n), block)
    assert x.shape == y.shape == (len(x), block)
    assert y[y != -100].tolist() == list(range(1, n))
    assert (x[y != -100] + 1 == y[y != -100]).all()


def test_validation_windows_are_at_most_so_many():
    assert len(validation_windows(np.arange(50), 10, at_most=2)[0]) == 2


# -- a prepared folder -----------------------------------------------------------------------------------------------


def test_corpus_opens_a_prepared_folder(prepared):
    corpus = Corpus.open(prepared)
    assert len(corpus.train) == corpus.meta["train_tokens"] and corpus.train.dtype == np.uint16


@pytest.mark.parametrize("part", ["val", "train"])
def test_corpus_converts_nats_per_token_to_bits_per_character(prepared, part):
    corpus = Corpus.open(prepared)
    ids = getattr(corpus, part)
    characters = len(corpus.tokenizer.decode(ids).replace("[CLS]", ""))
    assert corpus.bits_per_char(2.0, part) == pytest.approx(2.0 / np.log(2) * len(ids) / characters)


def test_corpus_refuses_a_file(prepared):
    with pytest.raises(UserError, match="is a file. Prepare it first: python prepare.py"):
        Corpus.open(prepared / "vocab.txt")


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def edit(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "vocab.txt"])
@pytest.mark.parametrize("damage", [truncate, edit, os.remove])
def test_corpus_names_a_damaged_file(prepared, name, damage):
    damage(prepared / name)
    with pytest.raises(UserError, match=name):
        Corpus.open(prepared)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "vocab.txt"])
def test_check_unchanged_names_a_file_that_was_changed(prepared, name):
    corpus = Corpus.open(prepared)
    corpus.check_unchanged()
    edit(prepared / name)
    with pytest.raises(UserError, match=f"{name} was changed"):
        corpus.check_unchanged()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bytes": {}, "sha256": 1}'])
def test_corpus_names_a_foreign_meta(prepared, text):
    (prepared / "meta.json").write_text(text)
    with pytest.raises(UserError, match="meta.json is not prepare.py's"):
        Corpus.open(prepared)


def test_corpus_without_meta_says_how_to_prepare(prepared):
    (prepared / "meta.json").unlink()
    with pytest.raises(UserError, match="python prepare.py"):
        Corpus.open(prepared)


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"val_tokens": 0}, {"val_characters": "x"}, {"train_tokens": 5}, {"bytes": {"train.bin": 1}}],
)
def test_corpus_names_an_edited_meta(prepared, change):
    meta = json.loads((prepared / "meta.json").read_bytes())
    (prepared / "meta.json").write_text(json.dumps({**meta, **change}))
    with pytest.raises(UserError, match="meta.json"):
        Corpus.open(prepared)


# -- writing and moving files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", range(5))
def test_promote_staged_is_finished_by_the_next_reader(sets, prepared, moved, monkeypatch):
    """prepare.py was killed after it had moved so many of the four files."""
    shutil.copytree(sets / "long", prepared / ".next")
    replace, targets = os.replace, []

    def replace_or_die(source, target):
        if len(targets) == moved:
            raise KeyboardInterrupt
        targets.append(target)
        replace(source, target)

    monkeypatch.setattr(dataset.os, "replace", replace_or_die)
    try:
        promote_staged(prepared)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert Corpus.open(prepared).fingerprint == Corpus.open(sets / "long").fingerprint
    assert not (prepared / ".next").exists()


def test_promote_staged_ignores_an_incomplete_set(sets, prepared):
    shutil.copytree(sets / "long", prepared / ".next")
    (prepared / ".next/meta.json").unlink()
    promote_staged(prepared)
    assert Corpus.open(prepared).fingerprint == Corpus.open(sets / "short").fingerprint


def test_write_atomic_replaces_the_file(tmp_path):
    write_atomic(tmp_path / "a", b"old")
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs no folders")
def test_fsync_goes_on_where_a_file_system_syncs_no_folders(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    fsync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        write_atomic(tmp_path / "a", b"new")


def test_write_atomic_keeps_the_old_file_after_an_error(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", b"old")

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
