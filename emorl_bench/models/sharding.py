"""A base model too large for one device: its blocks divided among the ranks of a run (torch's FSDP2, ``fully_shard``).

Each rank keeps its part of every block and gathers the whole block only while it computes with it. Embeddings and head
stay whole on every rank, because T5 shares them. So do the adapters, which live outside the model. All ranks take part
in every forward pass, so every rank must make the same number of passes.
"""

from __future__ import annotations

import torch
from torch.distributed import get_world_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from emorl_bench.core.errors import UserError
from emorl_bench.models.backbone import Backbone


def shard(backbone: Backbone, device: torch.device) -> None:
    """Divide the blocks of a loaded backbone among all ranks, in place, and move what is left of it to ``device``.

    Make the `Decoder` afterwards: it uses no fused step for a sharded base, because that reads whole weights.

    Raises:
        UserError: the model does not say what its blocks are.
    """
    names = set(getattr(backbone.model, "_no_split_modules", None) or ())
    blocks = [module for module in backbone.model.modules() if type(module).__name__ in names]
    if not blocks:
        raise UserError(
            f"hardware.shard_base=true: a {backbone.model.config.model_type} does not say what its blocks are; "
            "use hardware.shard_base=false"
        )
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
        block.unshard()  # makes its buffers now: training could not use buffers that are made in inference mode
        block.reshard()
    backbone.model.to(device)
    backbone.sharded = True
    for layer in backbone.layers.values():
        layer.foldable = False
