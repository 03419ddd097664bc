"""SST-2: sentences of film reviews, and phrases of them, with a sentiment.

Source: the Stanford Sentiment Treebank as in GLUE (Socher et al., EMNLP 2013; research use), for instance
``data/SST-2`` of github.com/forest-snow/alps.
Layout: tab-separated with header: sentence, label (1 positive, 0 negative). No quoting; a file that
shows that it is quoted is read so (`separated`).
Size: 67,349 in train and dev, most of them phrases of 6,920 sentences; 872 whole, other sentences in test (GLUE's dev).

A split by row would train on phrases of the very sentences it is tested on: a phrase of three words or more belongs to
the longest row that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emorl_bench.data.notices import LeftOut, say_repeated
from emorl_bench.data.reading import whole
from emorl_bench.data.sources import Source, read
from emorl_bench.data.splitting import Division, divide

FILE = "sst2/train.tsv"
TEST_FILE = "sst2/test.tsv"
ABOUT = "SST-2 (research use) is train.tsv of data/SST-2 in github.com/forest-snow/alps, or GLUE's"
COLUMNS = ("sentence", "label")
SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}


KEY = 3  # number of words that find the sentence of a phrase; shorter phrases are in too many sentences


@dataclass(frozen=True)
class Row:
    """A sentence or phrase, its tokens separated by spaces. Label 1 is positive."""

    text: str
    label: int


def load(source: Source) -> list[Row]:
    """All rows in file order, without empty ones; the log counts these, and repeated rows.

    Raises:
        UserError: the file is missing or broken, or a label is neither 0 nor 1.
    """
    found, empty = [], LeftOut(source, source.file)
    for number, row in read(source, COLUMNS, ABOUT):
        label = whole(row["label"], (0, 1), f"task.data_dir: {source.file}: row {number}: label")
        if text := " ".join(row["sentence"].split()):
            found.append(Row(text, label))
        else:
            empty.add(number, "without a sentence")
    empty.say()
    say_repeated(source, source.file, ((row.text, row.label) for row in found), "label")
    return found


def parts(rows: Sequence[Row], seed: int = 0) -> Division[Row]:
    """The parts of the corpus, divided by sentence.

    ``scorer`` and ``held_out`` train the two sets of scorers; ``select`` and ``report`` train neither.
    """
    sentences = sentences_of([row.text for row in rows])
    return divide(rows, lambda row: sentences[row.text], SHARES, seed, text=lambda row: row.text)


def sentences_of(texts: Sequence[str]) -> dict[str, str]:
    """Text -> the longest text that contains it word by word; itself, where there is none or it is short."""
    sentences: dict[str, str] = {}
    starts: dict[tuple[str, ...], list[str]] = {}  # every sentence, under each KEY words that follow one another in it
    for text in sorted(set(texts), key=lambda text: (-len(text.split()), text)):
        words = text.split()
        if len(words) < KEY:
            sentences[text] = text
            continue
        known = starts.get(tuple(words[:KEY]), ())
        sentences[text] = next((s for s in known if f" {text} " in f" {s} "), text)
        if sentences[text] == text:
            for key in {tuple(words[i : i + KEY]) for i in range(len(words) - KEY + 1)}:
                starts.setdefault(key, []).append(text)
    return sentences
