"""
Make vocab/chinese.txt, a general vocabulary for simplified Chinese prose: python -m vocab.make

It holds the special tokens, the bytes, ASCII, all 7,445 characters of GB 2312 (6,763 Chinese ones) in its order, which
puts the 3,755 most common first, and more punctuation that novels use. Everything else is spelled in bytes.
"""

from pathlib import Path

from tokenizer import BYTES, SPECIALS, Tokenizer

ASCII = [chr(code) for code in range(0x20, 0x7F)]
PUNCTUATION = "—–‥•‧′″※〇〝〞「」『』〖〗【】〔〕﹏～·"


def gb2312() -> list[str]:
    """The characters of GB 2312, row by row (94 rows of 94 cells, of which some are empty)."""
    cells = (bytes((0xA0 + row, 0xA0 + cell)) for row in range(1, 95) for cell in range(1, 95))
    return [cell.decode("gb2312") for cell in cells if cell.decode("gb2312", errors="ignore")]


def vocabulary() -> Tokenizer:
    characters = dict.fromkeys([*ASCII, *gb2312(), *PUNCTUATION])  # each once, in this order
    return Tokenizer([*SPECIALS, *BYTES, *characters])


def main() -> None:
    tokenizer = vocabulary()
    tokenizer.save(Path(__file__).with_name("chinese.txt"))
    print(f"vocab/chinese.txt: {tokenizer.vocab_size:,} tokens")


if __name__ == "__main__":
    main()
