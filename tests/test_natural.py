import random

import pytest

from text.natural import natural_key


@pytest.mark.parametrize(
    "names",
    [
        ["第1章.txt", "第2章.txt", "第10章.txt"],
        ["第二章", "第十章", "第十二章", "第廿一章", "第一百零二章", "第兩百章", "第一千章"],
        ["第２章", "第１０章"],
        ["第十九章", "第二十3章", "第貮拾肆章", "第叄拾章"],
        ["第一卷/第二章", "第一卷/第十章", "第二卷/第一章"],
        ["vol2/b.txt", "vol10/a.txt"],
        ["书（上）.txt", "书（中）.txt", "书（下）.txt"],
        ["上卷", "中卷", "下卷"],
        ["小说上.txt", "小说中.txt", "小说下.txt"],
        ["楔子.txt", "第1章.txt", "第2章.txt", "尾声.txt"],
        ["序章", "第一章", "番外一", "番外二"],
        ["第九章", "大結局", "尾声", "番外一", "番外二", "完本感言"],
        ["Vol.1", "Vol.2", "Vol.10"],
        ["chapter.2", "chapter.10"],
        ["1.txt", "1-2.txt", "2.txt", "10.txt"],
        ["A.txt", "b.txt", "C.txt"],
    ],
    ids=lambda names: names[0],
)
def test_natural_key_sorts_as_readers_do(names):
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == names


def test_natural_key_compares_any_names():
    names = ["", "1", "a", "a1", "1a", "一", "a/1", "1/a", "9" * 6000, "九" * 6000, "十" * 9, "²", "a\\b"]
    assert sorted(sorted(names, key=natural_key), key=natural_key) == sorted(names, key=natural_key)
