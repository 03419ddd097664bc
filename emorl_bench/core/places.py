"""Where the project keeps what it builds or fetches once for a user."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The user's cache directory of this project; ``EMORL_BENCH_CACHE`` names another."""
    return Path(os.environ.get("EMORL_BENCH_CACHE") or platformdirs.user_cache_dir("emorl-bench"))
