"""The names that `quintet export` takes. Loads nothing heavy."""

from enum import StrEnum


class Format(StrEnum):
    """What an expert is written as."""

    MERGED = "merged"
    ADAPTER = "adapter"
    GGUF = "gguf"


class Dtype(StrEnum):
    """What a weight is rounded to, by torch's names."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
