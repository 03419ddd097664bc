"""What every update rule needs around its loss: gradients summed over ranks, clipping, AdamW, and a state to save."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.rl.divergence import check_finite


class Optimiser:
    """AdamW on named parameters; the norm of their gradient is clipped to ``clip_norm``.

    Each rank has the gradient of the loss of its own rows. The sum over ranks is the gradient of the whole batch. It is
    equal to the bit on all ranks, and so are the parameters.
    """

    def __init__(
        self,
        named: Mapping[str, torch.nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        clip_norm: float,
        ranks: Ranks = ALONE,
    ) -> None:
        """``named``: parameters, by the names under which their state is saved."""
        self.named = dict(named)
        self.clip_norm, self.ranks = clip_norm, ranks
        # Not fused: torch does not count a fused step as a write in place, and caches of an adapter count these writes
        # to see that it has changed.
        self.adamw = torch.optim.AdamW(self.named.values(), lr=learning_rate, weight_decay=weight_decay)

    def step(self) -> float:
        """Sum over ranks, clip, step and clear; returns the norm of the gradient before clipping.

        Raises:
            UserError: the norm is not finite. No parameter has changed.
        """
        self._summed()
        return self._move()

    def take(self) -> list[Tensor]:
        """The gradients so far, summed over ranks, one for each parameter; they are cleared, and nothing moves."""
        taken = self._summed()
        self.adamw.zero_grad(set_to_none=True)
        return taken

    def drop(self) -> None:
        """Clear the gradients so far; no parameter changes."""
        self.adamw.zero_grad(set_to_none=True)

    def step_along(self, gradients: Iterable[Tensor]) -> float:
        """As `step`, along gradients that are summed over ranks already."""
        for parameter, gradient in zip(self.named.values(), gradients, strict=True):
            parameter.grad = gradient
        return self._move()

    def _summed(self) -> list[Tensor]:
        gradients = [parameter.grad for parameter in self.named.values() if parameter.grad is not None]
        self.ranks.sum_(gradients)
        return gradients

    def _move(self) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip_norm))
        check_finite("the norm of the gradient", norm)  # else AdamW makes all parameters NaN, and training goes on
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return norm

    def state_tensors(self) -> dict[str, Tensor]:
        """The state as tensors by name, ready for safetensors."""
        flat = {}
        for name, parameter in self.named.items():
            for key, value in self.adamw.state.get(parameter, {}).items():
                flat[f"{name}/{key}"] = torch.as_tensor(value).detach()
        return flat

    def load_state_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Set the state to what `state_tensors` has returned."""
        for name, parameter in self.named.items():
            mine = {k.removeprefix(f"{name}/"): v for k, v in flat.items() if k.startswith(f"{name}/")}
            if mine:
                self.adamw.state[parameter] = {
                    k: v.clone() if k == "step" else v.to(parameter.device).clone() for k, v in mine.items()
                }


def numbered(parameters: Iterable[torch.nn.Parameter], prefix: str) -> dict[str, torch.nn.Parameter]:
    """Parameters by name, which is the prefix and a number."""
    return {f"{prefix}{i}": p for i, p in enumerate(parameters)}
