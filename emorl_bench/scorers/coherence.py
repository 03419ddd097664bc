"""Does the response belong to the prompt? A classifier of true against exchanged responses.

It is trained on the user's corpora.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_bench.core.errors import UserError, did_you_mean
from emorl_bench.data import annomi, counsel_chat, pair
from emorl_bench.data.sources import Source
from emorl_bench.data.splitting import Division
from emorl_bench.scorer_training.levels import Graded, Shuffled, with_shuffled
from emorl_bench.scorer_training.metrics import words
from emorl_bench.scorer_training.study import Study
from emorl_bench.scorers.trained import JUDGED_ON, Trained

LEAST_WORDS = 5  # a shorter turn such as "Mm-hmm." fits every prompt
Texts = list[tuple[str, str, str]]  # group, prompt, response


def _pair(data_dir: str | None) -> Division[Any]:
    return pair.parts(pair.load(Source(data_dir, pair.FILE)))


def _counsel_chat(data_dir: str | None) -> Division[Any]:
    return counsel_chat.parts(counsel_chat.load(Source(data_dir, counsel_chat.FILE)))


def _annomi(data_dir: str | None) -> Division[Any]:
    return annomi.parts(annomi.load(Source(data_dir, annomi.FILE)))


def _turns(rows: Sequence[annomi.Turn]) -> Texts:
    long = [turn for turn in rows if min(words(turn.client), words(turn.therapist)) >= LEAST_WORDS]
    return [(turn.video or turn.dialogue, turn.client, turn.therapist) for turn in long]


CORPORA: Mapping[str, tuple[Callable[[str | None], Division[Any]], Callable[[Sequence[Any]], Texts]]] = {
    "pair": (_pair, lambda rows: [(row.prompt, row.prompt, hq) for row in rows for hq in row.hq]),
    "counsel_chat": (_counsel_chat, lambda rows: [(row.question, row.question, row.answer) for row in rows]),
    "annomi": (_annomi, _turns),
}


@dataclass(frozen=True, kw_only=True)
class Coherence(Trained):
    """The probability that a response is the prompt's own. ``corpora`` names the sources of true pairs."""

    corpora: tuple[str, ...]
    balance: float = 0.0
    name: str = "coherence"

    def __post_init__(self) -> None:
        """A list, as YAML gives it, becomes a tuple."""
        object.__setattr__(self, "corpora", tuple(self.corpora))  # a list, where it comes from YAML

    def check(self, owner: str) -> None:
        """See `Settings.check`."""
        super().check(owner)
        for corpus in self.corpora:
            if corpus not in CORPORA:
                raise UserError(f"scorer {owner}: corpora={corpus}: unknown{did_you_mean(corpus, CORPORA)}")
        if not self.corpora:
            raise UserError(f"scorer {owner}: corpora=[]: name at least one of {', '.join(CORPORA)}")

    def study(self) -> Study:
        """True pairs of all corpora. Responses are exchanged within a corpus and a part.

        Raises:
            UserError: a corpus is missing or broken.
        """
        divisions = {corpus: CORPORA[corpus][0](self.data_dir) for corpus in self.corpora}
        train = self._graded(divisions, (self.part(),))
        report = with_shuffled(self._graded(divisions, JUDGED_ON))
        return Study(
            Shuffled(train, report, 2, self.balance),
            self.described(" + ".join(self.corpora), _together(divisions)),
        )

    def _graded(self, divisions: Mapping[str, Division[Any]], parts: Sequence[str]) -> list[Graded]:
        return [
            Graded((prompt, response), 1, f"{corpus}:{group}")
            for corpus, division in divisions.items()
            for part in parts
            for group, prompt, response in CORPORA[corpus][1](division.parts[part])
        ]


def _together(divisions: Mapping[str, Division[Any]]) -> Division[Any]:
    """Several divisions as one."""
    first = next(iter(divisions.values()))
    parts = {name: [row for d in divisions.values() for row in d.parts[name]] for name in first.parts}
    removed = {name: sum(d.removed[name] for d in divisions.values()) for name in first.parts}
    text = " ".join(f"{corpus}={division.fingerprint}" for corpus, division in divisions.items())
    return Division(parts, removed, hashlib.sha256(text.encode()).hexdigest()[:16])
