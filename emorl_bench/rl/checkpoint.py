"""One file holds all that an interrupted training needs: tensors in safetensors, progress as JSON in its metadata.

``state.safetensors`` is the training as it continues; ``end.safetensors`` is what its budget made of it. They differ
where the end asked for a validation that is not due in a longer training. A larger budget continues from the first
file, in a directory of its own. So it has the numbers of a training that never stopped. ``previous.safetensors`` is the
checkpoint before the last one. Only learners that are trained together keep it, until they end (`rl.recovery`).

The metadata also hold a hash of the tensors and of the progress (`content`). What is read must have it, must fit
the policies, and must be finite: a damaged checkpoint is an error, and never the beginning of other numbers.

Random streams are named by step (`core.seeds`), so no state of a generator is stored. Step n has the same random
numbers whether or not the process was killed before it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from emorl_bench.core.damage import reading
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Policy, Resumable
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.tensor_file import write_tensors

FILE = "state.safetensors"
END = "end.safetensors"
PREVIOUS = "previous.safetensors"
HASH = "sha256"
REMEDY = "delete its folder to train it again"


@dataclass
class Progress:
    """The progress of a training.

    ``history`` has one row for each validation, ``trained`` one for each step, as they were logged: a run that loads a
    training shows the same curves as the run that trained it. ``best`` has (utility, step) by policy.
    """

    step: int = 0
    ended: str | None = None  # "converged", or the name of the limit that was reached
    converged_at: int | None = None  # prompts trained on when it had converged by the published rule
    history: list[dict[str, float]] = field(default_factory=list)
    trained: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, tuple[float, int]] = field(default_factory=dict)
    cost: dict[str, dict[str, float]] = field(default_factory=dict)  # phase -> counters
    meters: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # `core.ledger.Ledger.meters_of`
    together: list[str] = field(default_factory=list)  # the learners that took the last step together; none: it alone


@dataclass
class Checkpoint:
    """The state of some policies and their learners, in ``dir``.

    ``earlier``: directories to continue from if nothing is in ``dir``, in order of preference.
    """

    dir: Path
    policies: Mapping[str, Policy]
    learners: Mapping[str, Resumable]
    earlier: Sequence[Path] = ()
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # policy -> its best adapter so far

    @property
    def _base(self) -> str:
        return next(iter(self.policies.values())).base

    @property
    def _ranks(self) -> Ranks:
        return next(iter(self.policies.values())).ranks

    def save(self, progress: Progress) -> None:
        """Write atomically: a killed process leaves the old file or the new one. Rank 0 writes for all ranks."""
        if not self._ranks.first:
            return
        tensors: dict[str, Tensor] = {}
        for name, policy in self.policies.items():
            tensors |= {f"policy/{name}/{k}": v for k, v in policy.adapter().items()}
            tensors |= {f"best/{name}/{k}": v for k, v in self.best.get(name, {}).items()}
        for name, learner in self.learners.items():
            tensors |= {f"learner/{name}/{k}": v for k, v in learner.state_dict().items()}
        file = FILE if progress.ended is None else END
        if progress.ended is not None:
            (self.dir / PREVIOUS).unlink(missing_ok=True)  # all that were trained together have the last state
        elif progress.together and (self.dir / FILE).exists():
            os.replace(self.dir / FILE, self.dir / PREVIOUS)
        # Rows keep the order of their keys, in which they are logged again; that of meters depends on the session.
        meters = {at: dict(sorted(kinds.items())) for at, kinds in sorted(progress.meters.items())}
        written = json.dumps(asdict(progress) | {"meters": meters})
        metadata = {"progress": written, "base": self._base, HASH: content(tensors, written)}
        write_tensors(self.dir / file, tensors, metadata)

    def load(self) -> Progress:
        """Restore policies and learners in place; returns a new `Progress` where nothing was saved.

        Raises:
            UserError: the file is damaged, does not fit the policies, or was written with another base model.
        """
        saved = self._ranks.once(self._read)
        if saved is None:
            return Progress()
        progress, tensors = saved
        for name, policy in self.policies.items():
            policy.load_adapter(_below(tensors, f"policy/{name}/"))
            if best := _below(tensors, f"best/{name}/"):
                self.best[name] = best
        with reading(self.dir, REMEDY):
            for name, learner in self.learners.items():
                learner.load_state_dict(_below(tensors, f"learner/{name}/"))
        return progress

    def _read(self) -> tuple[Progress, dict[str, Tensor]] | None:
        own = [self.dir / name for name in (END, FILE, PREVIOUS)]
        places = [*own, *(place / FILE for place in self.earlier)]
        path = next((place for place in places if place.exists()), None)
        if path is None:
            return None
        with reading(path, REMEDY):
            with safe_open(path, framework="pt") as file:
                said = dict(file.metadata())
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            progress, base = Progress(**json.loads(said["progress"])), said["base"]
            if said.get(HASH, whole := content(tensors, said["progress"])) != whole:  # older checkpoints have no hash
                raise ValueError("its content is not what was written")
            check_progress(progress)
        if base != self._base:
            raise UserError(
                f"checkpoint '{path}' was trained on base model {base}, this one is {self._base}; "
                "use the model it was trained on, or delete its folder to train it again"
            )
        with reading(path, REMEDY):
            for name, policy in self.policies.items():
                check_adapter(f"policy/{name}", _below(tensors, f"policy/{name}/"), policy.adapter())
                if name in progress.best:
                    check_adapter(f"best/{name}", _below(tensors, f"best/{name}/"), policy.adapter())
        return progress, tensors


def read_progress(path: Path) -> Progress:
    """The progress in a checkpoint, without its tensors.

    Raises:
        UserError: the file is damaged.
    """
    with reading(path, REMEDY), safe_open(path, framework="pt") as file:
        return Progress(**json.loads(file.metadata()["progress"]))


def check_progress(progress: Progress) -> None:
    """Raise an error (of any kind) for a progress that no training leaves."""
    if isinstance(progress.step, bool) or not isinstance(progress.step, int) or progress.step < 0:
        raise ValueError(f"step is {progress.step!r}")
    for row in (*progress.history, *progress.trained):
        if not 0 <= row["step"] <= progress.step:
            raise ValueError(f"a row of step {row['step']} in a training of {progress.step}")
    for _, at in progress.best.values():
        if not 0 <= at <= progress.step:
            raise ValueError(f"the best step is {at} of {progress.step}")
    Ledger.from_dict(progress.cost)


def content(tensors: Mapping[str, Tensor], progress: str) -> str:
    """64 hex digits of names, types, shapes and bytes of tensors, and of the progress as JSON."""
    digest = hashlib.sha256(progress.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def check_adapter(name: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise a `ValueError` for an adapter of other names or shapes than ``wanted``, or with an infinite value."""
    if unequal := sorted(set(found) ^ set(wanted)):
        raise ValueError(f"{name}: {unequal[0]} is {'missing' if unequal[0] in wanted else 'unknown'}")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise ValueError(f"{name}: {key} has shape {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: {key} has values that are not finite")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
