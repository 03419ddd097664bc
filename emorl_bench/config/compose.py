"""Compose every configuration that a command line asks for, before Hydra runs it. Each error is one line.

Hydra's own messages have several lines and a traceback, and they come job by job. Here each choice of a sweep is
composed once (not every combination). This takes a fraction of a second, because nothing in this package imports torch.
"""

from __future__ import annotations

import itertools
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from emorl_bench.config.checks import check, check_writable, launched
from emorl_bench.config.sweeping import Swept, check_hydra, swept
from emorl_bench.config.trackers import check_tracker
from emorl_bench.config.trust import check_named
from emorl_bench.config.trust import conf_dir as conf_dir  # other packages take it from here
from emorl_bench.config.types import is_unicode
from emorl_bench.core.errors import UserError, did_you_mean

VERSION_BASE = "1.3"
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
"""The extra of this package that brings each launcher of Hydra."""
Jobs = Callable[[Swept], Iterator[list[str]]]  # what is swept -> the overrides of each job
OPEN = ("method.", "update.", "task.", "tracker.")  # nodes that take any key of their class; the YAML need not list it
SWITCHES = ("force", "hydra.job.chdir")
SEED = re.compile(r"seed=\d+")
PLAIN_TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "valid bool": "true or false",
    "ListConfig": "a list [a,b]",
}


def runnable(config: Mapping[str, Any]) -> None:
    """Check that ``emorl-bench`` can run a plain configuration.

    Raises:
        UserError: it cannot.
    """
    if "names" in config:  # a job adds it to its own configuration
        raise UserError("names: unknown key; it is decided by task=, model= and method=")
    check(config)
    check_tracker(config["tracker"])
    check_writable(config["runs_dir"])


def precheck(args: Namespace, root: str = "config", verify: Callable[[Mapping[str, Any]], None] = runnable) -> None:
    """Compose everything that ``args`` (arguments as Hydra parses them) would run, and verify it.

    Raises:
        UserError: one of the configurations cannot be composed, or ``verify`` refuses it.
    """
    for job in _composed(args, root, _choices):
        verify(job.settings)


@dataclass(frozen=True)
class Composed:
    """A job that was composed but not run. ``hydra`` is Hydra's own node of its configuration."""

    overrides: list[str]
    """What the sweep overrides in this job, as KEY=VALUE."""
    settings: dict[str, Any]
    """The plain configuration (`plain`)."""
    hydra: DictConfig

    @property
    def names(self) -> dict[str, str]:
        """Group -> the option that was chosen: task, model, method and others."""
        return chosen(self.hydra.runtime.choices)


def every_job(args: Namespace, root: str = "config") -> Iterator[Composed]:
    """Every job that ``args`` would run, in the order of the sweep.

    Raises:
        UserError: Hydra cannot compose one of them.
    """
    return _composed(args, root, _product)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dictionaries and lists, without Hydra's own node.

    A missing value stays ``???``; `check` reports it.
    """
    container = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"]), resolve=True
    )
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def chosen(choices: Mapping[Any, Any]) -> dict[str, str]:
    """Group -> the option that was chosen, without Hydra's own groups: task, model, method and others."""
    return {str(k): str(v) for k, v in choices.items() if v is not None and not str(k).startswith("hydra")}


def _composed(args: Namespace, root: str, jobs: Jobs) -> Iterator[Composed]:
    version.setbase(VERSION_BASE)
    setup_globals()
    name = args.config_name or root
    try:
        loader = _loader(args)
        if not loader.repository.config_exists(name):
            known = loader.get_group_options("", ObjectType.CONFIG)
            raise UserError(f"--config-name {name}: there is no such config{did_you_mean(name, known)}")
        _check_lines(loader, args.overrides)
        for overrides, config in _configurations(loader, name, args.overrides, args.multirun, jobs):
            check_hydra(config.hydra)
            settings = plain(config)
            check_named(settings, _directories(config))
            yield Composed(overrides, settings, config.hydra)
    except UserError:
        raise
    except Exception as error:  # Hydra raises its own errors, OmegaConf's, and Python's for a value it cannot use
        raise UserError(explain(error, args.overrides)) from error


def _directories(config: DictConfig) -> list[Path]:
    """The directories that Hydra has looked for files in; the user has named each that is not ours."""
    return [Path(source.path) for source in config.hydra.runtime.config_sources if source.schema == "file"]


def _check_lines(loader: ConfigLoaderImpl, lines: Sequence[str]) -> None:
    """Check what Hydra's grammar allows and Hydra then cannot use.

    Raises:
        UserError: the first such override.
    """
    parser = OverridesParser.create(config_loader=loader)
    for line in lines:
        if not is_unicode(line):
            raise UserError(f"{line!r}: is not UTF-8, and records are; rename the directory or file that it names")
        try:
            (override,) = parser.parse_overrides([line])
            key, value = override.key_or_group, override.value()
        except HydraException:
            raise
        except Exception as error:  # such as a number of more digits than Python reads
            raise UserError(f"{line[:60]}: cannot be read ({error}); write KEY=VALUE") from error
        if not key:
            raise UserError(f"{line}: not understood; write KEY=VALUE")
        if override.is_delete() or override.is_sweep_override():
            continue
        if (
            key in SWITCHES and isinstance(value, int | float) and not isinstance(value, bool)
        ):  # Hydra would take any number for true
            raise UserError(f"{line}: give true or false")
        if value == {}:
            raise UserError(f"{line}: an empty group changes nothing; take a key away with ~KEY")
        if loader.repository.group_exists(key) and not isinstance(value, str | QuotedString | list | dict):
            known = loader.get_group_options(key)
            raise UserError(f"{line}: name an option of {key}{did_you_mean(str(value), known)}")


def _loader(args: Namespace) -> ConfigLoaderImpl:
    path = create_config_search_path(args.config_path or str(conf_dir()))
    if args.config_dir is not None:
        extra = Path(args.config_dir).resolve()
        if not extra.is_dir():
            raise UserError(f"--config-dir {args.config_dir}: there is no such directory")
        path.prepend(provider="command-line", path=f"file://{extra}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(path)


def _configurations(
    loader: ConfigLoaderImpl, name: str, lines: list[str], multirun: bool, jobs: Jobs
) -> Iterator[tuple[list[str], DictConfig]]:
    if not multirun:
        primary = loader.load_configuration(name, list(lines), RunMode.MULTIRUN, validate_sweep_overrides=False)
        multirun = primary.hydra.mode == RunMode.MULTIRUN
    if not multirun:
        yield list(lines), loader.load_configuration(name, list(lines), RunMode.RUN)
        return
    if launched() > 1:
        raise UserError(
            f"a sweep inside a launch of {launched()} processes: launch one run at a time, without -m; "
            "or start the sweep with emorl-bench itself"
        )
    primary = loader.load_configuration(name, list(lines), RunMode.MULTIRUN)
    check_hydra(primary.hydra)
    check_launcher(primary.hydra.runtime.choices["hydra/launcher"])
    params = primary.hydra.sweeper.get("params") or {}
    known: dict[tuple[str, ...], DictConfig] = {}
    for choice in jobs(swept(loader, [f"{key}={value}" for key, value in params.items()] + lines)):
        yield choice, _load(loader, name, choice, known)


def _load(
    loader: ConfigLoaderImpl, name: str, lines: list[str], known: dict[tuple[str, ...], DictConfig]
) -> DictConfig:
    """The configuration of one job.

    Jobs that differ only in their seed are composed once: a seed chooses no other file.
    """
    seeds = [line for line in lines if SEED.fullmatch(line)]
    others = tuple(line for line in lines if line not in seeds)
    if others not in known or not seeds:
        known[others] = loader.load_configuration(name, lines, RunMode.RUN)
    if seeds:
        known[others].seed = int(seeds[-1].removeprefix("seed="))
    return known[others]


def _choices(values: Swept) -> Iterator[list[str]]:
    """The first choice of every key. Then, key by key, every other choice, with the first choices of all other keys."""
    first = {key: choices[0] for key, choices in values.items()}
    yield list(first.values())
    for key, choices in values.items():
        for choice in choices[1:]:
            yield list({**first, key: choice}.values())


def _product(values: Swept) -> Iterator[list[str]]:
    """Every combination, as the sweeper runs them."""
    yield from map(list, itertools.product(*values.values()))


def check_launcher(name: str) -> None:
    """Check that the packages of a launcher are installed.

    joblib's and submitit's configurations come with their plugins, so without these Hydra does not find them. The
    configuration of ``ray`` belongs to this project, so its package is checked here.

    Raises:
        UserError: the launcher needs an extra that is not installed.
    """
    if name == "ray" and find_spec("ray") is None:
        raise UserError(needs_extra(name))


def needs_extra(name: str) -> str:
    """One line that says how to install the extra of this launcher."""
    return f'hydra/launcher={name} needs the extra: pip install -c constraints.txt -e ".[{EXTRAS[name]}]"'


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
        for name, words in PLAIN_TYPES.items():
            if name in str(cause):
                return f"{source}: wrong type; {key} is {words}"
    return f"{source}: {str(cause).splitlines()[0]}"
