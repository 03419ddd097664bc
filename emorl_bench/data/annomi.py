"""AnnoMI: transcripts of motivational interviewing, shown well or badly, turn by turn.

Source: github.com/uccollab/AnnoMI, ``AnnoMI-simple.csv`` (public, for research, citation asked for; no licence file);
Wu et al., "Anno-MI: A Dataset of Expert-Annotated Counselling Dialogues" (ICASSP 2022).
Layout: comma-separated with header, among others transcript_id, mi_quality (high, low), video_url, utterance_id,
interlocutor (client, therapist), utterance_text; the rows of a transcript in order. ``AnnoMI-full.csv`` has a
row for each annotator of an utterance; one of them is read.
Size: 133 transcripts of 119 videos, 9,699 utterances, 4,743 turns of clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from emorl_bench.core.errors import UserError
from emorl_bench.data.notices import LeftOut, quoted
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "annomi/AnnoMI-simple.csv"
ABOUT = "AnnoMI (research, citation asked for) is AnnoMI-simple.csv of github.com/uccollab/AnnoMI"
COLUMNS = ("transcript_id", "mi_quality", "interlocutor", "utterance_text")
SPEAKERS = ("client", "therapist")
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}

Utterance = tuple[str, str, str, str, str]  # dialogue, video, quality, speaker, text


@dataclass(frozen=True)
class Turn:
    """A client's turn, the therapist's answer, their dialogue, its quality (high or low) and its video."""

    dialogue: str
    client: str
    therapist: str
    quality: str
    video: str


def load(source: Source) -> list[Turn]:
    """Every turn of a client that a therapist answers, in file order.

    Consecutive utterances of one speaker are one turn. An utterance that several people have annotated is read once;
    the log counts its other rows.

    Raises:
        UserError: the file is missing or broken, a speaker is neither client nor therapist, or the utterances of a
            transcript are out of order, or repeated without a number.
    """
    return list(_turns(_joined(_utterances(source))))


def parts(rows: Sequence[Turn], seed: int = 0) -> Division[Turn]:
    """The parts of the corpus, divided by video: a video may show several dialogues of the same people.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda turn: turn.video or turn.dialogue, SHARES, seed, text=lambda turn: turn.client)


def _utterances(source: Source) -> Iterator[Utterance]:
    again, known = LeftOut(source, source.file), _Known()
    for number, row in read(source, COLUMNS, ABOUT, optional=("video_url", "utterance_id", "annotator_id")):
        where = f"task.data_dir: {source.file}: row {number}"
        speaker = row["interlocutor"].strip().casefold()
        if speaker not in SPEAKERS:
            raise UserError(f"{where}: interlocutor is {quoted(speaker)}; give one of {', '.join(SPEAKERS)}")
        dialogue, video, quality = (row.get(k, "").strip() for k in ("transcript_id", "video_url", "mi_quality"))
        text = " ".join(row["utterance_text"].split())
        if known.has(dialogue, row, (speaker, text), where):
            again.add(number, "which repeat an utterance for another annotator")
        else:
            yield dialogue, video, quality, speaker, text
    again.say()


@dataclass
class _Known:
    """The utterances so far, and the transcripts in the order in which they begin."""

    said: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)  # transcript -> its last utterance

    def has(self, dialogue: str, row: Mapping[str, str], said: tuple[str, str], where: str) -> bool:
        """Whether a row repeats an utterance; without numbers of utterances, no row does."""
        utterance = _number(row, where)
        if utterance is not None:
            before = self.said.setdefault((dialogue, utterance), said)
            if before != said:
                raise UserError(
                    f"{where}: utterance {utterance} of transcript {quoted(dialogue)} is {quoted(said[1])} here and "
                    f"{quoted(before[1])} in an earlier row; delete one of them"
                )
            if before is not said:
                return True
        returns = dialogue in self.newest and dialogue != next(reversed(self.newest))
        if returns or (utterance is not None and utterance < self.newest.get(dialogue, -1)):
            raise UserError(f"{where}: transcript {quoted(dialogue)} is out of order; sort by transcript and utterance")
        self.newest[dialogue] = -1 if utterance is None else utterance
        return False


def _number(row: Mapping[str, str], where: str) -> int | None:
    """The number of an utterance in its transcript; None where the file has no such column."""
    if "utterance_id" not in row:
        if "annotator_id" in row:
            raise UserError(f"{where}: an annotator_id without an utterance_id; repeated rows cannot be told apart")
        return None
    if not (digits := row["utterance_id"].strip()).isdecimal():
        raise UserError(f"{where}: utterance_id is {quoted(digits)}; give a whole number")
    return int(digits)


def _joined(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    for (dialogue, video, quality, speaker), run in groupby(utterances, key=lambda utterance: utterance[:4]):
        if text := " ".join(words for *_, words in run if words):
            yield dialogue, video, quality, speaker, text


def _turns(utterances: Iterable[Utterance]) -> Iterator[Turn]:
    for (dialogue, video, quality, first, said), (next_dialogue, *_, answer) in pairwise(utterances):
        if first == "client" and dialogue == next_dialogue:
            yield Turn(dialogue, said, answer, quality, video)
