"""Compose every configuration that a command line asks for, before Hydra runs it. Each error is one line.

Hydra's own messages have several lines and a traceback, and they come job by job. Here each choice of a sweep is
composed once (not every combination). This takes a fraction of a second, because nothing in this package imports torch.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emorl_bench.config.checks import check, check_writable, launched
from emorl_bench.config.explaining import explain
from emorl_bench.config.launchers import check_launcher
from emorl_bench.config.once import Known, entry_of, is_hydra, seed_of
from emorl_bench.config.sweeping import Swept, check_hydra, swept
from emorl_bench.config.trackers import check_tracker
from emorl_bench.config.trust import check_named
from emorl_bench.config.trust import conf_dir as conf_dir  # other packages take it from here
from emorl_bench.config.types import is_unicode
from emorl_bench.core.errors import UserError, did_you_mean

VERSION_BASE = "1.3"
Jobs = Callable[[Swept], Iterator[list[str]]]  # what is swept -> the overrides of each job
SWITCHES = ("force", "hydra.job.chdir")
MULTIRUN = "hydra.mode=MULTIRUN"  # what Hydra adds to the overrides of a sweep that only the command line asks for


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


def precheck(args: Namespace, root: str = "config", verify: Callable[[Mapping[str, Any]], None] = runnable) -> Known:
    """Compose everything that ``args`` (arguments as Hydra parses them) would run, and verify it.

    Raises:
        UserError: one of the configurations cannot be composed, or ``verify`` refuses it.
    """
    known: Known = {}
    for job in _composed(args, root, _choices, known):
        verify(job.settings)
    return known


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
    return _composed(args, root, _product, {})


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


def _composed(args: Namespace, root: str, jobs: Jobs, known: Known) -> Iterator[Composed]:
    version.setbase(VERSION_BASE)
    setup_globals()
    name = args.config_name or root
    try:
        loader = _loader(args)
        if not loader.repository.config_exists(name):
            there = loader.get_group_options("", ObjectType.CONFIG)
            raise UserError(f"--config-name {name}: there is no such config{did_you_mean(name, there)}")
        _check_lines(loader, args.overrides)
        for overrides, config in _configurations(loader, name, args, jobs, known):
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
    loader: ConfigLoaderImpl, name: str, args: Namespace, jobs: Jobs, known: Known
) -> Iterator[tuple[list[str], DictConfig]]:
    lines, multirun = list(args.overrides), args.multirun
    if not multirun:
        primary = loader.load_configuration(name, lines, RunMode.MULTIRUN, validate_sweep_overrides=False)
        multirun = primary.hydra.mode == RunMode.MULTIRUN
    if not multirun:
        yield lines, loader.load_configuration(name, lines, RunMode.RUN)
        return
    if launched() > 1:
        raise UserError(
            f"a sweep inside a launch of {launched()} processes: launch one run at a time, without -m; "
            "or start the sweep with emorl-bench itself"
        )
    primary = loader.load_configuration(name, lines, RunMode.MULTIRUN)
    check_hydra(primary.hydra)
    check_launcher(primary.hydra.runtime.choices["hydra/launcher"])
    params = primary.hydra.sweeper.get("params") or {}
    mode = [] if primary.hydra.mode == RunMode.MULTIRUN else [MULTIRUN]
    for choice in jobs(swept(loader, [f"{key}={value}" for key, value in params.items()] + lines)):
        yield choice, _load(loader, name, [*choice, *mode], known)


def _load(loader: ConfigLoaderImpl, name: str, lines: Sequence[str], known: Known) -> DictConfig:
    """The configuration of one job, composed as Hydra would: the overrides of its own node come first."""
    above, own = [line for line in lines if is_hydra(line)], [line for line in lines if not is_hydra(line)]
    composed = entry_of(above, own)
    if composed not in known:
        known[composed] = loader.load_configuration(name, [*above, *own], RunMode.RUN)
    if (seed := seed_of(own)) is not None:
        known[composed].seed = seed
    return known[composed]


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
