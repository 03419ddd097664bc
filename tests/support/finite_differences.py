"""Gradients of losses by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch


def middle_slope(parameter: torch.nn.Parameter, loss: Callable[[], float]) -> tuple[int, float]:
    """The place in the middle of a parameter, flattened, and the slope of the loss there. Needs ``torch.no_grad``."""
    flat, at = parameter.view(-1), parameter.numel() // 2
    values, places = [], []
    for sign in (1, -2):
        flat[at] += sign * 1e-4
        places.append(flat[at].double().item())  # adapters are float32: the step is what became of it
        values.append(loss())
    flat[at] += 1e-4
    return at, (values[0] - values[1]) / (places[0] - places[1])
