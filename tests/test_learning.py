import math
import sys
from dataclasses import replace

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))

pytest.importorskip("matplotlib")
import learning
import numpy as np
from learning import KneserNey, Piece, Point, Settings

from configurator import UserError
from dataset import Corpus

TRAINING = [0, 1, 0, 2, 1, 0]  # a b a c b a
A, B, C, D = range(4)  # D is not in the training text

# By hand. Bigrams: ab 1, ba 2, ac 1, cb 1, so the discount is 3 / (3 + 2 * 1) = 0.6. Symbols before a: b; before b: a
# and c; before c: a. So the unigrams have 1, 2, 1 of 4, and the discount 2 / (2 + 2 * 1) = 0.5. The uniform level has
# 1/4 each: p(a) = 0.5/4 + 0.5 * 3/4 * 1/4 = 0.21875.
UNIGRAMS = {A: 0.21875, B: 0.46875, C: 0.21875, D: 0.09375}


def probability(model: KneserNey, *codes: int) -> float:
    """Of the last of the codes after the others."""
    return model.probabilities(codes)[-1]


@pytest.mark.parametrize(
    "codes, expected",
    [
        ((A, B), (1 - 0.6) / 2 + 0.6 * 2 / 2 * UNIGRAMS[B]),  # b and c follow a, once each
        ((A, D), 0.6 * 2 / 2 * UNIGRAMS[D]),
        ((B, A), (2 - 0.6) / 2 + 0.6 * 1 / 2 * UNIGRAMS[A]),  # only a follows b, twice
        ((D, B), UNIGRAMS[B]),  # a context that is not in the training text
        ((C,), UNIGRAMS[C]),  # no context
    ],
)
def test_kneser_ney_of_order_2_is_as_computed_by_hand(codes, expected):
    assert probability(KneserNey(TRAINING, order=2, size=4), *codes) == pytest.approx(expected, abs=1e-12)


def test_kneser_ney_of_order_1_discounts_the_counts():
    # Counts 3, 2, 1: once 1, twice 1, so the discount is 1/3; p(d) = 1/3 * 3/6 * 1/4.
    assert probability(KneserNey(TRAINING, order=1, size=4), D) == pytest.approx(1 / 24, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("context", ["training", "other order", "unseen symbol", "short", "none"])
def test_kneser_ney_probabilities_sum_to_1(order, context):
    size, text = 40, np.random.default_rng(0).zipf(1.5, 3000) % 30
    contexts = {
        "training": [*text[100:104]],
        "other order": [*text[103:99:-1]],
        "unseen symbol": [*text[100:103], 35],
        "short": [*text[100:102]],
        "none": [],
    }
    model = KneserNey(text, order, size)
    assert sum(probability(model, *contexts[context], w) for w in range(size)) == pytest.approx(1, abs=1e-9)


def test_kneser_ney_uses_all_of_a_long_context():
    text = [*range(10), 20, *range(10), 21] * 3 + [5, 30, 6, 31, 7, 31]
    model = KneserNey(text, order=5, size=40)
    assert probability(model, 6, 7, 8, 9, 20) > 0.3 and probability(model, 6, 8, 8, 9, 30) < 0.1


def test_ngram_bits_fall_with_the_order(workplace):
    bits = learning.ngram_bits(Corpus.open(workplace / "data/novel"))
    assert bits["5-gram"] < bits["bigram"] < bits["unigram"] < math.log2(learning.UNICODE)


SAMPLE = "第一回 山门\n却说阿青行至山门，老道大喜，便对阿青道：“此去无妨。”阿青听罢。"
SAMPLES = {Point(step, step / 60, 9 - step / 100): SAMPLE for step in (10, 20, 30, 40, 50)}


def test_choose_pieces_takes_the_first_sample_the_middle_and_the_last():
    assert [piece.point.step for piece in learning.choose_pieces(SAMPLES, [])] == [10, 30, 50]


def test_cut_piece_prefers_a_speech():
    assert learning.cut_piece(SAMPLE) == "便对阿青道：“此去无妨。”"


@pytest.mark.parametrize("sample", ["的", "的" * 50, "第一回\n，，。的了" * 9, "第一回\n" + "一二三，" * 20])
def test_cut_piece_is_at_most_24_characters_of_the_sample(sample):
    piece = learning.cut_piece(sample)
    assert piece in sample and 0 < len(piece) <= learning.PIECE_LENGTH


@pytest.mark.parametrize(
    "glosses",
    [["a"] * 4, ["word " * 60]],
    ids=["four glosses", "a long gloss"],
)
def test_choose_pieces_refuses_what_does_not_fit(glosses):
    with pytest.raises(UserError):
        learning.choose_pieces(SAMPLES, glosses)


def test_main_without_a_font_says_which_to_install(workplace, monkeypatch, tmp_path):
    monkeypatch.setattr(learning, "chinese_font", lambda: "")
    settings = Settings(model=str(workplace / "out/tiny"), data_dir=str(workplace / "data/novel"))
    with pytest.raises(UserError, match="fonts-noto-cjk"):
        learning.main(replace(settings, picture=str(tmp_path / "learning.png")))


def test_main_prints_the_pieces_to_be_glossed(workplace, capsys):
    learning.main(Settings(model=str(workplace / "out/tiny"), data_dir=str(workplace / "data/novel")))
    printed = capsys.readouterr().out
    assert "5-gram" in printed and "step 20: " in printed and "step 40: " in printed


@pytest.mark.filterwarnings("ignore:Glyph")  # the font of the test has no Chinese
@pytest.mark.parametrize("count", [2, 3, 50])
@pytest.mark.parametrize("last", [4.0, 6.36, 9.2])
def test_draw_has_no_overlapping_texts(count, last):
    curve = [Point(i, i / 10, last + 4 * math.exp(-5 * i / count)) for i in range(1, count + 1)]
    pieces = [Piece(p, "的" * 24, "twelve words " * 8) for p in sorted({curve[0], curve[count // 2], curve[-1]})]
    figure = learning.draw(curve, {"unigram": 9.15, "bigram": 6.4, "5-gram": 6.37}, pieces, "DejaVu Sans")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (*figure.texts, *figure.axes[0].texts)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)
