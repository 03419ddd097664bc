"""Whether a plain value fits an annotation, and how the annotation reads in a message."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a plain annotation. An annotation that is not plain is left to the class."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
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
        return isinstance(value, list | tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    kind = get_origin(hint) or hint
    if value is None or isinstance(value, int | float):  # a class that is built from a node of its own
        return not (isinstance(kind, type) and kind not in (object, Any))
    return True


def is_unicode(text: str) -> bool:
    """Whether a text can be written into a file. Python marks each byte that it could not decode as a surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def in_words(hint: Any) -> str:
    """What a user has to give for an annotation, such as ``a whole number or null``."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(option) for option in get_args(hint))
    if get_origin(hint) in (tuple, list) and get_args(hint):
        return f"a list of {in_words(get_args(hint)[0]).removeprefix('a ')}s"
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return "null" if hint is type(None) else PLAIN.get(hint, getattr(hint, "__name__", str(hint)))
