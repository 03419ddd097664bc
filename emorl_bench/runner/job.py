"""One job: check it, open its run directory, run it, and leave a record. All launchers call this."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from emorl_bench.config.checks import check, check_attention, check_writable
from emorl_bench.config.compose import chosen, plain
from emorl_bench.config.targets import check_targets
from emorl_bench.core.damage import system_limits
from emorl_bench.core.leaving import staying
from emorl_bench.core.ranks import Ranks
from emorl_bench.core.signals import signals_interrupt
from emorl_bench.launch.run_value import OBJECTIVE, RunValue
from emorl_bench.progress import reported_to
from emorl_bench.runner import bench, fingerprints, finished
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.placement import decided
from emorl_bench.runner.process_group import process_group
from emorl_bench.runner.provenance import SUMMARY_VERSION
from emorl_bench.runner.shown import open_tracker
from emorl_bench.tracking.silent import Silent

log = logging.getLogger(__name__)

CODE = finished.code()  # of the files that are imported, from before any of them can change


def run(config: DictConfig, overrides: Sequence[str], names: Mapping[str, Any]) -> float | None:
    """Run what ``config`` says, or what is left of it.

    Args:
        config: Hydra's configuration of the job.
        overrides: what the command line has overridden, for the record.
        names: Hydra's choices: task, model, method and others.

    Returns:
        The mean reward at the uniform preference, for sweepers.

    Raises:
        UserError: bad input, a damaged file, or something that the operating system refuses (`core.damage`).
    """
    settings = resolve(config, names)
    hardware = settings["hardware"]
    with (
        system_limits(),
        signals_interrupt(),
        process_group(hardware["device"], in_step=hardware["shard_base"]) as ranks,
    ):
        return _run(settings, overrides, ranks)


def _run(settings: Mapping[str, Any], overrides: Sequence[str], ranks: Ranks) -> float | None:
    if not ranks.first:
        logging.disable(logging.WARNING)  # only the first rank logs
    fingerprint = ranks.once(lambda: fingerprints.fingerprint(settings))
    with RunDirectory(settings, fingerprint, overrides, ranks) as directory:
        if directory.done:
            log.info("done before: %s (force=true runs it again)", directory.path)
            _remember(settings, fingerprint, ranks)
            return _value(directory.read_json("summary.json") or {}, directory, skipped=True)
        log.info("%s: %s", "goes on" if directory.resumed else "starts", directory.path)
        tracker = open_tracker(settings, directory, fingerprint) if ranks.first else Silent()
        status = "failed"
        try:
            with reported_to(directory.report), staying("code of this run"):
                summary = {"schema_version": SUMMARY_VERSION, **bench.execute(settings, directory, tracker)}
            directory.write_json("summary.json", summary)
            tracker.summarise(summary, directory.read_json("cost.json") or {})
            status = "done"
        finally:
            tracker.close(status)
        directory.finish()
        _remember(settings, fingerprint, ranks)
        log.info("done: %s", directory.path)
        return _value(summary, directory)


def resolve(config: DictConfig, names: Mapping[str, Any]) -> dict[str, Any]:
    """The plain, checked configuration: with Hydra's choices, and with every ``auto`` of ``hardware`` decided.

    The thread limit is set.
    """
    settings = {**plain(config), "names": chosen(names)}
    check(settings)
    check_writable(settings["runs_dir"])
    check_targets(settings)
    settings["hardware"] = decided(settings["hardware"])
    check_attention(settings["model"], settings["hardware"])
    return settings


def _remember(settings: Mapping[str, Any], fingerprint: str, ranks: Ranks) -> None:
    if ranks.first:
        finished.remember(settings, fingerprint, CODE)


def _value(summary: Mapping[str, Any], directory: RunDirectory, *, skipped: bool = False) -> RunValue | None:
    value = summary.get(OBJECTIVE)
    return RunValue.of(value, str(directory.path), skipped=skipped) if isinstance(value, int | float) else None
