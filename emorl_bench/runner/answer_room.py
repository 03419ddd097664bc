"""Whether a model can say what a task wants: in time, and in words it knows."""

from __future__ import annotations

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import Task
from emorl_bench.policies.backbone import Backbone


def check_answer_room(task: Task, backbone: Backbone, new_tokens: int) -> None:
    """The task's longest answer, with its end, must fit ``new_tokens`` tokens of this model.

    Raises:
        UserError: it does not, or holds a word that the model's tokenizer does not know.
    """
    answer = task.longest_answer()
    if answer is None:
        return
    tokenizer = backbone.tokenizer
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        unknown = next((word for word in answer.split() if tokenizer.unk_token_id in _ids(tokenizer, word)), answer)
        raise UserError(
            f"model.path: this model has no word for '{unknown}', which answers of this task may need; "
            "use a larger model, or make the task easier (sums: task.levels, task.largest_term)"
        )
    if (needed := len(ids) + 1) > new_tokens:
        raise UserError(
            f"sampling.max_new_tokens={new_tokens}: the longest answer of this task takes {needed} tokens of this "
            f"model, its end included; give {needed} or more"
        )


def _ids(tokenizer: object, word: str) -> list[int]:
    return list(tokenizer(word, add_special_tokens=False)["input_ids"])  # type: ignore[operator]
