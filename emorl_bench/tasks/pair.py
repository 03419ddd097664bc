"""PAIR: real client statements from motivational interviewing, read from a csv file of the user's.

Source: github.com/MichiganNLP/dynaopt (Apache-2.0), published with Min et al., "PAIR: Prompt-Aware margIn Ranking for
Counselor Reflection Scoring in Motivational Interviewing" (EMNLP 2022). The file is not shipped with this project.
Only the prompts are used: the written responses would serve to train a scorer, not a policy.

The scorers are the embedded ones. They were trained on this project's own text world and are out of domain here: a
score on this task compares methods under one and the same reward, and says nothing about counselling.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.core.protocols import Scorer
from emorl_bench.core.seeds import seed_for
from emorl_bench.core.types import Example, Splits

COLUMNS = ("prompt", "hq1", "hq2", "mq1", "lq1", "lq2", "lq3", "lq4", "lq5", "topic")
LAYOUTS = (9, 10)  # without and with the topic
SPLIT_BY = ("prompt", "file_order")
LEAST_PROMPTS = 10  # fewer would leave a split of 80/10/10 empty

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """The PAIR prompts, split 80/10/10; no prompt is in two splits.

    ``split_by="prompt"`` orders the prompts by a seeded hash of their text, so the splits depend neither on the file's
    order nor on its layout; ``"file_order"`` is the paper's choice, in which topics that are listed together stay
    together.
    """

    path: str | None
    scorers: Mapping[str, Scorer]
    split_by: str
    split_seed: int
    select_share: float
    report_share: float

    def splits(self) -> Splits:
        if self.split_by not in SPLIT_BY:
            raise UserError(f"task.split_by={self.split_by} is not a split{did_you_mean(self.split_by, SPLIT_BY)}")
        select_share, report_share = self.select_share, self.report_share
        if min(select_share, report_share) <= 0 or select_share + report_share >= 1:
            raise UserError(
                f"task.select_share={select_share} and task.report_share={report_share} leave a split empty; "
                "both must be positive and sum to less than 1"
            )
        prompts = read_prompts(self.path)
        if self.split_by == "prompt":
            prompts.sort(key=lambda prompt: seed_for(self.split_seed, "pair", prompt))
        examples = [Example(hashlib.sha256(prompt.encode()).hexdigest()[:12], prompt) for prompt in prompts]
        select, report = (max(1, round(len(examples) * share)) for share in (select_share, report_share))
        train = len(examples) - select - report
        digest = hashlib.sha256("\0".join([str(train), str(select), *prompts]).encode()).hexdigest()[:16]
        return Splits(examples[:train], examples[train : train + select], examples[train + select :], digest)


def read_prompts(path: str | None) -> list[str]:
    """The distinct prompts of a PAIR csv, in file order, white space normalised.

    Rows are counted from 1, a header included. What would change the experiment is an error; what would not (a prompt
    given twice, a response that is missing) is logged with its row.
    """
    if path is None:
        raise UserError("task.path is not set; give the PAIR csv, as in task=pair task.path=topic_clean_umich.csv")
    prompts: dict[str, str] = {}
    duplicates: list[int] = []
    for number, row in _checked(path):
        prompt = " ".join(row[0].split())
        if not prompt:
            raise UserError(f"task.path={path}: row {number} has an empty prompt; fill the cell or delete the row")
        for column in (COLUMNS[i] for i, cell in enumerate(row) if not cell.strip()):
            log.warning("task.path=%s: row %d has an empty %s cell; its prompt is kept", path, number, column)
        if prompt.casefold() in prompts:
            duplicates.append(number)
        else:
            prompts[prompt.casefold()] = prompt
    if duplicates:
        rows = ", ".join(map(str, duplicates))
        log.warning("task.path=%s: %d duplicate prompts removed (rows %s)", path, len(duplicates), rows)
    if len(prompts) < LEAST_PROMPTS:
        raise UserError(f"task.path={path} has {len(prompts)} distinct prompts; at least {LEAST_PROMPTS} are needed")
    return list(prompts.values())


def _checked(path: str) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows of the right width, without header and blank lines."""
    width = 0
    for number, row in _rows(path):
        if not width:
            width = len(row)
            if width not in LAYOUTS:
                raise UserError(
                    f"task.path={path}: row {number} has {width} columns, not 9 or 10; "
                    f"expected comma-separated {', '.join(COLUMNS)} (topic may be left out)"
                )
            if row[0].strip().lower() == COLUMNS[0]:
                continue
        if len(row) != width:
            raise UserError(
                f"task.path={path}: row {number} has {len(row)} columns where the first row has {width}; "
                "quote cells that contain a comma"
            )
        yield number, row


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="") as file:
            yield from ((number, row) for number, row in enumerate(csv.reader(file), start=1) if row)
    except OSError as error:
        raise UserError(f"task.path={path} cannot be read ({error.strerror}); give the path of a PAIR csv") from error
    except UnicodeDecodeError as error:
        raise UserError(f"task.path={path} is not UTF-8 text ({error.reason}); save it as UTF-8 csv") from error
    except csv.Error as error:
        raise UserError(f"task.path={path} is not a csv file ({error}); give the path of a PAIR csv") from error
