"""The contents of gpu.json as one Markdown table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def table(found: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = [*_head(found), "", *_goals(found), "", *_rows(found), "", *_more(found), *_ends(found)]
    return "\n".join(lines).rstrip() + "\n"


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    commit = found["commit"] or "unknown"
    changes = " with uncommitted changes" if found["uncommitted_changes"] else ""
    yield f"# {found['card']}"
    yield ""
    yield f"Commit {commit[:12]}{changes}; Python {found['python']}; {versions}; {found['started']}."
    yield f"{found['seconds']:.0f} s of {60 * found['minutes']:.0f}; medians; bfloat16 where nothing else is said."
    if len(found["visits"]) > 1:
        yield f"{len(found['visits'])} visits to this card at this commit; gpu.json says which one measured what."
    if found["quick"]:
        yield "**Micro sizes (`--quick`): it shows that every part runs, and its numbers mean nothing.**"


def _goals(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| goal | wanted | worst | of | |"
    yield "|---|---|---|---|---|"
    for goal in found["goals"]:
        wanted = f"{'at most' if goal['at_most'] else 'at least'} {goal['bound']:g}"
        worst = "" if goal["worst"] is None else _short(goal["worst"])
        yield f"| {goal['what']} | {wanted} | {worst} | {goal['of']} | {goal['verdict']} |"


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| part | measured | value | unit | ratio | of what | also |"
    yield "|---|---|---|---|---|---|---|"
    for number in found["numbers"].values():
        ratio = "" if number["ratio"] is None else _short(number["ratio"])
        also = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in number["facts"].items())
        cells = (number["part"], number["what"], _short(number["value"]), number["unit"], ratio, number["over"], also)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    for name, part in found["parts"].items():
        state, seconds, share = part["state"], _short(part["seconds"]), part["share"]
        yield f"| {name} | the part: {state} | {seconds} | s | | | share {share:.0f} s |"


def _more(found: Mapping[str, Any]) -> Iterator[str]:
    """Small tables that belong to a part, such as a profile."""
    for title, rows in found["tables"].items():
        if rows:
            yield f"{title}:"
            yield ""
            yield f"| {' | '.join(rows[0])} |"
            yield "|---" * len(rows[0]) + "|"
            yield from (f"| {' | '.join(_short(cell).replace('|', '/') for cell in row.values())} |" for row in rows)
            yield ""


def _ends(found: Mapping[str, Any]) -> Iterator[str]:
    for kind, key in (("Left out", "skipped"), ("Failed", "failures")):
        for entry in found[key]:
            yield f"- {kind}: {entry['part']}, {entry['what']}: {entry.get('why') or entry.get('error')}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
