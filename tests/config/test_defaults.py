"""Numbers live in YAML: where a class that YAML builds has a numeric default too, both are the same number."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from emorl_bench.config.compose import conf_dir

CONF = conf_dir()
Given = dict[str, dict[str, Any]]  # key -> YAML file -> value


def nodes(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a ``_target_``, outermost first."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node
        for key, value in node.items():
            yield from nodes(value, f"{place}: {key}")
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value, place)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def collected() -> dict[str, Given]:
    """Target -> what YAML gives it. A file that changes another of its group names no target: it is a variant.

    A class with a file of its own is compared with that file: what nests it states what it changes, and takes the rest
    from the defaults, which is why they must be equal. A class that is only nested is compared with all that nest it.
    """
    root = OmegaConf.load(CONF / "config.yaml")
    own: dict[str, Given] = defaultdict(lambda: defaultdict(dict))
    nested: dict[str, Given] = defaultdict(lambda: defaultdict(dict))
    for file in sorted(CONF.glob("*/*.yaml")):
        option = OmegaConf.load(file)
        place = str(file.relative_to(CONF))
        for where, node in nodes(OmegaConf.to_container(option), place):
            found = (own if where == place else nested)[node["_target_"]]
            for key, value in node.items():
                found[key][where] = root[value[2:-1]] if value in ("${seed}", "${kl_coefficient}") else value
    return {**nested, **own}


GIVEN = collected()


def differing(target: str) -> list[str]:
    """Numeric defaults of a target that are not the number in YAML."""
    parameters = inspect.signature(get_object(target)).parameters
    lines = []
    for key, files in GIVEN[target].items():
        default = parameters[key].default if key in parameters else None
        if is_number(default):
            lines += [f"{key}: {default} in {target}, {v} in {file}" for file, v in files.items() if v != default]
    return lines


@pytest.mark.parametrize("target", [t for t in sorted(GIVEN) if t.startswith(("emorl_bench.", "baselines."))])
def test_a_numeric_default_is_the_number_in_yaml(target: str) -> None:
    assert differing(target) == []


def test_a_difference_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"{__name__}.Example"
    monkeypatch.setitem(
        GIVEN, target, {"rate": {"scorer/a.yaml": 0.5, "scorer/b.yaml": 2}, "name": {"scorer/a.yaml": "x"}}
    )
    assert differing(target) == [f"rate: 0.5 in {target}, 2 in scorer/b.yaml"]


@dataclass(frozen=True)
class Example:
    rate: float = 0.5
    name: str = "y"
