"""The training loop: AdamW over shuffled batches of similar length; texts are read in batches of fixed shape."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import seed_for
from emorl_bench.progress import ProgressBar
from emorl_bench.scorer_training.nets import ScorerNet, Text, fixed_inputs, tokenise
from emorl_bench.scorer_training.settings import Settings
from emorl_bench.scorer_training.study import Subject

WARM_UP = 0.1  # share of the steps in which the learning rate rises; it falls along a cosine afterwards
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
TRAIN_ROWS = (64, 8)  # texts at once in training, on a GPU and on a CPU, where padding costs more than small products


def fit(net: ScorerNet, tokenizer: Any, subject: Subject, settings: Settings, label: str) -> list[float]:
    """Train in place. ``label`` names the work in the progress bar.

    Returns:
        The mean loss of each epoch.

    Raises:
        UserError: the loss is not finite.
    """
    rng = random.Random(seed_for(settings.seed, "scorer", "batches"))
    device = next(net.parameters()).device
    steps = settings.epochs * -(-subject.units // settings.batch)
    optimiser, schedule = _optimiser(net, settings, steps)
    losses, done = [], 0
    with ProgressBar(label, total=steps, unit="batches") as progress:
        for _ in range(settings.epochs):
            net.train()
            epoch = []
            for batch in subject.batches(settings.batch, rng):
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
                    logits_BO = _logits(net, tokenizer, batch.texts, settings, TRAIN_ROWS[device.type == "cpu"])
                loss = batch.loss(logits_BO)
                _step(net, optimiser, loss)
                if done < steps - 1:  # an epoch may have one batch less than planned, never more
                    schedule.step()
                done += 1
                epoch.append(float(loss.detach()))
                progress.to(done, f"loss {epoch[-1]:.3f}")
            losses.append(sum(epoch) / len(epoch))
            if not all(torch.isfinite(torch.tensor(epoch))):
                raise UserError(f"{label}: the loss is not finite; lower rate={settings.rate} or say dtype=float32")
    net.eval()
    return losses


@torch.no_grad()
def read(
    net: ScorerNet, tokenizer: Any, texts: Sequence[Text], settings: Settings, block_bytes: int | None = None
) -> Tensor:
    """(N, O) float32 logits on the CPU, in the order of the texts. Those of a text depend on no other text.

    ``block_bytes``: see `fixed_inputs`.
    """
    net.eval()
    logits_NO = torch.empty(len(texts), len(net.threshold_steps_O))
    if texts:
        batches = fixed_inputs(tokenizer, texts, settings.reads, settings.max_tokens, net.encoder, block_bytes)
        for indices, inputs in batches:
            logits_NO[indices] = net(inputs)[: len(indices)].cpu()
    return logits_NO


def _logits(net: ScorerNet, tokenizer: Any, texts: Sequence[Text], settings: Settings, rows: int) -> Tensor:
    """(N, O) float32 logits in the order of the texts, of which ``rows`` with similar length are read at once."""
    device = next(net.parameters()).device
    order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))
    read_NO = []
    for start in range(0, len(order), rows):
        near = [texts[i] for i in order[start : start + rows]]
        inputs = tokenise(tokenizer, near, settings.reads, settings.max_tokens)
        read_NO.append(net({name: tensor.to(device) for name, tensor in inputs.items()}))
    places = torch.empty(len(order), dtype=torch.long)
    places[order] = torch.arange(len(order))
    return torch.cat(read_NO)[places.to(device)]


def seeded(seed: int) -> None:
    """Seed torch, from which initial heads and dropout follow. Call it inside `torch.random.fork_rng`."""
    torch.manual_seed(seed_for(seed, "scorer", "torch"))


def _optimiser(
    net: ScorerNet, settings: Settings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    learned = net.learned()
    own = [tensor for name, tensor in learned.items() if name.startswith("encoder.")]
    head = [tensor for name, tensor in learned.items() if not name.startswith("encoder.")]
    groups = [{"params": own}, {"params": head}] if own else [{"params": head}]
    rates = [settings.rate, settings.head_rate] if own else [settings.head_rate]
    optimiser = torch.optim.AdamW(groups, lr=settings.head_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=max(steps, 2), pct_start=WARM_UP)
    return optimiser, schedule


def _step(net: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for p in net.parameters() if p.grad is not None], CLIP_NORM)
    optimiser.step()
