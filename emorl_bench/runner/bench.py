"""From a configuration to a `Bench`, a fitted method and its grades."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from emorl_bench.config.schema import Config
from emorl_bench.config.targets import build
from emorl_bench.core.errors import UserError
from emorl_bench.core.ledger import Ledger
from emorl_bench.core.memory import Memory
from emorl_bench.core.protocols import Bench, Method, Runtime, Scorer, Task, Tracker, UpdateRule
from emorl_bench.core.ranks import ALONE, Ranks
from emorl_bench.core.seeds import stream
from emorl_bench.core.totals import learner_phases
from emorl_bench.core.types import Budget, Sampling, Splits, Training
from emorl_bench.decoding.decode import Decoder
from emorl_bench.ensemble.search_record import FILE as SEARCH_FILE
from emorl_bench.ensemble.search_record import paid_by_preference
from emorl_bench.indicators.fronts import simplex_grid
from emorl_bench.policies.adapter_policy import AdapterBank
from emorl_bench.runner.base_model import (
    check_answer_room,
    correction,
    dtype_name,
    load_base,
    note_model,
)
from emorl_bench.runner.change import change
from emorl_bench.runner.directory import RunDirectory
from emorl_bench.runner.evaluate import Grader
from emorl_bench.runner.fingerprints import (
    build_task,
    comparison_fingerprint,
    expert_fingerprint,
    method_settings_hash,
    scorer_fingerprints,
)
from emorl_bench.runner.ladder import Ladder, Repeating, row_of
from emorl_bench.runner.memory_plan import learners_of
from emorl_bench.runner.placement import in_words
from emorl_bench.runner.process_group import device_of
from emorl_bench.runner.provenance import assets_hash
from emorl_bench.runner.rollouts import rollout_engine
from emorl_bench.runner.throughput import Throughput, check_every, choose
from emorl_bench.scorers.panel import ScorerPanel
from emorl_bench.scorers.precision import check_bfloat16
from emorl_bench.scorers.rule import DeviceScorer

log = logging.getLogger(__name__)

PROBE_PROMPTS = 64  # number of prompts on which bfloat16 scorers are compared with float32 ones


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
    decoder: Decoder
    throughput: Throughput

    @property
    def fitted(self) -> dict[str, int | None]:
        """What has fitted into memory: bytes of a block, rows of a pass (None: all), rows of a decode."""
        memory, rows = self.decoder.memory, self.decoder.max_rows
        return {"block_bytes": memory.block_bytes, "micro_batch": memory.micro_batch, "max_rows": rows}

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
        memory = Memory.planned(config["hardware"].get("block_bytes"), device)  # earlier runs have no key
        panel, held_out, gold = _panels(task, config["hardware"], ledger, ranks, memory)
        base = load_base(config, task, device, ranks)
        check_answer_room(task, base, config["sampling"]["max_new_tokens"])
        rows, how = config["hardware"]["max_rows"], correction(config)
        engine = None if frozen else rollout_engine(config, base)  # what is only asked needs no second base model
        decoder = Decoder(base, ledger, rows, ranks=ranks, correction=how, memory=memory, engine=engine)
        decoder.check_every = check_every(config["hardware"], device)
        bank = AdapterBank(decoder, config["seed"])
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
                joint_experts=config["hardware"]["joint_experts"] is not False,
                frozen=frozen,
                ranks=ranks,
            ),
            preferences=tuple(map(tuple, preferences_WK.tolist())),
        )
        learners = 1 if frozen else learners_of(config)
        speed = choose(config["hardware"], decoder, bench, learners)
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
        truncated = {name: sum(base.reader.truncates(e.context) for e in part) for name, part in parts.items()}
        return cls(bench, method, grader, splits.sizes(), truncated, bank.decoder, speed)


def _panels(
    task: Task, hardware: Mapping[str, Any], ledger: Ledger, ranks: Ranks, memory: Memory
) -> tuple[ScorerPanel, ScorerPanel, ScorerPanel | None]:
    """The scorers that methods are given, their held-out twins, and gold for the objectives that have a gold scorer."""
    device = torch.device(hardware["scorer_device"] or ledger.device)
    gold = task.gold_scorers()
    sets = (
        [_placed(s, device, memory) for s in task.scorers.values()],
        [_placed(s.held_out(), device, memory) for s in task.scorers.values()],
        [_placed(gold[name], device, memory) for name in task.scorers if name in gold],
    )
    ranks.once(lambda: _prepare([scorer for scorers in sets for scorer in scorers]))
    for scorer in sets[0]:
        for form, cost in scorer.costs().items():
            ledger.charge(f"scorer/{scorer.name}/{form}", cost)
    fast = hardware["scorer_dtype"] == "bfloat16"
    own, held_out = (ScorerPanel(scorers, ledger, ranks, bfloat16=fast) for scorers in sets[:2])
    return own, held_out, ScorerPanel(sets[2], ledger, ranks) if sets[2] else None


def _placed(scorer: Scorer, device: torch.device, memory: Memory) -> Scorer:
    placed = scorer.on(device)
    return placed.within(memory.block_bytes) if isinstance(placed, DeviceScorer) else placed


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
    decoder = workbench.decoder
    log.info("%s", in_words(ledger.device, dtype_name(config), decoder.max_rows, decoder.memory.block_bytes))
    directory.share = partial(_share, ledger, config["budget"]["prompts"])
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
    kl = next(iter(grades.summary["decoding"].values()))["uniform"]["kl"]
    tracker.log({"train/kl": kl, **spent_by(ledger)}, step=int(ledger.totals()["optimiser_steps"]))
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
    return {
        "fingerprint": comparison_fingerprint(config),
        "settings": method_settings_hash(config),
        "kl_coefficient": config["update"].get("kl_coefficient"),
        "names": {k: config["names"][k] for k in ("task", "model", "method")},
        "seed": config["seed"],
        "objectives": list(workbench.bench.objectives),
        "chooses_with_scorers": solution.chooses_with_scorers,
        **grades.summary,
        "prompts": workbench.prompts,
        "truncated_prompts": workbench.truncated,
        "assets": assets_hash(config),
        "cost": totals,
        "memory": workbench.fitted,
        "throughput": workbench.throughput.record(),
        "change": change(ledger.phases, bench.objectives, paid, one_policy=one_policy),
        "converged_at": dict(ledger.converged_at),
        "best_step": dict(ledger.best_step),
        "ladder": rungs,
    }


def spent_by(ledger: Ledger) -> dict[str, float]:
    """The last row of a run: what each learner and the search have spent in all, and how many blends were asked for."""
    phases = {**learner_phases(ledger.phases), "search": ("search",)}
    costs = {name: [ledger.phases[p] for p in own if p in ledger.phases] for name, own in phases.items()}
    counters = {"data_points": "prompts", "tokens": "generated_tokens", "seconds": "wall_seconds"}
    spent = {
        f"spent/{name}/{axis}": float(sum(getattr(cost, counter) for cost in own))
        for name, own in costs.items()
        for axis, counter in counters.items()
    }
    return {"search/evaluations": ledger.totals()["search_evaluations"], **spent}


def _share(ledger: Ledger, prompts: int | None) -> float | None:
    """The share of a budget that is spent; on a rung of the ladder it is the share of the whole budget as well."""
    return None if prompts is None else ledger.spent / prompts


def _limited(splits: Splits, budget: Mapping[str, Any]) -> Splits:
    select, report = splits.select[: budget["select_prompts"]], splits.report[: budget["report_prompts"]]
    if not (len(splits.train) and len(select) and len(report)):
        raise UserError("task: a split has no prompts; give it more data or larger shares")
    return replace(splits, select=select, report=report)
