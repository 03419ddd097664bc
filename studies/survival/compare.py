"""Two directories, file by file and bit by bit; only what `studies.survival.exempt` names may differ."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from studies.survival.exempt import LOGS, SESSIONS, exempt_keys

HEADER = 8  # bytes of the little-endian length that a safetensors file begins with
SHOWN = 60  # characters on either side of a difference


def differences(reference: Path, found: Path) -> list[str]:
    """Each file that is missing, left over or different, with the place of the first difference."""
    wanted, present = _files(reference), _files(found)
    lines = [f"{name}: missing" for name in sorted(wanted - present)]
    lines += [f"{name}: not in the reference" for name in sorted(present - wanted)]
    for name in sorted(wanted & present):
        if (words := difference(reference / name, found / name)) is not None:
            lines.append(f"{name}: {words}")
    return lines


def difference(reference: Path, found: Path) -> str | None:
    """How two files of one name differ; None: they do not."""
    one, other = reference.read_bytes(), found.read_bytes()
    if one == other:
        return None
    one, other = normal(reference.name, one), normal(found.name, other)
    if one == other:
        return None
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    near = [text[max(0, at - SHOWN) : at + SHOWN].decode("utf-8", "backslashreplace") for text in (one, other)]
    return f"byte {at} of {len(one)}, {len(other)}: {near[0]!r} became {near[1]!r}"


def normal(name: str, content: bytes) -> bytes:
    """The content without what is exempt. Content that cannot be read as its name says stays as it is."""
    try:
        if name.endswith(".jsonl"):
            return b"".join(_without(name, json.loads(line)) + b"\n" for line in _lines(content))
        if name.endswith(".json"):
            value = json.loads(content)
            return _without(name, value | {"sessions": value["sessions"][-1:]} if name == SESSIONS else value)
        if name.endswith(".safetensors"):
            return _safetensors(name, content)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # a damaged file differs from the reference as it is
    return content


def _lines(content: bytes) -> list[bytes]:
    if not content.endswith(b"\n") and content:
        raise ValueError("the last line is not complete")
    return content.split(b"\n")[:-1]


def _safetensors(name: str, content: bytes) -> bytes:
    """The header with its metadata read as JSON where they are, and then the bytes of the tensors."""
    end = HEADER + int.from_bytes(content[:HEADER], "little")
    header = json.loads(content[HEADER:end])
    told = {key: _json(text) for key, text in header.pop("__metadata__", {}).items()}
    return _without(name, told) + json.dumps(header).encode() + content[end:]


def _json(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else text


def _without(name: str, value: Any) -> bytes:
    hidden, dropped = (exempt_keys(name, optional=optional) for optional in (False, True))
    return json.dumps(_pruned(value, hidden, dropped, ""), ensure_ascii=False).encode()


def _pruned(value: Any, hidden: re.Pattern[str], dropped: re.Pattern[str], path: str) -> Any:
    """The value without exempt values. Their keys stay, unless they are optional: a key that is missing is found."""
    if isinstance(value, dict):
        at = {key: f"{path}/{key}" if path else key for key in value if not dropped.search(f"{path}/{key}".strip("/"))}
        return {
            key: "exempt" if hidden.search(place) else _pruned(value[key], hidden, dropped, place)
            for key, place in at.items()
        }
    if isinstance(value, list):
        return [_pruned(inner, hidden, dropped, f"{path}/{i}") for i, inner in enumerate(value)]
    return value


def _files(directory: Path) -> set[str]:
    every = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    return {name for name in every if not re.search(LOGS, name)}
