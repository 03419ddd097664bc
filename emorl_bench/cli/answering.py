"""What a finished run answers: its method fitted again with everything trained loaded, and nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from emorl_bench.config.targets import check_targets
from emorl_bench.core.masked import or_none
from emorl_bench.core.protocols import Sampler
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Example, Rollout, Sampling
from emorl_bench.data.sizes import limit_corpora
from emorl_bench.ensemble.explaining.records import Explanation, explain
from emorl_bench.ensemble.explaining.shares import checked
from emorl_bench.runner.bench import Workbench
from emorl_bench.runner.placement import set_products
from emorl_bench.tracking.silent import Silent


@dataclass(frozen=True)
class Answer:
    """The answers of one run to one text."""

    text: str
    responses: list[str]
    scores: list[dict[str, float | None]]
    """Objective -> score of each response; None where it does not apply."""
    explanation: Explanation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = None if self.explanation is None else self.explanation.as_dict()
        return {"text": self.text, "responses": self.responses, "scores": self.scores, "explanation": told}


@dataclass
class Talker:
    """A run that answers. ``explains``: it also says which expert decided what."""

    name: str
    """Method and run directory, such as ``emorl/s0-1a2b3c4d``."""
    preference: Sequence[float]
    seed: int
    sampling: Sampling
    workbench: Workbench
    policy: Sampler
    explains: bool = False
    told: list[Answer] = field(default_factory=list)
    """What it has answered so far."""

    @classmethod
    def load(
        cls, run: Path, config: dict[str, Any], preference: Sequence[float], asked: Sampling, seed: int, explains: bool
    ) -> Talker:
        """Fit the run's method with what it has trained. A preference that it never asked for is searched now.

        Args:
            run: the run directory.
            config: its resolved configuration.
            preference: one weight for each objective.
            asked: temperature and samples; the length of an answer is the run's own.
            seed: of samples.
            explains: whether answers are to be explained.

        Raises:
            UserError: something that it needs was never trained, or its method cannot be explained.
        """
        check_targets(config)
        torch.set_num_threads(config["hardware"]["threads"])
        set_products(config["hardware"]["dtype"])
        limit_corpora(config["hardware"].get("max_corpus_mb"))  # earlier runs have no such key
        workbench = Workbench.build(config, run, Silent(), frozen=True)
        policy = workbench.method.fit(workbench.bench).policy_for(torch.tensor(preference, dtype=torch.float64))
        if explains:
            checked(policy)
        sampling = Sampling(config["sampling"]["max_new_tokens"], asked.temperature, asked.samples_per_prompt)
        name = f"{run.resolve().parent.name}/{run.resolve().name}"
        return cls(name, preference, seed, sampling, workbench, policy, explains)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return self.workbench.bench.objectives

    def prompts(self, count: int) -> list[str]:
        """The first prompts of the report split."""
        return [example.prompt for example in self.workbench.grader.report[:count]]

    def answer(self, text: str) -> Answer:
        """Answer a text, and score the answers with the run's own scorers."""
        rollout = self._generate([Example("text", text)], text)
        scores = [
            dict(zip(self.objectives, or_none(row), strict=True))
            for row in self.workbench.bench.score(rollout).tolist()
        ]
        told = explain(self.policy, rollout) if self.explains else None
        self.told.append(Answer(text, list(rollout.responses), scores, told))
        return self.told[-1]

    def explained_report(self) -> Explanation:
        """The decisions of the answers to the whole report split."""
        return explain(self.policy, self._generate(self.workbench.grader.report, "report"))

    def explained(self) -> Explanation:
        """The decisions of all answers so far."""
        given = [answer.explanation for answer in self.told if answer.explanation is not None]
        return Explanation(given[0].experts, given[0].weights, [one for told in given for one in told.answers])

    def _generate(self, examples: Sequence[Example], name: str) -> Rollout:
        return self.policy.generate(examples, self.sampling, stream(self.seed, "generate", name))
