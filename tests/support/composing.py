"""Configurations as the programs compose them."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from emorl_bench.config import schema
from emorl_bench.config.compose import conf_dir


def composed(*overrides: str) -> DictConfig:
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides))
