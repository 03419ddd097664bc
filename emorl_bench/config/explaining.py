"""One line for what Hydra and OmegaConf say of a command line in several, with a traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from emorl_bench.config.launchers import EXTRAS, needs_extra
from emorl_bench.core.errors import did_you_mean

OPEN = ("method.", "update.", "task.", "tracker.")  # nodes that take any key of their class; the YAML need not list it
PLAIN_TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "valid bool": "true or false",
    "ListConfig": "a list [a,b]",
}


def explain(error: Exception, lines: Sequence[str]) -> str:
    """One line for an error of Hydra or OmegaConf: key, value and what to do."""
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not understood; write KEY=VALUE, and quote special characters"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and option in EXTRAS:
            return needs_extra(option)
        return f"{group}={option}: unknown {group}{did_you_mean(option, error.options or ())}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return _explain_key(cause, _source(error, cause.full_key, lines))
    if match := re.search(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{match[1]}: several values need -m (a sweep), or brackets if it is one list: key=[a,b]"
    return " ".join(f"{error}".split()) + (f" ({' '.join(str(cause).split())})" if cause else "")


def _source(error: Exception, key: str, lines: Sequence[str]) -> str:
    """The override that caused an error, or else the file."""
    for line in lines:
        if line.lstrip("+~").split("=")[0].startswith(key):
            return line
    match = re.search(r"In '([^']+)'", str(error))
    return f"{key} in {match[1]}.yaml" if match else key


def _explain_key(cause: OmegaConfBaseException, source: str) -> str:
    key = cause.full_key or ""
    if isinstance(cause, ConfigKeyError | AttributeError):
        siblings = cause.parent_node if isinstance(cause.parent_node, DictConfig) else {}
        known = [str(k) for k in siblings if k != "hydra"]
        similar = did_you_mean(key.rpartition(".")[2], known)
        added = f" (if its class takes it: +{source})" if key.startswith(OPEN) and similar.startswith("; known") else ""
        return f"{source}: unknown key '{key}'{similar}{added}"
    if isinstance(cause, ValidationError):
        if "is not Optional" in str(cause):
            return f"{source}: null means nothing for {key}; give a value, or leave the key out"
        for name, words in PLAIN_TYPES.items():
            if name in str(cause):
                return f"{source}: wrong type; {key} is {words}"
    return f"{source}: {str(cause).splitlines()[0]}"
