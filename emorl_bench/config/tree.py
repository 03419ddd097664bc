"""Walks through a plain configuration. Each value comes with its full key, as a user would write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a node that is neither a mapping nor a list."""
    if not isinstance(node, Mapping | list):
        yield where, node
    for key, value in _children(node, where):
        yield from leaves(value, key)


def values_of(name: str, node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of the key ``name`` below a node; the value may be a mapping or a list itself."""
    for key, value in _children(node, where):
        if isinstance(node, Mapping) and key.rpartition(".")[2] == name:
            yield key, value
        yield from values_of(name, value, key)


def _children(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from ((f"{where}.{key}" if where else str(key), value) for key, value in node.items())
    elif isinstance(node, list):
        yield from ((f"{where}[{index}]", value) for index, value in enumerate(node))
