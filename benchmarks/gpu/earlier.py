"""What earlier visits have measured: it is taken up again where commit, card and sizes are the same.

A record of another commit or card is kept under another name, and this visit begins afresh.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.gpu.kit import DONE, FORMAT, Kit, Number
from emorl_bench.core.atomic import write_text

SAME = ("commit", "card", "uncommitted_changes")


def take_up(kit: Kit) -> None:
    """Give a kit the numbers of the record in its directory, if they belong to the same code on the same card.

    Numbers of code with uncommitted changes are never taken up, because nobody knows whether it is the same code.
    """
    path = kit.settings.out / "gpu.json"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = {}
    if kit.settings.again or not continues(kit, found):
        aside(kit, text, found)
        return
    kit.numbers |= {key: Number(**number) for key, number in found["numbers"].items()}
    kit.tables |= found["tables"]
    kit.steps |= found["steps"]
    kit.parts |= found["parts"]
    kit.visits[:0] = found["visits"]
    done = {name for name, part in kit.parts.items() if part["state"] == DONE}
    kit.skipped += [entry for entry in found["skipped"] if entry["part"] in done]
    kit.say(f"visit {len(kit.visits)}: goes on with {len(kit.numbers)} numbers; done: {', '.join(sorted(done)) or '-'}")


def continues(kit: Kit, found: dict[str, Any]) -> bool:
    """Whether a record's numbers hold for this visit too."""
    known = found.get("format") == FORMAT and found.get("quick") == kit.settings.quick
    same = all(found.get(name) == kit.about.get(name) for name in SAME)
    return known and same and kit.about["commit"] is not None and not kit.about["uncommitted_changes"]


def aside(kit: Kit, text: str, found: dict[str, Any]) -> None:
    """Keep a record that is not taken up: ``gpu.COMMIT.STARTED.json``."""
    name = f"gpu.{str(found.get('commit'))[:12]}.{str(found.get('started')).replace(':', '')}.json"
    write_text(kit.settings.out / name, text)
    kit.say(f"the record of an earlier visit is of another commit or card, or is to be made again: now {name}")
