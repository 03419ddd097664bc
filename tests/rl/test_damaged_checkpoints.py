"""A checkpoint that is not what was written is one line, and never the beginning of other numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from baselines.weighted_policy import WeightedPolicy
from emorl_bench.core.errors import UserError
from emorl_bench.rl.optimiser import Optimiser
from emorl_bench.rl.scst import Scst

Tensors = dict[str, torch.Tensor]


def trained(bench: Callable[..., Any], **changes: Any) -> Path:
    made = bench("gpt2", steps=4, **changes)
    WeightedPolicy().fit(made)
    return Path(made.dir) / "checkpoints" / "policy" / "end.safetensors"


def rewritten(path: Path, change: Callable[[Tensors, dict[str, str]], None], *, hashed: bool = True) -> None:
    """Write the file again with a change; without ``hashed`` it has no hash, as older checkpoints."""
    with safe_open(path, framework="pt") as file:
        said = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, said)
    if not hashed:
        del said["sha256"]
    save_file(tensors, path, metadata=said)


def one_value(tensors: Tensors, _: dict[str, str]) -> None:
    next(iter(tensors.values())).flatten()[0] += 1e-6


def no_learner(tensors: Tensors, _: dict[str, str]) -> None:
    for name in [name for name in tensors if name.startswith("learner/")]:
        del tensors[name]


def renamed(tensors: Tensors, _: dict[str, str]) -> None:
    name = next(name for name in tensors if name.startswith("policy/"))
    tensors[f"{name}x"] = tensors.pop(name)


def wider(tensors: Tensors, _: dict[str, str]) -> None:
    name = next(name for name in tensors if name.startswith("policy/"))
    tensors[name] = torch.zeros(3, 3)


def not_a_number(tensors: Tensors, _: dict[str, str]) -> None:
    next(tensor for name, tensor in tensors.items() if name.startswith("best/")).flatten()[0] = torch.nan


def progress(**changes: Any) -> Callable[[Tensors, dict[str, str]], None]:
    def change(_: Tensors, said: dict[str, str]) -> None:
        said["progress"] = json.dumps(json.loads(said["progress"]) | changes)

    return change


@pytest.mark.parametrize("change", [one_value, no_learner, renamed, progress(step=3)])
def test_what_was_not_written_is_refused(bench: Callable[..., Any], change: Callable[..., None]) -> None:
    path = trained(bench)
    rewritten(path, change)
    with pytest.raises(UserError, match=r"end\.safetensors is damaged .*delete its folder"):
        trained(bench)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (renamed, "is missing|is unknown"),
        (wider, r"has shape \(3, 3\)"),
        (not_a_number, "not finite"),
        (progress(step=-5), "step is -5"),
        (progress(step="4"), "step is '4'"),
        (progress(step=1), "in a training of 1"),
        (progress(trained=5), "is damaged"),
        (progress(best={"policy": [0.5, 99]}), "the best step is 99"),
        (progress(cost={"train/policy": {"beans": 1}}), "beans"),
        (progress(unknown=1), "unknown"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_checkpoint_without_a_hash(
    bench: Callable[..., Any], change: Callable[..., None], says: str
) -> None:
    path = trained(bench)
    rewritten(path, change, hashed=False)
    with pytest.raises(UserError, match=says) as error:
        trained(bench)
    assert "delete its folder" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"garbage" * 99, None])
def test_what_is_no_checkpoint_is_refused(bench: Callable[..., Any], content: bytes | None) -> None:
    path = trained(bench)
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        trained(bench)


def test_a_checkpoint_without_a_hash_is_taken_up_as_it_was(bench: Callable[..., Any]) -> None:
    path = trained(bench)
    before = load_file(path)
    rewritten(path, lambda *_: None, hashed=False)
    assert trained(bench) == path
    after = load_file(path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_hash_is_that_of_the_bytes_in_the_file(bench: Callable[..., Any]) -> None:
    """The hash again, of numpy's arrays."""
    path = trained(bench)
    with safe_open(path, framework="np") as file:
        said = file.metadata()
        digest = hashlib.sha256(said["progress"].encode())
        for name in sorted(file.keys()):
            array = file.get_tensor(name)
            kind = {np.dtype("float32"): "torch.float32", np.dtype("int64"): "torch.int64"}[array.dtype]
            digest.update(f"\0{name} {kind} {array.shape}\0".encode() + array.tobytes())
    assert digest.hexdigest() == said["sha256"]


def test_a_gradient_that_is_not_finite_ends_the_training_and_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = Optimiser({"w": weight}, 0.1, 0.0, 1.0)
    weight.grad = torch.tensor([1.0, torch.inf, 0.0])
    with pytest.raises(UserError, match=r"diverged.*lower update\.learning_rate"):
        optimiser.step()
    assert torch.equal(weight.detach(), torch.ones(3))
    weight.grad = torch.tensor([3.0, 0.0, 4.0])
    assert optimiser.step() == pytest.approx(5.0)


def test_a_training_that_explodes_is_one_line(bench: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="diverged"):
        trained(bench, update=Scst(learning_rate=1e30, kl_coefficient=0.0))
