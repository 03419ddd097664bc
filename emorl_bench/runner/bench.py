"""From a configuration to a `Bench`, a fitted method and its grades."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.protocols import Bench, Method, Priced, Scorer, Task, Tracker, UpdateRule
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Sampling, Splits, Training
from emorl_bench.indicators.fronts import simplex_grid
from emorl_bench.policies.bank import AdapterBank
from emorl_bench.policies.decode import Decoder
from emorl_bench.runner.answer_room import check_answer_room
from emorl_bench.runner.base_model import dtype_name, load_base, locate_model, note_model, prompt_format, weights_hash
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.group import device_of
from emorl_bench.runner.schema import what_decides
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.precision import check_bfloat16

log = logging.getLogger(__name__)

PROBE_PROMPTS = 64  # on which bfloat16 scorers are compared with float32 ones
Config = Mapping[str, Any]


def fingerprint(config: Config) -> str:
    """Hash of the data, the scorers and the base model: with the configuration it decides every number of a run."""
    located = locate_model(config)
    task = build_task(config)
    scorers = [scorer.fingerprint() for scorer in task.scorers.values()]
    return _hash(task.splits().fingerprint, scorers, weights_hash(located), asdict(prompt_format(config, task)))


def comparison_fingerprint(config: Config) -> str:
    """What must be equal for two runs to share a table: everything but the method, its update rule and the seed."""
    shared = ("budget", "sampling", "reward", "preferences", "decoding")
    precision = [dtype_name(config), config["hardware"]["scorer_dtype"]]
    model = [config["model"][k] for k in ("adapter", "max_prompt_tokens")]
    apart = [model, precision, what_decides(config)["task"]["scorers"]]
    return _hash(fingerprint(config), *apart, *map(config.get, shared))


def settings_hash(config: Config) -> str:
    """What must be equal for two runs to be seeds of one method: its own settings and its update rule's, but for seeds
    (a search may follow that of the run) and the KL coefficient, along which a method has a frontier.
    """
    update = {k: v for k, v in config["update"].items() if k != "kl_coefficient"}
    return _hash(_without_seeds(config["method"]), update)


def _without_seeds(settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        return settings
    return {k: _without_seeds(v) for k, v in settings.items() if k != "seed"}


def expert_fingerprint(config: Config) -> str:
    """What a single-objective expert depends on, whichever method asks for it; the seed is named beside it."""
    budget = {k: v for k, v in config["budget"].items() if k != "report_prompts"}
    shared = [what_decides(config)[k] for k in ("model", "update", "sampling", "reward")]
    hardware = [config["hardware"][k] for k in ("device", "dtype", "scorer_dtype")]
    return _hash(fingerprint(config), budget, *shared, *hardware)


def build_task(config: Config) -> Task:
    """The configured task.

    Raises:
        UserError: it has no scorers.
    """
    task: Task = instantiate(dict(config["task"]), _convert_="object")
    if not task.scorers:
        raise UserError("task.scorers is empty: add an objective, such as +scorer@task.scorers.diversity_2=diversity_2")
    for key, scorer in task.scorers.items():
        if key != scorer.name:
            raise UserError(f"task.scorers.{key}: this scorer is named '{scorer.name}'; use that name as the key")
    return task


@dataclass
class Workbench:
    """A `Bench` and what lies outside every method's sight: the report split and the grader."""

    bench: Bench
    method: Method
    grader: Grader
    prompts: dict[str, int]  # in each split, and removed as near-duplicates across splits
    truncated: dict[str, int]  # prompts of each split that were longer than the model reads

    @classmethod
    def build(
        cls, config: Config, dir: Path, tracker: Tracker, *, frozen: bool = False, ranks: Ranks = ALONE
    ) -> Workbench:
        device = device_of(ranks, config["hardware"]["device"])
        ledger = Ledger(device, ranks=ranks.count)
        task = build_task(config)
        splits = _limited(task.splits(), config["budget"])
        panel, held_out = _panels(task, config["hardware"], ledger, ranks)
        base, max_rows = load_base(config, task, device, ranks), config["hardware"]["max_rows"]
        check_answer_room(task, base, config["sampling"]["max_new_tokens"])
        bank = AdapterBank(Decoder(base, ledger, max_rows, ranks=ranks), config["seed"])
        limits = {k: config["budget"][k] for k in ("prompts", "samples", "generated_tokens", "seconds")}
        training = Training(**config["budget"]["training"])
        update: UpdateRule = instantiate(dict(config["update"]), _convert_="object")
        method: Method = instantiate(dict(config["method"]), _convert_="object")
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
            experts_dir=Path(config["runs_dir"]).expanduser().resolve() / ".experts",
            fingerprint=expert_fingerprint(config),
            joint_experts=config["hardware"]["joint_experts"],
            frozen=frozen,
            ranks=ranks,
        )
        reference = bank.new_policy("reference").reference()
        if panel.bfloat16:
            probe = reference.generate(splits.train[:PROBE_PROMPTS], bench.sampling, stream(bench.seed, "probe"))
            check_bfloat16(replace(panel, bfloat16=False), panel, probe)
        preferences_WK = simplex_grid(len(panel.objectives), config["preferences"]["divisions"])
        grader = Grader(
            report=splits.report,
            panel=panel,
            held_out=held_out,
            reference=reference,
            preferences_WK=torch.from_numpy(preferences_WK),
            sampling=Sampling(**config["sampling"]),
            decoding=tuple(config["decoding"]),
            seed=config["seed"],
        )
        parts = {"train": splits.train, "select": splits.select, "report": splits.report}
        truncated = {name: sum(base.reader.cuts(e.context) for e in part) for name, part in parts.items()}
        return cls(bench, method, grader, splits.sizes(), truncated)


def _panels(task: Task, hardware: Mapping[str, Any], ledger: Ledger, ranks: Ranks) -> tuple[ScorerPanel, ScorerPanel]:
    """The scorers that methods are given, and their held-out twins, where the configuration wants them."""
    device = torch.device(hardware["scorer_device"] or ledger.device)
    sets = [s.on(device) for s in task.scorers.values()], [s.held_out().on(device) for s in task.scorers.values()]
    ranks.once(lambda: _prepare([scorer for scorers in sets for scorer in scorers]))
    for scorer in sets[0]:
        for form, cost in scorer.costs().items() if isinstance(scorer, Priced) else ():
            ledger.charge(f"scorer/{scorer.name}/{form}", cost)
    fast = hardware["scorer_dtype"] == "bfloat16"
    own, held_out = (ScorerPanel(scorers, ledger, ranks, bfloat16=fast) for scorers in sets)
    return own, held_out


def _prepare(scorers: Sequence[Scorer]) -> None:
    """What is missing is trained once, by one rank; the others then find it in the cache."""
    for scorer in scorers:
        scorer.prepare()


def execute(config: Config, directory: RunDirectory, tracker: Tracker) -> dict[str, Any]:
    """Fit the configured method, grade it, write its tables and its cost; returns what goes into ``summary.json``."""
    workbench = Workbench.build(config, directory.path, tracker, ranks=directory.ranks)
    ledger = workbench.bench.ledger
    line = "prompts: %(train)d train, %(select)d select, %(report)d report; %(removed)d near-duplicates removed"
    log.info(line, workbench.prompts)
    note_model(config, directory, workbench.truncated)
    directory.note(phase="fit")
    solution = workbench.method.fit(workbench.bench)
    directory.note(phase="evaluate")
    with ledger.phase("evaluate"):
        grades = workbench.grader.grade(solution, ledger)
    directory.note(phase="record")
    tracker.table("scores", grades.score_rows)
    tracker.table("samples", grades.sample_rows)
    if grades.member_rows:
        tracker.table("members", grades.member_rows)
    ledger.settle()
    directory.write_json("cost.json", ledger.as_dict())
    totals = ledger.totals()
    steps = {"data_points": totals["data_points_sum"], "tokens": totals["generated_tokens"]}
    costs = {f"cost/{phase}/{name}": n for phase, cost in ledger.as_dict().items() for name, n in cost.items()}
    tracker.log(grades.metrics | costs | steps, step=int(totals["optimiser_steps"]))
    return {
        "fingerprint": comparison_fingerprint(config),
        "settings": settings_hash(config),
        "kl_coefficient": config["update"].get("kl_coefficient"),
        "names": {k: config["names"][k] for k in ("task", "model", "method")},
        "seed": config["seed"],
        "objectives": list(workbench.bench.objectives),
        **grades.summary,
        "prompts": workbench.prompts,
        "truncated_prompts": workbench.truncated,
        "cost": totals,
    }


def _limited(splits: Splits, budget: Mapping[str, Any]) -> Splits:
    select, report = splits.select[: budget["select_prompts"]], splits.report[: budget["report_prompts"]]
    if not (len(splits.train) and len(select) and len(report)):
        raise UserError("task: a split has no prompts; give it more data or larger shares")
    return replace(splits, select=select, report=report)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
