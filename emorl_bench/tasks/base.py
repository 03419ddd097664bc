"""Defaults of a task: no gold scorers, no known best answers, and no known length of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example


class TaskDefaults:
    """A task without gold scorers. Every task inherits from this class."""

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """Objective -> the scorer that knows the true value of an answer; none here.

        No method is trained, validated or searched with them. Only the report uses them.
        """
        return {}

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) mean gold scores of the best possible answers to ``examples``, one row for each preference (W, K).

        None where the best answers are not known.
        """
        return None

    def longest_answer(self) -> str | None:
        """An answer that must fit `sampling.max_new_tokens`, and whose words the model must know.

        None where there is no such answer.
        """
        return None
