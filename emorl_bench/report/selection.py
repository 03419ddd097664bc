"""``--where``: the runs that a report is about."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.report.keys import UNSET, find, value_text
from emorl_bench.report.read import Run

CONDITION = re.compile(r"\s*([\w.@*-]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*")
ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def where(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """The runs that meet all conditions: ``update=grpo,scst``, ``method!=base``, ``lr<=1e-3``, ``method=emorl*``.

    Raises:
        UserError: a condition cannot be read, names an unknown key, or leaves no run.
    """
    kept = list(runs)
    for condition in conditions:
        kept = _meeting(kept, condition)
    return kept


def _meeting(runs: Sequence[Run], condition: str) -> list[Run]:
    parts = CONDITION.fullmatch(condition)
    if parts is None:
        raise UserError(f"--where {condition!r} is no condition; write KEY=VALUE, KEY!=VALUE, KEY<NUMBER or KEY=A,B")
    name, sign, wanted = parts.groups()
    key = find(name, {key for run in runs for key in run.keys}, "--where")
    if sign in ORDERS and _number(wanted) is None:
        raise UserError(f"--where {condition!r}: {wanted!r} is no number; write {name}{sign}NUMBER")
    kept = [run for run in runs if _holds(run.keys.get(key, UNSET), sign, wanted)]
    if not kept:
        known = ", ".join(sorted({value_text(run.keys.get(key, UNSET)) for run in runs}))
        raise UserError(f"--where {condition!r} leaves no run; {name} is {known}")
    return kept


def _holds(value: Any, sign: str, wanted: str) -> bool:
    if sign in ORDERS:
        number, bound = _number(value), _number(wanted)
        return number is not None and bound is not None and ORDERS[sign](number, bound)
    equal = any(_equal(value, one.strip()) for one in wanted.split(","))
    return equal if sign == "=" else not equal


def _equal(value: Any, wanted: str) -> bool:
    number = None if isinstance(value, bool) else _number(value)
    same = number is not None and number == _number(wanted)
    return same or fnmatchcase(value_text(value), wanted) or str(value) == wanted


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
