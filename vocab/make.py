"""
Make vocab/chinese.txt, a general vocabulary for simplified Chinese prose: python vocab/make.py

The specials, the bytes, ASCII, all 7,445 characters of GB 2312 (6,763 Chinese ones) in its order, which puts the
3,755 commonest first, and the punctuation that novels use besides. What is not in it is spelled in bytes.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tokenizer import BYTES, SPECIALS, Tokenizer  # noqa: E402

ASCII = [chr(code) for code in range(0x20, 0x7F)]
MORE = "—–‥•‧′″※〇〝〞「」『』〖〗【】〔〕﹏～·"


def gb2312() -> list[str]:
    """Its characters, row by row (94 rows of 94 cells, of which some are empty)."""
    cells = (bytes((0xA0 + row, 0xA0 + cell)) for row in range(1, 95) for cell in range(1, 95))
    return [cell.decode("gb2312") for cell in cells if cell.decode("gb2312", errors="ignore")]


def vocabulary() -> Tokenizer:
    return Tokenizer([*SPECIALS, *BYTES, *dict.fromkeys([*ASCII, *gb2312(), *MORE])])  # each character once, in this order


def main() -> None:
    tokenizer = vocabulary()
    tokenizer.save(HERE / "chinese.txt")
    print(f"vocab/chinese.txt: {tokenizer.vocab_size:,} tokens")


if __name__ == "__main__":
    main()
