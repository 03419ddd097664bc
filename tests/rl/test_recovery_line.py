"""Learners that are trained together and killed between their checkpoints go on together, bit for bit."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import WordShare, make_bank, make_bench
from filelock import FileLock
from safetensors import safe_open

from emorl_bench.core.protocols import Bench
from emorl_bench.core.types import Training
from emorl_bench.rl import checkpoint
from emorl_bench.rl.checkpoint import END, FILE, PREVIOUS, Checkpoint, read_progress
from emorl_bench.rl.experts import expert_bank, expert_budget, expert_dir
from emorl_bench.rl.ppo import Ppo
from emorl_bench.scorers.panel import ScorerPanel

CLOCKS = ("wall_seconds", "device_seconds", "peak_bytes")
NAMES = ("third0", "third1", "third2")


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


def made(place: Path) -> Bench:
    place.mkdir(exist_ok=True)
    bank = make_bank("gpt2")
    bank.decoder.ledger.flops_every = 3
    panel = ScorerPanel([WordShare(name, k, of=3) for k, name in enumerate(NAMES)], bank.decoder.ledger)
    given: dict[str, Any] = {"score": panel.score, "objectives": NAMES, "new_policy": bank.new_policy}
    given |= {"ledger": bank.decoder.ledger, "update": Ppo(learning_rate=1e-2, epochs=2, minibatches=2)}
    given |= {"training": Training(4, 2, validate_every=3, checkpoint_every=2)}
    return make_bench(place, "gpt2", steps=3 * 7, **given)


def result(bench: Bench) -> dict[str, Any]:
    adapters = [policy.adapter() for policy in expert_bank(bench)]
    found: dict[str, Any] = {f"{k}/{name}": t.tolist() for k, own in enumerate(adapters) for name, t in own.items()}
    for name in bench.objectives:
        place = expert_dir(bench, name, expert_budget(bench))
        found[f"{name}/files"] = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
        with safe_open(place / END, "pt") as file:
            found |= {f"{name}/{key}": file.get_tensor(key).tolist() for key in sorted(file.keys())}
        found[f"{name}/meters"] = read_progress(place / END).meters
    phases = {name: asdict(cost) for name, cost in bench.ledger.phases.items() if name != "setup"}
    found["order of phases"] = list(phases)  # sums of FLOPs are rounded in this order
    return found | {name: {k: v for k, v in cost.items() if k not in CLOCKS} for name, cost in phases.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """The result of a training that is left alone, and its number of checkpoints."""
    saves: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        inner = checkpoint.write_tensors
        patch.setattr(checkpoint, "write_tensors", lambda path, *rest: (saves.append(path.name), inner(path, *rest))[1])
        return result(made(tmp_path_factory.mktemp("whole"))), len(saves)


def dying(patch: pytest.MonkeyPatch, after: int, *, removed: bool = False) -> None:
    """Die in a checkpoint: after so many were written; ``removed``: when its predecessor is already out of the way."""
    left, save = iter(range(after)), Checkpoint.save

    def write(self: Checkpoint, progress: Any) -> None:
        if next(left, None) is None:
            if removed:
                patch.setattr(checkpoint, "write_tensors", lambda *_: (_ for _ in ()).throw(Killed))
                save(self, progress)
            raise Killed
        save(self, progress)

    patch.setattr(Checkpoint, "save", write)


@pytest.mark.parametrize("removed", [False, True], ids=["between", "inside"])
@pytest.mark.parametrize("after", [1, 2, 4, 8, 13, 16, 17, 19, 20])
def test_killed_between_the_checkpoints_of_learners_trained_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, Any], int], after: int, removed: bool
) -> None:
    expected, saves = whole
    assert saves == 3 * (5 + 1 + 1)  # five checkpoints, the last state, and the end, of three learners
    with monkeypatch.context() as patch:
        dying(patch, after, removed=removed)
        with pytest.raises(Killed):
            expert_bank(made(tmp_path))
    assert result(made(tmp_path)) == expected


def test_killed_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[dict[str, Any], int]
) -> None:
    for after in (4, 5, 4, 2):
        with monkeypatch.context() as patch:
            dying(patch, after, removed=after == 5)
            with pytest.raises(Killed):
                expert_bank(made(tmp_path))
    assert result(made(tmp_path)) == whole[0]


def test_a_bank_that_is_wholly_in_other_hands_is_waited_for_and_taken_whole(
    tmp_path: Path, whole: tuple[dict[str, Any], int], capsys: pytest.CaptureFixture[str]
) -> None:
    bench, held = made(tmp_path), threading.Event()
    places = [expert_dir(bench, name, expert_budget(bench)) for name in NAMES]

    def hold() -> None:
        with ExitStack() as stack:
            for place in places:
                place.mkdir(parents=True)
                stack.enter_context(FileLock(place / "lock"))
            held.set()
            time.sleep(1.0)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert result(bench) == whole[0]
    thread.join()
    assert capsys.readouterr().err.count("another process is training it; waiting") == 1


def test_a_learner_whose_partner_was_deleted_keeps_what_it_has(tmp_path: Path) -> None:
    bench = made(tmp_path)
    expert_bank(bench)
    places = [expert_dir(bench, name, expert_budget(bench)) for name in NAMES]
    kept = (places[0] / END).read_bytes()
    for name in (FILE, END):
        (places[1] / name).unlink()
    assert not any((place / PREVIOUS).exists() for place in places)
    again = made(tmp_path)
    expert_bank(again)
    assert (places[0] / END).read_bytes() == kept
    assert (places[1] / END).exists()
