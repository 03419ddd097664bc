"""Bind every ``_target_`` to its signature before anything is built, so that a wrong key is one clear line.

``_target_`` is the whole registry: a new method is one class and one YAML file. What the class declares is therefore
the schema: its parameters are the keys, and their annotations, where they are plain, the types.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from emorl_bench.core.errors import UserError, did_you_mean

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def check_targets(node: Any, where: str = "") -> None:
    """Raise a `UserError` for the first ``_target_`` below ``node`` that could not be built from its keys."""
    if isinstance(node, list):
        for index, value in enumerate(node):
            check_targets(value, f"{where}[{index}]")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        check_targets(value, f"{where}.{key}" if where else str(key))
    if "_target_" in node:
        _bind(node, where)


def _bind(node: Mapping[str, Any], where: str) -> None:
    built = _locate(str(node["_target_"]), where)
    parameters = inspect.signature(built).parameters
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = _hints(built)
    for key, value in given.items():
        if key not in parameters and not open_ended:
            raise UserError(f"{where}.{key}={value}: {built.__name__} has no such key{did_you_mean(key, parameters)}")
        if key in hints and not _fits(value, hints[key]):
            raise UserError(f"{where}.{key}={value}: wrong type; give {_words(hints[key])}")
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        if required and key not in given and not node.get("_partial_"):
            raise UserError(f"{where}.{key} is missing: {built.__name__} needs it; say {where}.{key}=VALUE")


def _locate(path: str, where: str) -> Callable[..., Any]:
    try:
        built: Any = get_object(path)
    except Exception as error:  # whatever importing somebody's module may raise
        reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
        raise UserError(f"{where}._target_={path}: cannot be imported ({reason}); check the name") from error
    if not callable(built):
        raise UserError(f"{where}._target_={path}: is not a class or function")
    return built  # type: ignore[no-any-return]


def _hints(built: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a class or function; none where they name what exists only for the type checker."""
    try:
        return get_type_hints(built.__init__ if inspect.isclass(built) else built)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Does a plain value fit a plain annotation? What is not plain is left to the class."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in PLAIN:
        return isinstance(value, hint)
    if get_origin(hint) is not None and get_origin(hint) in (tuple, list) and get_args(hint):
        return isinstance(value, list | tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    return True


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if get_origin(hint) in (tuple, list) and get_args(hint):
        return f"a list of {_words(get_args(hint)[0]).removeprefix('a ')}s"
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return "null" if hint is type(None) else PLAIN.get(hint, getattr(hint, "__name__", str(hint)))
