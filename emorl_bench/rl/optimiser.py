"""What every update rule needs around its loss: gradients summed over ranks, clipping, AdamW, and state to be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from emorl_bench.core.ranks import ALONE, Ranks


class Optimiser:
    """AdamW over named parameters, their gradient clipped to ``clip_norm``.

    Each of several ranks has the gradient of its own rows' part of the loss; the sum is that of the whole batch, equal
    to the bit on all, and so are the parameters.
    """

    def __init__(
        self,
        named: Mapping[str, torch.nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        clip_norm: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self.named = dict(named)
        self.clip_norm, self.ranks = clip_norm, ranks
        # Not fused: that would not count its writes in place, by which memories of an adapter know that it has changed.
        self.adamw = torch.optim.AdamW(self.named.values(), lr=learning_rate, weight_decay=weight_decay)

    def step(self) -> float:
        """Sum, clip, step and clear; returns the gradient's norm before clipping."""
        self._summed()
        return self._move()

    def take(self) -> list[Tensor]:
        """The gradients so far, one for each parameter, summed; they are cleared, and nothing has moved."""
        taken = self._summed()
        self.adamw.zero_grad(set_to_none=True)
        return taken

    def drop(self) -> None:
        """Clear the gradients so far; nothing moves."""
        self.adamw.zero_grad(set_to_none=True)

    def step_along(self, gradients: Iterable[Tensor]) -> float:
        """As `step`, on gradients that are sums already."""
        for parameter, gradient in zip(self.named.values(), gradients, strict=True):
            parameter.grad = gradient
        return self._move()

    def _summed(self) -> list[Tensor]:
        gradients = [parameter.grad for parameter in self.named.values() if parameter.grad is not None]
        self.ranks.sum_(gradients)
        return gradients

    def _move(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip_norm)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return float(norm)

    def state_tensors(self) -> dict[str, Tensor]:
        """Flat name -> tensor, ready for safetensors."""
        flat = {}
        for name, parameter in self.named.items():
            for key, value in self.adamw.state.get(parameter, {}).items():
                flat[f"{name}/{key}"] = torch.as_tensor(value).detach()
        return flat

    def load_state_tensors(self, flat: Mapping[str, Tensor]) -> None:
        for name, parameter in self.named.items():
            mine = {k.removeprefix(f"{name}/"): v for k, v in flat.items() if k.startswith(f"{name}/")}
            if mine:
                self.adamw.state[parameter] = {
                    k: v.clone() if k == "step" else v.to(parameter.device).clone() for k, v in mine.items()
                }


def numbered(parameters: Iterable[torch.nn.Parameter], prefix: str) -> dict[str, torch.nn.Parameter]:
    return {f"{prefix}{i}": p for i, p in enumerate(parameters)}
