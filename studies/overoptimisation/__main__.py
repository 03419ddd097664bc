"""Reward over-optimisation: proxies of growing size, with wrong labels, graded by a gold scorer that trains nothing.

Two kinds of pressure are compared. Best-of-n chooses among samples of the base model (the exact expectation over
subsets of the samples). Training learns against the proxy (`experiment=overoptimisation`, which is run here unless it
was run before). Both are graded by proxy and gold, against the KL to the base. Every seed has its own preference pairs,
wrong labels, proxies, samples and policies. The report prompts are the same. docs/overoptimisation.md says what was
found.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import run
from benchmarks.timing import say
from emorl_bench.core.atomic import write_json, write_text
from emorl_bench.core.errors import UserError
from emorl_bench.runner.provenance import code_diff, provenance
from emorl_bench.scorer_training.preference_heads import STATISTICS
from emorl_bench.scorer_training.proxies import card, size
from emorl_bench.scorers.proxy import Proxy
from studies.overoptimisation.curves import (
    Candidates,
    Curve,
    Variant,
    proxy_of,
    scoring_seconds,
    settings,
    trained,
    width_of,
)
from studies.overoptimisation.findings import SINGLE, findings, grouped, table
from studies.overoptimisation.plot import KINDS, plot_curves

PROBE = 512  # texts that scoring is timed on
QUICK = ("task.scorers.proxy.pairs=24", "task.scorers.proxy.epochs=1", "budget.prompts=48", "method.keep=[0,2]")


@dataclass(frozen=True)
class Plan:
    """The command line.

    Attributes:
        seeds: seeds of best-of-n.
        rl_seeds: seeds of training.
        sizes: numbers of members of an ensemble.
        statistics: how members' rewards become one reward.
        noises: shares of wrong labels for best-of-n.
        rl_noises: shares of wrong labels for training.
        prompts: report prompts of best-of-n.
        samples: samples of each prompt, and so the largest n.
        out: where the results go.
        changes: overrides of every training.
    """

    seeds: int
    rl_seeds: int
    sizes: tuple[int, ...]
    statistics: tuple[str, ...]
    noises: tuple[float, ...]
    rl_noises: tuple[float, ...]
    prompts: int
    samples: int
    out: Path
    changes: tuple[str, ...]

    @property
    def variants(self) -> list[Variant]:
        """The single proxy, one with the parameters of the largest ensemble, and ensembles by form and statistic."""
        larger = [size for size in self.sizes if size > 1]
        forms = [(size, shared) for size in larger for shared in (False, True)]
        ensembles = [Variant(size, shared, name) for size, shared in forms for name in self.statistics]
        return [SINGLE, *([as_large_as(max(larger))] if larger else []), *ensembles]

    @property
    def pressures(self) -> list[int]:
        """The values of n: 1, 2, 4 … up to all samples."""
        powers = [2**i for i in range(self.samples.bit_length()) if 2**i < self.samples]
        return [*powers, self.samples]


def main(argv: Sequence[str] | None) -> None:
    """Run the study; the results are written again after every seed.

    Raises:
        UserError: an option is wrong.
    """
    plan, started, busy = planned(argv), time.monotonic(), time.process_time()
    here = provenance(torch.get_num_threads(), "cpu")
    curves: list[Curve] = []
    costs: list[dict[str, Any]] = []

    def done(what: str, seed: int) -> None:
        spent = {"seconds_in_all": time.monotonic() - started, "cpu_seconds_in_all": time.process_time() - busy}
        write(plan, curves, costs, here | spent)
        say(f"overoptimisation: {what}, seed {seed + 1}, {time.monotonic() - started:.0f} s")

    for seed in range(plan.seeds if plan.noises else 0):
        curves += best_of_n(plan, seed, costs)
        done("best-of-n", seed)
    largest = [v for v in plan.variants if v.members in (1, max(plan.sizes))]
    for seed in range(plan.rl_seeds if plan.rl_noises else 0):
        curves += [trained(variant, noise, seed, plan.changes) for noise in plan.rl_noises for variant in largest]
        done("training", seed)
    print("\n".join(page(curves, costs)))


def as_large_as(members: int) -> Variant:
    """The control of a full ensemble: one proxy with as many parameters as all of its members have."""
    width = int(settings([], seed=0)["task"]["scorers"]["proxy"]["width"])
    return replace(SINGLE, width=width_of(members * size(width)))


def best_of_n(plan: Plan, seed: int, costs: list[dict[str, Any]]) -> list[Curve]:
    """All best-of-n curves of one seed. What the proxies cost is added to ``costs``."""
    candidates = Candidates.drawn(plan.prompts, plan.samples, seed)
    curves = []
    for noise in plan.noises:
        read: dict[tuple[int, str], Tensor] = {}  # rewards by form: all statistics of a form share them
        for variant in plan.variants:
            proxy, form = proxy_of(variant, noise, seed, plan.changes), (variant.members, variant.form)
            if form not in read:
                read[form] = candidates.rewards(proxy)
                costs.append({"noise": noise, "seed": seed, **cost(proxy, variant, candidates)})
            curves.append(candidates.curve(proxy, read[form], noise, variant, plan.pressures))
    return curves


def cost(proxy: Proxy, variant: Variant, candidates: Candidates) -> dict[str, Any]:
    """Size, training and scoring of one form of a proxy.

    Each figure is the sum over the form's encoders; the agreement with gold is their mean.
    """
    cards = [card(unit) for unit in proxy.units]
    probe = candidates.rollout.rows(range(min(PROBE, len(candidates.rollout.examples))))
    seconds = scoring_seconds(proxy, probe.examples, probe.responses)
    return {
        "form": variant.form,
        "members": variant.members,
        **{key: sum(c[key] for c in cards) for key in ("parameters", "bytes", "train_cpu_seconds")},
        "scoring_cpu_seconds_per_1000": seconds * 1000 / len(probe.examples),
        "agreement_with_gold": sum(c["agreement_with_gold"] for c in cards) / len(cards),
    }


def write(plan: Plan, curves: Sequence[Curve], costs: Sequence[dict[str, Any]], here: dict[str, Any]) -> None:
    """Write the record, the picture and the page of the seeds that are done."""
    by_variant = grouped(curves)
    command = " ".join(["python -m studies.overoptimisation", *map(shlex.quote, sys.argv[1:])])
    record = here | {
        "command": command,
        "uncommitted_changes": bool(code_diff()),
        "settings": {k: v for k, v in vars(plan).items() if k != "out"},
        "findings": [finding.as_dict() for finding in findings(by_variant)],
        "costs": list(costs),
        "curves": [curve.as_dict() for curve in curves],
    }
    plan.out.mkdir(parents=True, exist_ok=True)
    write_json(plan.out / "overoptimisation.json", record)
    plot_curves(plan.out / "overoptimisation.png", by_variant)
    write_text(plan.out / "README.md", "\n".join([*head(record), *page(curves, costs)]))


def page(curves: Sequence[Curve], costs: Sequence[dict[str, Any]]) -> list[str]:
    """The tables in Markdown."""
    by_variant = grouped(curves)
    found, lines = findings(by_variant), []
    for kind, noise in dict.fromkeys((kind, noise) for kind, noise, _ in by_variant):
        lines += [f"## {KINDS[kind]}, {noise:.0%} of the labels wrong", "", *table(found, kind, noise), ""]
    return [*lines, *(["## Cost", "", *cost_table(costs), ""] if costs else [])]


def head(record: dict[str, Any]) -> list[str]:
    """The beginning of the page: where the numbers come from and what they mean."""
    machine, versions = record["machine"], record["versions"]
    commit = f"`{(record['commit'] or 'unknown')[:7]}`"
    commit += ", with changes that were not committed" if record["uncommitted_changes"] else ""
    return [
        "# Reward over-optimisation",
        "",
        f"- command: `{record['command']}`, {record['started'][:10]}; {record['seconds_in_all']:.0f} s on a shared "
        f"machine, {record['cpu_seconds_in_all']:.0f} s of one core",
        f"- commit: {commit}",
        f"- machine: {machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s); "
        f"Python {record['python']}, torch {versions['torch']}, transformers {versions['transformers']}",
        "",
        "Means over seeds, ± half a 95 % t interval. Gold and proxy lie in [0, 1]. *Fall*: a seed's gold at the peak "
        "of the other seeds' mean curve, less its gold at the end; *beta*: how the curve bends down (Gao et al.); "
        "*over the single proxy* and *fall saved* are paired by seed. What it means: docs/overoptimisation.md.",
        "",
        "![Gold and proxy against the square root of KL](overoptimisation.png)",
        "",
    ]


def cost_table(costs: Sequence[dict[str, Any]]) -> list[str]:
    """The table of costs in Markdown, means over seeds and noises."""
    lines = [
        "| form | members | parameters | bytes | training, CPU s | scoring 1,000 texts, CPU s | agrees with gold |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for form, members in dict.fromkeys((row["form"], row["members"]) for row in costs):
        rows = [row for row in costs if (row["form"], row["members"]) == (form, members)]
        means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0] if key not in ("form", "noise")}
        lines.append(
            f"| {form} | {members} | {means['parameters']:,.0f} | {means['bytes']:,.0f} "
            f"| {means['train_cpu_seconds']:.2f} | {means['scoring_cpu_seconds_per_1000']:.3f} "
            f"| {means['agreement_with_gold']:.1%} |"
        )
    return lines


def planned(argv: Sequence[str] | None) -> Plan:
    """Parse the command line.

    Raises:
        UserError: an option is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m studies.overoptimisation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=3, help="of best-of-n (default 3)")
    parser.add_argument("--rl-seeds", type=int, default=3, help="of training (default 3)")
    parser.add_argument("--sizes", default="1,3,5", help="members of an ensemble; training takes 1 and the largest")
    parser.add_argument("--statistics", default=",".join(STATISTICS), help=f"some of {', '.join(STATISTICS)}")
    parser.add_argument("--noises", default="0,0.25", help="shares of wrong labels, for best-of-n")
    parser.add_argument("--rl-noises", default="0.25", help="the same for training; none: no training")
    parser.add_argument("--prompts", type=int, default=32, help="report prompts of best-of-n (default 32)")
    parser.add_argument("--samples", type=int, default=256, help="of each, and so the largest n (default 256)")
    parser.add_argument("--out", type=Path, default=Path("results/overoptimisation"), help="where the results go")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the trainings go, or were")
    parser.add_argument("--quick", action="store_true", help="micro sizes: does it run? its numbers mean nothing")
    given = parser.parse_args(argv)
    for key in ("seeds", "rl_seeds", "prompts", "samples"):
        if getattr(given, key) < 1:
            raise UserError(f"--{key.replace('_', '-')}={getattr(given, key)}: give 1 or more")
    sizes = _values(given.sizes, "sizes", int, lambda v: v >= 1, "whole numbers from 1")
    statistics = _values(given.statistics, "statistics", str, lambda v: v in STATISTICS, f"some of {STATISTICS}")
    noises, rl_noises = (
        () if text == "none" else _values(text, key, float, lambda v: 0 <= v < 0.5, "shares from 0 to below 0.5")
        for key, text in (("noises", given.noises), ("rl-noises", given.rl_noises))
    )
    changes = (f"runs_dir={given.runs_dir}", *(QUICK if given.quick else ()))
    prompts, samples = (4, 8) if given.quick else (given.prompts, given.samples)
    seeds, rl_seeds = (2, 1) if given.quick else (given.seeds, given.rl_seeds)
    return Plan(seeds, rl_seeds, sizes, statistics, noises, rl_noises, prompts, samples, given.out, changes)


def _values(text: str, key: str, kind: type, holds: Callable[[Any], bool], words: str) -> tuple[Any, ...]:
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(map(holds, values)):
        raise UserError(f"--{key}={text}: give {words}, separated by commas")
    return values


if __name__ == "__main__":
    sys.exit(run(main))
