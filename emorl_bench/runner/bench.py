"""From a configuration to a `Bench`, a fitted method and its grades."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emorl_bench.config.schema import Config, what_decides
from emorl_bench.config.targets import build
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Method, Priced, Runtime, Scorer, Task, Tracker, UpdateRule
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.solutions import Choosing
from emorl_bench.core.types import Budget, Sampling, Splits, Training
from emorl_bench.ensemble.evaluations import FILE as SEARCH_FILE
from emorl_bench.ensemble.evaluations import paid_by_preference
from emorl_bench.indicators.fronts import simplex_grid
from emorl_bench.policies.bank import AdapterBank
from emorl_bench.policies.decode import Decoder
from emorl_bench.runner.base_model import (
    check_answer_room,
    dtype_name,
    load_base,
    locate_model,
    note_model,
    prompt_format,
    weights_hash,
)
from emorl_bench.runner.change import change
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.ladder import Ladder, Repeating, row_of
from emorl_bench.runner.process_group import device_of
from emorl_bench.runner.provenance import assets_hash
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.precision import check_bfloat16

log = logging.getLogger(__name__)

PROBE_PROMPTS = 64  # on which bfloat16 scorers are compared with float32 ones


def fingerprint(config: Config) -> str:
    """Hash of data, scorers, gold and base model. Together with the configuration it decides every number of a run."""
    task = build_task(config)
    return _hash(*_trained_on(config, task), *_gold(task))


def _trained_on(config: Config, task: Task) -> list[Any]:
    scorers = [scorer.fingerprint() for scorer in task.scorers.values()]
    prompts = asdict(prompt_format(config, task))
    return [task.splits().fingerprint, scorers, weights_hash(locate_model(config)), prompts]


def _gold(task: Task) -> list[str]:
    """Names and settings of the gold scorers; empty without any.

    They grade and never train, so no expert depends on them.
    """
    gold = sorted(task.gold_scorers().items())
    return [f"{name}={scorer.fingerprint()}, {_settings(scorer)}" for name, scorer in gold]


def _settings(scorer: Scorer) -> dict[str, Any]:
    """The plain numbers and texts among a scorer's fields. The configuration need not show those of a gold scorer."""
    names: list[str] = [f.name for f in fields(scorer)] if is_dataclass(scorer) else []
    return {name: v for name in names if isinstance(v := getattr(scorer, name), str | int | float | tuple)}


def comparison_fingerprint(config: Config) -> str:
    """Hash of what must be equal for two runs to share a table: all but the method, its update rule and the seed.

    The ladder is left out, because it changes no number of a whole run. ``expert_prompts`` is left out, because it is
    part of a method.
    """
    shared = ("sampling", "reward", "preferences", "decoding")
    budget = {k: v for k, v in config["budget"].items() if k not in ("ladder", "expert_prompts")}
    precision = [dtype_name(config), config["hardware"]["scorer_dtype"]]
    model = [config["model"][k] for k in ("adapter", "max_prompt_tokens")]
    apart = [model, precision, what_decides(config)["task"]["scorers"], budget]
    return _hash(fingerprint(config), *apart, *map(config.get, shared))


def method_settings_hash(config: Config) -> str:
    """Hash of the settings of a method and its update rule: equal for two runs that are seeds of one method.

    Seeds are left out (a search may follow the run's seed). So is the KL coefficient, because a method has a frontier
    along it.
    """
    return _hash(*(_without_axes(config[part]) for part in ("method", "update")), config["budget"]["expert_prompts"])


def _without_axes(settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        return settings
    return {k: _without_axes(v) for k, v in settings.items() if k not in ("seed", "kl_coefficient")}


def expert_fingerprint(config: Config, task: Task) -> str:
    """Hash of what every single-objective expert depends on, whichever method asks for it.

    Its scorer (`scorer_fingerprints`), its seed and what it may spend are named separately. No other objective is part
    of it.
    """
    data = [task.splits().fingerprint, weights_hash(locate_model(config)), asdict(prompt_format(config, task))]
    schedule = {k: v for k, v in config["budget"]["training"].items() if k != "checkpoint_every"}
    shared = [what_decides(config)[k] for k in ("model", "update", "sampling", "reward")]
    hardware = [config["hardware"][k] for k in ("device", "dtype", "scorer_dtype")]
    return _hash(*data, config["budget"]["select_prompts"], schedule, *shared, *hardware)


def scorer_fingerprints(config: Config, task: Task) -> dict[str, str]:
    """Objective -> hash of its scorer's settings and of what these do not show, such as weights."""
    settings = what_decides(config)["task"]["scorers"]
    return {name: _hash(settings[name], scorer.fingerprint()) for name, scorer in task.scorers.items()}


def build_task(config: Config) -> Task:
    """The configured task.

    Raises:
        UserError: it has no scorers, or a scorer's key is not its name.
    """
    task: Task = build(config["task"])
    if not task.scorers:
        raise UserError("task.scorers is empty: add an objective, such as +scorer@task.scorers.diversity_2=diversity_2")
    for key, scorer in task.scorers.items():
        if key != scorer.name:
            raise UserError(f"task.scorers.{key}: this scorer is named '{scorer.name}'; use that name as the key")
    return task


@dataclass
class Workbench:
    """A `Bench`, and what no method sees: the report split and the grader."""

    bench: Bench
    method: Method
    grader: Grader
    prompts: dict[str, int]
    """Number of prompts in each split, and of those removed as near-duplicates across splits."""
    truncated: dict[str, int]
    """Split -> number of its prompts that are longer than the model reads."""

    @classmethod
    def build(
        cls, config: Config, dir: Path, tracker: Tracker, *, frozen: bool = False, ranks: Ranks = ALONE
    ) -> Workbench:
        """Build everything that the configuration names.

        Args:
            config: the plain, resolved configuration.
            dir: the run directory.
            tracker: where metrics are recorded.
            frozen: only what is trained already may be used.
            ranks: the processes that share the run.

        Raises:
            UserError: a part of the configuration cannot be built.
        """
        device = device_of(ranks, config["hardware"]["device"])
        ledger = Ledger(device, ranks=ranks.count, limit=None if frozen else config["budget"]["prompts"])
        task = build_task(config)
        splits = _limited(task.splits(), config["budget"])
        panel, held_out, gold = _panels(task, config["hardware"], ledger, ranks)
        base, max_rows = load_base(config, task, device, ranks), config["hardware"]["max_rows"]
        check_answer_room(task, base, config["sampling"]["max_new_tokens"])
        bank = AdapterBank(Decoder(base, ledger, max_rows, ranks=ranks), config["seed"])
        limits = {field.name: config["budget"][field.name] for field in fields(Budget)}
        training = Training(**config["budget"]["training"])
        update: UpdateRule = build(config["update"])
        method: Method = build(config["method"])
        preferences_WK = torch.from_numpy(simplex_grid(len(panel.objectives), config["preferences"]["divisions"]))
        bench = Bench(
            train=splits.train,
            select=splits.select,
            objectives=panel.objectives,
            score=panel.score,
            new_policy=bank.new_policy,
            update=update,
            reward=config["reward"],
            training=training,
            budget=Budget(**limits),
            sampling=Sampling(**config["sampling"], samples_per_prompt=training.samples_per_prompt),
            tracker=tracker,
            ledger=ledger,
            seed=config["seed"],
            dir=dir,
            runtime=Runtime(
                experts_dir=Path(config["runs_dir"]).expanduser().resolve() / ".experts",
                fingerprint=expert_fingerprint(config, task),
                scorer_fingerprints=scorer_fingerprints(config, task),
                score_only=panel.score_only,
                joint_experts=config["hardware"]["joint_experts"],
                frozen=frozen,
                ranks=ranks,
            ),
            preferences=tuple(map(tuple, preferences_WK.tolist())),
        )
        reference = bank.new_policy("reference").reference()
        if panel.bfloat16:
            probe = reference.generate(splits.train[:PROBE_PROMPTS], bench.sampling, stream(bench.seed, "probe"))
            check_bfloat16(replace(panel, bfloat16=False), panel, probe)
        grader = Grader(
            report=splits.report,
            panel=panel,
            held_out=held_out,
            reference=reference,
            preferences_WK=preferences_WK,
            sampling=Sampling(**config["sampling"]),
            decoding=tuple(config["decoding"]),
            seed=config["seed"],
            gold=gold,
            best=task.ceiling,
        )
        parts = {"train": splits.train, "select": splits.select, "report": splits.report}
        truncated = {name: sum(base.reader.cuts(e.context) for e in part) for name, part in parts.items()}
        return cls(bench, method, grader, splits.sizes(), truncated)


def _panels(
    task: Task, hardware: Mapping[str, Any], ledger: Ledger, ranks: Ranks
) -> tuple[ScorerPanel, ScorerPanel, ScorerPanel | None]:
    """The scorers that methods are given, their held-out twins, and gold for the objectives that have a gold scorer."""
    device = torch.device(hardware["scorer_device"] or ledger.device)
    gold = task.gold_scorers()
    sets = (
        [s.on(device) for s in task.scorers.values()],
        [s.held_out().on(device) for s in task.scorers.values()],
        [gold[name].on(device) for name in task.scorers if name in gold],
    )
    ranks.once(lambda: _prepare([scorer for scorers in sets for scorer in scorers]))
    for scorer in sets[0]:
        for form, cost in scorer.costs().items() if isinstance(scorer, Priced) else ():
            ledger.charge(f"scorer/{scorer.name}/{form}", cost)
    fast = hardware["scorer_dtype"] == "bfloat16"
    own, held_out = (ScorerPanel(scorers, ledger, ranks, bfloat16=fast) for scorers in sets[:2])
    return own, held_out, ScorerPanel(sets[2], ledger, ranks) if sets[2] else None


def _prepare(scorers: Sequence[Scorer]) -> None:
    """Train what is missing. One rank does so once; the others then find it in the cache."""
    for scorer in scorers:
        scorer.prepare()


def execute(config: Config, directory: RunDirectory, tracker: Repeating) -> dict[str, Any]:
    """Fit the configured method, grade it, and write its tables and its cost.

    Returns the content of ``summary.json``.
    """
    workbench = Workbench.build(config, directory.path, tracker, ranks=directory.ranks)
    ledger = workbench.bench.ledger
    line = "prompts: %(train)d train, %(select)d select, %(report)d report; %(removed)d near-duplicates removed"
    log.info(line, workbench.prompts)
    note_model(config, directory, workbench.truncated)
    shares, method, grader = config["budget"]["ladder"], workbench.method, workbench.grader
    bench, rungs = Ladder(shares, workbench.bench, method, grader, directory, tracker).climb()
    directory.note(phase="fit")
    solution = method.fit(bench)
    directory.note(phase="evaluate")
    with ledger.phase("evaluate"):
        grades = grader.grade(solution, ledger)
    directory.note(phase="record")
    tracker.table("scores", grades.score_rows)
    tracker.table("samples", grades.sample_rows)
    if grades.member_rows:
        tracker.table("members", grades.member_rows)
    ledger.settle()
    directory.write_json("cost.json", ledger.as_dict())
    totals = ledger.totals()
    rungs.append(row_of(1.0, bench.budget, totals, grades.summary["decoding"]))
    paid, one_policy = paid_by_preference(bench.dir / SEARCH_FILE), grades.summary["single_point"]
    steps = {"data_points": totals["data_points_sum"], "tokens": totals["generated_tokens"]}
    costs = {f"cost/{phase}/{name}": n for phase, cost in ledger.as_dict().items() for name, n in cost.items()}
    tracker.log(grades.metrics | costs | steps, step=int(totals["optimiser_steps"]))
    return {
        "fingerprint": comparison_fingerprint(config),
        "settings": method_settings_hash(config),
        "kl_coefficient": config["update"].get("kl_coefficient"),
        "names": {k: config["names"][k] for k in ("task", "model", "method")},
        "seed": config["seed"],
        "objectives": list(workbench.bench.objectives),
        "chooses_with_scorers": isinstance(solution, Choosing) and solution.chooses_with_scorers,
        **grades.summary,
        "prompts": workbench.prompts,
        "truncated_prompts": workbench.truncated,
        "assets": assets_hash(config),
        "cost": totals,
        "change": change(ledger.phases, bench.objectives, paid, one_policy=one_policy),
        "converged_at": dict(ledger.converged_at),
        "ladder": rungs,
    }


def _limited(splits: Splits, budget: Mapping[str, Any]) -> Splits:
    select, report = splits.select[: budget["select_prompts"]], splits.report[: budget["report_prompts"]]
    if not (len(splits.train) and len(select) and len(report)):
        raise UserError("task: a split has no prompts; give it more data or larger shares")
    return replace(splits, select=select, report=report)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
