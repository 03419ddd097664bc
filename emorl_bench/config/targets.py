"""Check every ``_target_`` against its signature before anything is built, so that a wrong key is one clear line.

``_target_`` is the only registry: a new method is one class and one YAML file. The signature of the class is therefore
the schema: its parameters are the keys, and their annotations, where they are plain, are the types.

The methods of ``baselines`` are those of this distribution. They lie beside `emorl_bench` in a checkout, and inside it
in a wheel, because a wheel must not install a top-level package of such a common name. Another package ``baselines`` on
the path is not used.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, get_type_hints

from hydra.utils import get_object

from emorl_bench.config.trust import OURS
from emorl_bench.config.types import fits, in_words
from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.leaving import staying

BASELINES = "baselines"
INSTRUCTIONS = ("_target_", "_partial_")  # the keys of a node that are no arguments


def build(node: Mapping[str, Any]) -> Any:
    """The object that the ``_target_`` of a plain configuration makes of its keys.

    The configuration is resolved. ``${...}`` in a text is part of the text, and is not resolved a second time.

    Raises:
        UserError: a class refuses a value, or another package called ``baselines`` has been imported before ours.
    """
    claim_baselines()
    return _built(node)


def _built(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return [_built(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    keys = {str(key): _built(value) for key, value in node.items() if key not in INSTRUCTIONS}
    if "_target_" not in node:
        return keys
    target = get_object(str(node["_target_"]))
    return partial(target, **keys) if node.get("_partial_") else target(**keys)


def baselines_dir() -> Path:
    """The directory of ``baselines``: inside the package in a wheel, in the checkout otherwise."""
    package = Path(__file__).resolve().parent.parent
    inside = package / BASELINES
    return inside if inside.is_dir() else package.parent / BASELINES


def claim_baselines() -> None:
    """Make ``import baselines`` find the package of this distribution, whatever is first on the path.

    Raises:
        UserError: another package of that name has been imported already.
    """
    place = baselines_dir()
    found = sys.modules.get(BASELINES)
    if found is not None:
        others = [other for other in getattr(found, "__path__", []) if Path(other).resolve() != place]
        if others:
            raise UserError(
                f"baselines: another package of this name was imported from {others[0]}; the methods are in {place}: "
                "import it under another name, or after emorl-bench has started"
            )
        return
    spec = spec_from_file_location(BASELINES, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[BASELINES] = module
    spec.loader.exec_module(module)


def check_targets(node: Any, where: str = "") -> None:
    """Check every ``_target_`` below ``node``.

    Raises:
        UserError: the first that could not be built from its keys.
    """
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
    given = {key: value for key, value in node.items() if key not in INSTRUCTIONS}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = _hints(built)
    for key, value in given.items():
        if key not in parameters and not open_ended:
            raise UserError(f"{where}.{key}={value}: {built.__name__} has no such key{did_you_mean(key, parameters)}")
        if key in hints and not fits(value, hints[key]):
            raise UserError(f"{where}.{key}={value}: wrong type; give {in_words(hints[key])}")
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        if required and key not in given and not node.get("_partial_"):
            raise UserError(f"{where}.{key} is missing: {built.__name__} needs it; say {where}.{key}=VALUE")


def _locate(path: str, where: str) -> Callable[..., Any]:
    claim_baselines()
    try:
        with staying(f"{where}._target_={path}"), _quiet():
            built: Any = get_object(path)
    except UserError:
        raise
    except Exception as error:  # importing a user's module may raise anything
        reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
        which = f", where baselines is {baselines_dir()}" if path.startswith(f"{BASELINES}.") else ""
        own = "" if path.startswith(OURS) else ", and put the directory of your module on PYTHONPATH"
        raise UserError(
            f"{where}._target_={path}: cannot be imported ({reason}{which}); check the name{own}"
        ) from error
    if not callable(built):
        raise UserError(f"{where}._target_={path}: is not a class or function")
    if path.startswith(OURS) and (not inspect.isclass(built) or f"{built.__module__}.{built.__qualname__}" != path):
        raise UserError(f"{where}._target_={path}: is no class of that module; name the class where it is defined")
    return built  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hydra logs several lines before it raises; the one line of the error says the same."""
    logger = logging.getLogger(get_object.__module__)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _hints(built: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a class or function; none where one names something that exists only for the type checker."""
    try:
        return get_type_hints(built.__init__ if inspect.isclass(built) else built)  # type: ignore[misc]
    except (NameError, TypeError):
        return {}
