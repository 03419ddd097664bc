"""What a task may leave out: a gold label, the best answers that there are under it, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example


class TaskDefaults:
    """A task without a gold label. Every task inherits from this class."""

    def gold_scorers(self) -> Mapping[str, Scorer]:
        """Scorers that say what an answer is worth in truth, by the name of their objective; none here.

        No method is trained, validated or searched with them. The report reads them.
        """
        return {}

    def ceiling(self, examples: Sequence[Example], preferences_WK: Tensor) -> Tensor | None:
        """(W, K) mean gold scores of the best legal answers to ``examples``, one row for each preference.

        None where nobody knows the best answers.
        """
        return None

    def longest_answer(self) -> str | None:
        """An answer that must fit `sampling.max_new_tokens`, and whose words the model must know; None: no such."""
        return None
