"""What every update rule needs around its loss: AdamW, clipping, and state that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class Optimiser:
    """AdamW over named parameters, their gradient clipped to ``clip_norm``."""

    def __init__(
        self, named: Mapping[str, torch.nn.Parameter], learning_rate: float, weight_decay: float, clip_norm: float
    ) -> None:
        self.named = dict(named)
        self.clip_norm = clip_norm
        self.adamw = torch.optim.AdamW(self.named.values(), lr=learning_rate, weight_decay=weight_decay)

    def step(self) -> float:
        """Clip, step and clear; returns the gradient's norm before clipping."""
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
