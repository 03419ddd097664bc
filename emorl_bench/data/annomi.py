"""AnnoMI: transcripts of motivational interviewing, shown well or badly, turn by turn.

Source: github.com/uccollab/AnnoMI, ``AnnoMI-simple.csv`` (public, for research, citation asked for; no licence file);
Wu et al., "Anno-MI: A Dataset of Expert-Annotated Counselling Dialogues" (ICASSP 2022).
Layout: comma-separated with header, among others transcript_id, mi_quality (high, low), video_url, utterance_id,
interlocutor (client, therapist), utterance_text; the rows of a transcript in order.
Size: 133 transcripts of 119 videos, 9,699 utterances, 4,743 turns of clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from emorl_bench.core.errors import UserError
from emorl_bench.data.reading import quoted
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

    Consecutive utterances of one speaker are one turn.

    Raises:
        UserError: the file is missing or broken, or a speaker is neither client nor therapist.
    """
    return list(_turns(_joined(_utterances(source))))


def parts(rows: Sequence[Turn], seed: int = 0) -> Division[Turn]:
    """The parts of the corpus, divided by video: a video may show several dialogues of the same people.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    return divide(rows, lambda turn: turn.video or turn.dialogue, SHARES, seed, text=lambda turn: turn.client)


def _utterances(source: Source) -> Iterator[Utterance]:
    for number, row in read(source, COLUMNS, ABOUT, optional=("video_url",)):
        speaker = row["interlocutor"].strip().casefold()
        if speaker not in SPEAKERS:
            raise UserError(
                f"task.data_dir: {source.file}: row {number}: interlocutor is {quoted(speaker)}; "
                f"give one of {', '.join(SPEAKERS)}"
            )
        dialogue, video, quality = (row.get(k, "").strip() for k in ("transcript_id", "video_url", "mi_quality"))
        yield dialogue, video, quality, speaker, " ".join(row["utterance_text"].split())


def _joined(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    for (dialogue, video, quality, speaker), run in groupby(utterances, key=lambda utterance: utterance[:4]):
        if text := " ".join(words for *_, words in run if words):
            yield dialogue, video, quality, speaker, text


def _turns(utterances: Iterable[Utterance]) -> Iterator[Turn]:
    for (dialogue, video, quality, first, said), (next_dialogue, *_, answer) in pairwise(utterances):
        if first == "client" and dialogue == next_dialogue:
            yield Turn(dialogue, said, answer, quality, video)
