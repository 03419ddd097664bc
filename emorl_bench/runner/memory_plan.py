"""How much memory a run is planned to take at most, from its configuration alone.

torch is not imported. The plan knows what grows with model and task: weights, adapters with their optimisers, what a
training pass keeps, logits, and the keys and values of a rollout. It leaves out what a device's libraries take, and
scorers whose sizes are not known. A decode of more prompts than a rollout takes up to half of what is then free, in
parts (`decoding.room`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from emorl_bench.assets.shipped import SHIPPED
from emorl_bench.config.hardware import may_have_gpu
from emorl_bench.config.schema import Config
from emorl_bench.core.memory import LARGEST
from emorl_bench.models.shape import Shape

EMBEDDED = "embedded:"
WORD = {"float32": 4, "tf32": 4, "bfloat16": 2, "float64": 8}
PACKED = {"4bit": 1 / 2 + 4 / 64, "8bit": 1}  # bytes of a weight with its share of a scale (`models.quantised`)
COPIES_OF_AN_ADAPTER = 6  # its weights, a gradient, Adam's two moments, the best one and the first one; in float32
READOUT = 1 << 28  # most of what a decode makes of logits at a time (`decoding.decode`)
COPIES = 3  # of a block's logits (`models.readout`)
FOLDED = 1 << 28  # the largest copy of its layers that a decode adds one adapter to (`decoding.fused.engine`)
FOLDING = (
    3  # tensors in float32 as large as the product whose weights are added up at a time (`decoding.fused.projection`)
)


@dataclass(frozen=True)
class Plan:
    """Bytes at the peak, by what they hold."""

    weights: int
    adapters: int
    training: int
    decoding: int
    scorers: int
    rows: int
    """Rows of a training pass."""
    tokens: int
    """Tokens of a row."""
    together: int
    """Learners that share a pass where memory allows (`rl.fitting`); the plan has the pass of one."""

    @property
    def peak(self) -> int:
        """Training and decoding take turns; everything else stays."""
        return self.weights + self.adapters + self.scorers + max(self.training, self.decoding)

    def __str__(self) -> str:
        """One line, for a person."""
        sizes = {"weights": self.weights, "adapters": self.adapters, "scorers": self.scorers}
        kept = ", ".join(f"{name} {gib(size)}" for name, size in sizes.items() if gib(size) != "0.00")
        beside = f", {self.together} learners side by side where memory allows" if self.together > 1 else ""
        turns = f"a training pass of {self.rows} rows of {self.tokens} tokens {gib(self.training)}{beside}"
        return f"about {gib(self.peak)} GiB: {kept}; in turns {turns}; a rollout {gib(self.decoding)}"


def plan(settings: Config) -> Plan | None:
    """The plan of a checked configuration; None where the sizes of its model are not known here."""
    model, sampling = settings["model"], settings["sampling"]
    if (shape := shape_of(model["path"])) is None:
        return None
    word = _word(settings)
    learners, training = learners_of(settings), settings["budget"]["training"]
    answers = training["batch_prompts"] * settings["method"].get("batches", 1) * training["samples_per_prompt"]
    rows = min(answers, settings["update"].get("micro_batch") or answers)
    prompt, answer = model["max_prompt_tokens"], sampling["max_new_tokens"]
    block = settings["hardware"]["block_bytes"] or LARGEST
    logits = min(block, COPIES * 4 * shape.vocabulary * rows * answer)
    packed = model["quantisation"]
    kept = shape.layers * shape.width * (prompt + answer) if model["gradient_checkpointing"] else 0
    kept = kept + shape.trained(prompt, answer) // shape.layers if kept else shape.trained(prompt, answer)
    return Plan(
        weights=weights_of(shape, word, packed),
        adapters=4 * COPIES_OF_AN_ADAPTER * learners * shape.adapter_parameters(model["adapter"]["rank"]),
        training=rows * word * kept + logits,
        decoding=int(word * _cached(settings, shape, answers))
        + min(block, READOUT, COPIES * 4 * shape.vocabulary * answers)
        + (folded(shape, word) if packed is None else 0),
        scorers=_scorers(settings["task"]),
        rows=rows,
        tokens=prompt + answer,
        together=learners if settings["hardware"]["joint_experts"] and _stacks(settings, rows) else 1,
    )


def weights_of(shape: Shape, word: int, packed: str | None) -> int:
    """Bytes of a base model's weights: of its layers, packed or not, and of its tables.

    Where layers are packed, the largest one is unpacked while it is computed with.
    """
    if packed is None:
        return word * shape.parameters
    return int(PACKED[packed] * shape.in_layers) + word * (shape.in_tables + shape.width * shape.feed)


def _cached(settings: Config, shape: Shape, answers: int) -> float:
    """Numbers of the keys and values of a rollout. Experts sample side by side, CORY's agents in turn.

    An observer of CORY reads a prompt of its own for each answer. transformers' own cache, which decodes a packed base,
    copies a prompt for each answer.
    """
    model, batch = settings["model"], settings["budget"]["training"]["batch_prompts"]
    prompt, answer = model["max_prompt_tokens"], settings["sampling"]["max_new_tokens"]
    agents = "swap_every" in settings["method"]
    beside = 1 if agents else learners_of(settings)
    if model["quantisation"] is not None:
        return beside * shape.copied(answers * (prompt + answer))
    return beside * shape.cache((answers if agents else batch) * prompt + answers * answer)


def _word(settings: Config) -> int:
    """Bytes of a number of the base model; ``auto`` counts as bfloat16 where there may be a GPU, else as float32."""
    dtype = settings["model"]["dtype"] or settings["hardware"]["dtype"]
    if dtype == "auto":
        dtype = "bfloat16" if _on_gpu(settings) else "float32"
    return WORD[dtype]


def _on_gpu(settings: Config) -> bool:
    """Whether the run computes on a GPU; device ``auto`` does where there may be one."""
    device = settings["hardware"]["device"]
    return may_have_gpu() if device == "auto" else device != "cpu"


def learners_of(settings: Config) -> int:
    """Number of adapters that a method trains: one for each objective where it has experts, else one; CORY has two."""
    method = settings["method"]
    if method.get("search_share") is not None or "search" in method:
        return max(1, len(settings["task"].get("scorers") or {}))
    return 2 if "swap_every" in method else 1


def folded(shape: Shape, word: int) -> int:
    """Bytes of the copy of its layers that a decode of one policy adds the adapter to, if the model is small enough."""
    copy = word * shape.stepped
    return copy + FOLDING * 4 * shape.widest if copy <= FOLDED else 0


def _stacks(settings: Config, rows: int) -> bool:
    """Whether learners may share a pass: on a CPU not from 32 rows on, unless asked to (`policies.together`)."""
    return settings["hardware"]["joint_experts"] is True or _on_gpu(settings) or rows <= 32


def _scorers(task: Mapping[str, Any]) -> int:
    """Bytes of the scorers whose sizes are known, in float32."""
    named = {str(scorer["model"]) for scorer in (task.get("scorers") or {}).values() if scorer.get("model")}
    shapes = [shape for name in sorted(named) if (shape := shape_of(name)) is not None]
    return sum(4 * shape.parameters for shape in shapes)


def shape_of(path: str | None) -> Shape | None:
    """The sizes of the model at a path of the configuration; None where they are not known here."""
    if path is None:
        return None
    place = SHIPPED / path.removeprefix(EMBEDDED) if path.startswith(EMBEDDED) else Path(path).expanduser()
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        config = known_shapes().get(path)
    return None if config is None else Shape.of(config)


@lru_cache(maxsize=1)
def known_shapes() -> Mapping[str, Mapping[str, Any]]:
    """The sizes of models of the hub, by name."""
    file = Path(__file__).parents[1] / "models" / "known_shapes.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def gib(size: int) -> str:
    """A size in GiB, with as many digits as it needs."""
    amount = size / (1 << 30)
    return f"{amount:.1f}" if amount >= 1 else f"{amount:.2f}"
