"""Training: three experts together against one after the other, and our GRPO-type step against TRL's.

Keys of the last line: ``joint_training`` is separate over joint seconds of whole steps of rollout, scoring and update.
It has 8 rows for each expert (2 prompts, 4 samples), where one expert alone leaves a processor idle between operations.
``joint_training_16_rows`` and ``joint_training_64_rows`` (the suite's own batch) are the same with more rows.
``trl_over_ours`` is the time of a step of TRL's GRPOTrainer over ours.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benches import random_bench
from benchmarks.embedded import BATCH, embedded_bench
from benchmarks.models import SHAPES, micro, random_setting
from benchmarks.record import Options, Record, options, run
from benchmarks.timing import Side, interleaved, say, timed
from emorl_bench.core.protocols import Bench
from emorl_bench.rl.experts import expert_bank

STEPS = 12  # steps of each expert
SAMPLES = 4  # samples of each prompt
BATCHES = (2, 4, BATCH)  # prompts of a step; the last is the suite's own


def main(argv: Sequence[str] | None) -> None:
    """Run the benchmark."""
    given = options("train", __doc__, argv, {})
    record = Record(given)
    joint_training(record)
    compare_with_trl(record)
    record.close()


ORDER = ("one after the other", "together")


@dataclass
class ExpertTraining:
    """The training of all experts of a bench.

    Every training has a new bench, so no score is remembered and no expert is in the bank.

    Attributes:
        options: the command line.
        joint: whether experts learn side by side.
        batch: prompts of a step.
        tokens: the trained tokens of the last training.
    """

    options: Options
    joint: bool
    batch: int
    tokens: int = 0

    @property
    def side(self) -> Side:
        """A timed training."""
        return timed(self._prepare, self.options.device)

    def _prepare(self) -> Callable[[], object]:
        directory = tempfile.TemporaryDirectory()
        bench = self._bench(Path(directory.name))
        bench.ledger.flops_every = 0  # counting operations would be a large part of so few steps

        def train() -> None:
            expert_bank(bench.with_runtime(joint_experts=self.joint))
            costs = bench.ledger.as_dict()
            self.tokens = int(sum(cost["trained_tokens"] for cost in costs.values()))
            directory.cleanup()

        return train

    def _bench(self, directory: Path) -> Bench:
        given = self.options
        if given.quick:
            setting = random_setting(micro(SHAPES["tiny"]), dtype=given.dtype, device=given.device)
            return random_bench(setting, directory, steps=1)
        rarely = STEPS + 1
        schedule = [f"budget.training.{every}_every={rarely}" for every in ("validate", "checkpoint")]
        machine = [f"hardware.device={given.device.type}", f"hardware.dtype={str(given.dtype).removeprefix('torch.')}"]
        samples = 3 * STEPS * self.batch * SAMPLES
        size = ["budget.prompts=null", f"budget.samples={samples}", "budget.select_prompts=2"]
        rows = [f"budget.training.batch_prompts={self.batch}", f"budget.training.samples_per_prompt={SAMPLES}"]
        return embedded_bench(directory, [*size, *rows, *schedule, *machine])


def joint_training(record: Record) -> None:
    """Time the training of three experts together and one after the other, at several batch sizes."""
    given = record.options
    sides = {
        f"three experts {name}, {batch * SAMPLES} rows each": ExpertTraining(given, joint, batch)
        for batch in BATCHES
        for name, joint in (("together", True), ("one after the other", False))
    }
    timings = interleaved("three experts", {name: training.side for name, training in sides.items()}, given.repeats)
    for name, training in sides.items():
        record.row(name, timings[name], steps=1 if given.quick else STEPS, tokens=training.tokens)
    for batch in BATCHES:
        key = "joint_training" if batch == BATCHES[0] else f"joint_training_{batch * SAMPLES}_rows"
        apart, together = (timings[f"three experts {how}, {batch * SAMPLES} rows each"].median for how in ORDER)
        record.ratio(key, apart / together)


def compare_with_trl(record: Record) -> None:
    """Time our step and TRL's in turns, if TRL is installed."""
    try:
        from benchmarks.trl_step import step_times
    except ModuleNotFoundError as missing:
        say(f"trl_over_ours is left out: {missing}; install it with pip install 'trl>=1.16,<1.17' datasets")
        record.notes["trl_over_ours"] = f"left out: {missing}"
        return
    given = record.options
    shape = micro(SHAPES["tiny_llama"]) if given.quick else SHAPES["tiny_llama"]
    times = step_times(shape, given)
    for name, timing in times.timings.items():
        record.row(f"GRPO step, {name}", timing, tokens=times.tokens[name])
    record.notes["trl_settings"] = times.settings
    record.ratio("trl_over_ours", times.timings["TRL"].median / times.timings["ours"].median)


if __name__ == "__main__":
    sys.exit(run(main))
