"""What tasks have in common: defaults, and the splits of prompts that a task draws itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torch import Tensor

from emorl_bench.core.protocols import Scorer
from emorl_bench.core.types import Example, Splits


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


def hashed_splits(rows: Mapping[str, Sequence[Example]]) -> Splits:
    """The splits of a task, with a hash of all prompts in order.

    Args:
        rows: the prompts of "train", "select" and "report".
    """
    digest = hashlib.sha256()
    for split, examples in rows.items():
        digest.update("\0".join([split, *(e.prompt for e in examples)]).encode())
    return Splits(rows["train"], rows["select"], rows["report"], fingerprint=digest.hexdigest()[:16])
