import json

import numpy as np
import pytest
from conftest import story
from hypothesis import given
from hypothesis import strategies as st

import dataset
import prepare
from configurator import UserError
from dataset import Corpus, Windows, adopt, validation_windows


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "book.txt").write_text(story(), encoding="utf-8")
    prepare.main(prepare.Settings(inputs=[str(tmp_path / "book.txt")], out_dir=str(tmp_path / "data")))
    return tmp_path / "data"


@given(n=st.integers(10, 400), block=st.integers(1, 9), stride=st.integers(0, 12), seed=st.integers(0, 5), first=st.integers(0, 100))
def test_windows_without_replacement(n, block, stride, seed, first):
    tokens = np.arange(n, dtype=np.uint16)
    windows = Windows(tokens, block, stride, seed)
    per_epoch, step = windows.per_epoch, stride or block
    for epoch in range(3):
        starts = np.sort(windows.starts(epoch * per_epoch, per_epoch))
        assert (np.diff(starts) == step).all(), "each window once, stride apart"
        assert 0 <= starts[0] < step and starts[-1] + block < n
    x, y = windows.batch(first, 5)  # over epochs' ends too
    assert x.shape == (5, block) and (y == x + 1).all()
    fresh = Windows(tokens, block, stride, seed)
    one_by_one = [fresh.batch(i, 1)[0][0] for i in reversed(range(first, first + 5))][::-1]
    assert (x == one_by_one).all(), "a window depends on its number alone"


def test_epochs_differ_in_order_and_phase():
    windows = Windows(np.arange(1000, dtype=np.uint16), 10, seed=1)
    epochs = [windows.starts(e * windows.per_epoch, windows.per_epoch) for e in range(8)]
    assert len({tuple(e) for e in epochs}) == 8
    assert len({min(e) for e in epochs}) > 1
    assert tuple(Windows(windows.tokens, 10, seed=2).starts(0, windows.per_epoch)) != tuple(epochs[0])


def test_too_short_a_text_is_named():
    Windows(np.arange(11, dtype=np.uint16), 10).batch(0, 3)
    with pytest.raises(UserError, match="less than one window"):
        Windows(np.arange(10, dtype=np.uint16), 10)


@given(n=st.integers(2, 50), block=st.integers(1, 60))
def test_validation_counts_every_token_but_the_first_once(n, block):
    x, y = validation_windows(np.arange(n), block)
    assert x.shape == y.shape == (len(x), block)
    assert y[y >= 0].tolist() == list(range(1, n))
    assert (x[y >= 0] + 1 == y[y >= 0]).all()
    assert len(validation_windows(np.arange(n), block, at_most=2)[0]) <= 2


def test_corpus_opens_and_tells_bits(folder):
    corpus = Corpus.open(folder)
    assert len(corpus.train) == corpus.meta["train_tokens"] and corpus.train.dtype == np.uint16
    expected = 2.0 / np.log(2) * len(corpus.val) / len(corpus.tokenizer.decode(corpus.val).replace("[CLS]", ""))
    assert corpus.bits_per_char(2.0) == pytest.approx(expected)


def test_a_book_is_no_prepared_folder(folder):
    with pytest.raises(UserError, match="is a file. Prepare it first: python prepare.py"):
        Corpus.open(folder / "vocab.txt")


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "vocab.txt"])
@pytest.mark.parametrize("harm", ["cut", "edit", "remove"])
def test_a_damaged_file_is_named(folder, name, harm):
    data = (folder / name).read_bytes()
    if harm == "remove":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data[:-2] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=name):
        Corpus.open(folder)


def test_a_foreign_meta_is_named(folder):
    for text in ("", "[]", "{}", '{"bytes": {}, "sha256": 1}'):
        (folder / "meta.json").write_text(text)
        with pytest.raises(UserError, match="meta.json"):
            Corpus.open(folder)
    (folder / "meta.json").unlink()
    with pytest.raises(UserError, match="python prepare.py"):
        Corpus.open(folder)


@pytest.mark.parametrize("change", [{"format": 2}, {"val_tokens": 0}, {"val_characters": "x"}, {"train_tokens": 5}])
def test_an_edited_meta_is_named(folder, change):
    meta = json.loads((folder / "meta.json").read_bytes())
    (folder / "meta.json").write_text(json.dumps({**meta, **change}))
    with pytest.raises(UserError, match="meta.json"):
        Corpus.open(folder)


def test_a_text_too_short_to_hold_out_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hi\n")
    with pytest.raises(UserError, match="too short"):
        prepare.main(prepare.Settings(inputs=[str(tmp_path / "a.txt")], out_dir=str(tmp_path / "data")))


@pytest.mark.parametrize("moved", range(5))
def test_killed_at_any_move_the_new_set_is_whole(folder, tmp_path, moved, monkeypatch):
    """prepare.py killed after `moved` of the four files: the reader finishes the move."""
    (tmp_path / "other.txt").write_text(story(20), encoding="utf-8")
    replaced = []

    def replace(source, target):
        if len(replaced) == moved:
            raise KeyboardInterrupt
        replaced.append(target)
        real(source, target)

    real = dataset.os.replace
    monkeypatch.setattr(prepare, "adopt", lambda out: None)
    prepare.main(prepare.Settings(inputs=[str(tmp_path / "other.txt")], out_dir=str(folder)))
    before = json.loads((folder / "meta.json").read_bytes())
    monkeypatch.setattr(dataset.os, "replace", replace)
    try:
        adopt(folder)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert Corpus.open(folder).meta["train_characters"] > before["train_characters"]
    assert not (folder / ".next").exists()


def test_killed_before_the_seal_the_old_set_is_whole(folder, tmp_path, monkeypatch):
    before = Corpus.open(folder).fingerprint
    (tmp_path / "other.txt").write_text(story(20), encoding="utf-8")
    monkeypatch.setattr(prepare, "write_synced", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare.main(prepare.Settings(inputs=[str(tmp_path / "other.txt")], out_dir=str(folder)))
    assert Corpus.open(folder).fingerprint == before
