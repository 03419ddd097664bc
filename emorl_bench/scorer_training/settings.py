"""Everything that the training of a scorer depends on, except its data: the keys of ``conf/scorer/<name>.yaml``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean

POOLINGS = ("mean", "cls")
READS = ("pair", "joined", "response")
DTYPES = ("float32", "bfloat16")
PLACES = {"name", "encoder", "revision", "held_out_encoder", "data_dir", "file", "test_file", "twin", "device"}
_positive: tuple[Callable[[Any], bool], str] = (lambda v: v > 0, "give a number above 0")
_not_negative: tuple[Callable[[Any], bool], str] = (lambda v: v >= 0, "give 0 or more")
RULES = {
    "freeze_layers": _not_negative,
    "max_tokens": (lambda v: v >= 8, "give 8 or more"),
    "epochs": _positive,
    "batch": _positive,
    "rate": _positive,
    "head_rate": _positive,
    "seed": _not_negative,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an encoder and a head are trained.

    ``encoder`` is a directory, a name on the hub (with ``revision``) or ``offline:NAME``. ``pooling`` makes one vector
    of a text: the ``mean`` over its tokens, or the first, ``cls``. ``reads``: prompt and response as a ``pair`` of
    segments, ``joined`` into one text, or only the ``response``. With ``freeze_layers`` above 0, the embeddings and
    this many first blocks are frozen; with all blocks only the head learns. ``batch`` counts units of the data (PAIR:
    prompts, of five texts each). ``rate`` and ``head_rate`` are the peaks of AdamW's learning rates. ``dtype`` is that
    of matrix products in training; weights are always float32.
    """

    encoder: str
    revision: str | None = None
    pooling: str
    reads: str
    freeze_layers: int
    max_tokens: int
    epochs: int
    batch: int
    rate: float
    head_rate: float
    dtype: str
    seed: int

    def check(self, owner: str) -> None:
        """Check the settings. ``owner`` is the scorer's name.

        Raises:
            UserError: the first setting that is wrong.
        """
        for key, known in (("pooling", POOLINGS), ("reads", READS), ("dtype", DTYPES)):
            if (value := getattr(self, key)) not in known:
                raise UserError(f"scorer {owner}: {key}={value}: unknown{did_you_mean(str(value), known)}")
        for key, (holds, remedy) in RULES.items():
            if not holds(value := getattr(self, key)):
                raise UserError(f"scorer {owner}: {key}={value}: {remedy}")

    def trained_by(self) -> dict[str, Any]:
        """The settings that decide the weights, those of subclasses included.

        Names of places are left out: encoder and data are hashed by content instead.
        """
        return {key: value for key, value in asdict(self).items() if key not in PLACES}
