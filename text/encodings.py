"""Detect the encoding of Chinese text files: UTF-8, UTF-16, GB18030 (with GBK and GB 2312), Big5."""

import codecs

from configurator import UserError

SAMPLE = 2**18  # bytes that are looked at
COMMON = frozenset(
    "的一是不了人我在有他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用道"
    "行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實"
    "曰此将將见見何无無却卻与與又令马馬兵军軍今吾乃公王老头頭把被叫问問听聽笑话話走身门門手气氣白日山水三二两兩四五十百千万萬"
    "，。、：；！？“”‘’…—「」『』（）《》\n \u3000"
)
"""The most common characters of Chinese prose, simplified and traditional, with its punctuation."""
MIN_COMMON = 0.1
"""In Chinese prose 30 to 50 in 100 characters are COMMON. In a text read in a wrong encoding it is 5 or fewer."""


def check_encoding(name: str) -> None:
    """Raises UserError when Python has no text encoding of this name."""
    try:
        is_text = isinstance(codecs.getincrementaldecoder(name)().decode(b""), str)  # "hex" gives bytes
    except (LookupError, ValueError, TypeError):
        is_text = False
    if not is_text:
        raise UserError(f"--encoding={name}: there is no such encoding; try utf-8, gb18030 or big5")


def detect_encoding(data: bytes, wanted: str = "auto", whole: bool = False) -> str:
    """The encoding of a file, from its first bytes: `wanted`, unless that is "auto". whole: data is all of the file.

    A byte order mark decides. Then UTF-8 is tried, because text in other encodings is hardly ever valid UTF-8. GB18030,
    Big5 and UTF-16 without a mark can often be decoded as each other, so the one wins whose text has the largest share
    of common characters.
    """
    if wanted != "auto":
        return wanted
    for bom, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            return name
    sample = data[:SAMPLE]
    whole = whole and len(sample) == len(data)
    if common_share(sample, "utf-8", whole) >= 0 and b"\0" not in sample:
        return "utf-8"
    shares = {name: common_share(sample, name, whole) for name in ("gb18030", "big5hkscs", "utf-16-le", "utf-16-be")}
    best = max(shares, key=shares.get)
    return best if shares[best] > MIN_COMMON else "utf-8"


def common_share(sample: bytes, encoding: str, whole: bool) -> float:
    """The share of COMMON characters in a sample read in an encoding; -1 where it cannot be decoded."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample, final=whole)
    except UnicodeDecodeError:
        return -1.0
    return sum(c in COMMON for c in text) / max(1, len(text))
