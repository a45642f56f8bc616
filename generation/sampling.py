"""The settings that decide what is generated. No heavy imports: the scripts check them before torch is loaded."""

from dataclasses import dataclass
from typing import Literal

from configurator import UserError


@dataclass(frozen=True)
class SamplingParams:
    """Length, stop and filters; see model.filter_logits. Raises UserError for values out of range."""

    max_new_tokens: int = 500
    stop: str = ""  # "chapter", "paragraph", or a text after which generation ends
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        for name, fits, what in (
            ("max_new_tokens", 1 <= self.max_new_tokens <= 10**7, "1 to 10,000,000 is needed"),
            (
                "temperature",
                self.temperature == 0 or 0.001 <= self.temperature <= 1000,
                "0, or 0.001 to 1000, is needed",
            ),
            ("top_k", self.top_k >= 0, "0 or more is needed"),
            ("top_p", 0 < self.top_p <= 1, "a probability above 0, up to 1, is needed"),
            ("min_p", 0 <= self.min_p <= 1, "a number from 0 to 1 is needed"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100 is needed (1: off)"),
        ):
            if not fits:
                raise UserError(f"--{name}={getattr(self, name)}: {what}")


@dataclass(frozen=True)
class DecodeOptions:
    """How the model computes; see generation/optimize.py. Raises UserError for settings that exclude each other."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantize: Literal["auto", "none", "int8"] = "auto"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self):
        if self.quantize == "int8" and self.dtype not in ("auto", "bfloat16"):
            raise UserError(f"--quantize=int8 computes in bfloat16, so no --dtype={self.dtype}")
        if self.compile is True and (self.quantize == "none" or self.dtype not in ("auto", "bfloat16")):
            raise UserError("--compile is for int8 weights: no --quantize=none, no --dtype")
