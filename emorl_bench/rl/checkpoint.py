"""One file holds all that an interrupted training needs: tensors in safetensors, progress as JSON in its metadata.

``state.safetensors`` is the training as it continues; ``end.safetensors`` is what its budget made of it. They differ
where the end asked for a validation that is not due in a longer training. A larger budget continues from the first
file, in a directory of its own. So it has the numbers of a training that never stopped.

Random streams are named by step (`core.seeds`), so no state of a generator is stored. Step n has the same random
numbers whether or not the process was killed before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Policy, Resumable
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.tensor_file import write_tensors

FILE = "state.safetensors"
END = "end.safetensors"


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
        metadata = {"progress": json.dumps(asdict(progress), sort_keys=True), "base": self._base}
        write_tensors(self.dir / file, tensors, metadata)

    def load(self) -> Progress:
        """Restore policies and learners in place; returns a new `Progress` where nothing was saved.

        Raises:
            UserError: the file is damaged, or was written with another base model.
        """
        saved = self._ranks.once(self._read)
        if saved is None:
            return Progress()
        progress, tensors = saved
        for name, policy in self.policies.items():
            policy.load_adapter(_below(tensors, f"policy/{name}/"))
            if best := _below(tensors, f"best/{name}/"):
                self.best[name] = best
        for name, learner in self.learners.items():
            learner.load_state_dict(_below(tensors, f"learner/{name}/"))
        return progress

    def _read(self) -> tuple[Progress, dict[str, Tensor]] | None:
        places = [self.dir / END, self.dir / FILE, *(place / FILE for place in self.earlier)]
        path = next((place for place in places if place.exists()), None)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                progress, base = Progress(**json.loads(file.metadata()["progress"])), file.metadata()["base"]
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise UserError(f"checkpoint '{path}' is damaged ({error}); delete its folder to train it again") from error
        if base != self._base:
            raise UserError(
                f"checkpoint '{path}' was trained on base model {base}, this one is {self._base}; "
                "use the model it was trained on, or delete its folder to train it again"
            )
        return progress, tensors


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
