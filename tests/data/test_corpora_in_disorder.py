"""Corpora whose columns, rows or references are not what they seem: read right, refused with the row, or counted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data import annomi, counsel_chat, epitome, gsm8k, hh, imdb, pair, psych8k
from emorl_bench.data.notices import warn_once
from emorl_bench.data.sources import Source


def load(directory: Path, corpus: Any, content: str, name: str | None = None) -> list[Any]:
    warn_once.cache_clear()
    name = name or Path(corpus.FILE).name
    (directory / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    found: list[Any] = corpus.load(Source(str(directory), name))
    return found


def written(rows: list[list[str]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue()


def statements() -> list[dict[str, str]]:
    return [{name: f"{name} of statement {i}" for name in pair.COLUMNS} for i in range(12)]


def test_pair_is_read_by_the_names_of_its_header(tmp_path: Path) -> None:
    rng, plain = random.Random(0), load(tmp_path, pair, written([list(row.values()) for row in statements()]))
    assert plain[3].lq == tuple(f"lq{i} of statement 3" for i in range(1, 6))
    for extra in ({}, {"": "7"}, {"id": "7", "source": "a, b"}):
        for _ in range(5):
            names = [*pair.COLUMNS, *extra]
            rng.shuffle(names)
            rows = [[(extra | row)[name] for name in names] for row in statements()]
            header = [rng.choice((name, name.upper(), f" {name} ")) for name in names]
            assert load(tmp_path, pair, written([header, *rows])) == plain
            assert load(tmp_path, pair, written([header, *rows[:6], header, *rows[6:]])) == plain
    assert load(tmp_path, pair, json.dumps(statements()), "pair.json") == plain


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (["prompt", *pair.COLUMNS[2:]], "the header.* has no column 'hq1'"),
        (["prompt", *pair.COLUMNS], "the header.* has 2 columns 'prompt'"),
        ([f"c{i}" for i in range(10)], "row 1 looks like a header with other names"),
    ],
)
def test_a_header_that_is_not_pairs_is_refused(tmp_path: Path, header: list[str], says: str) -> None:
    rows = [(list(row.values()) * 2)[: len(header)] for row in statements()]
    with pytest.raises(UserError, match=says):
        load(tmp_path, pair, written([header, *rows]))


def test_an_index_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1: the prompt '0' has no word in it"):
        load(tmp_path, pair, written([[str(i), *list(row.values())[:9]] for i, row in enumerate(statements())]))


UTTERANCES = [("0", 0, "therapist", "Hello."), ("0", 1, "client", "I drink"), ("0", 2, "client", "a lot."),
              ("0", 3, "therapist", "You worry."), ("1", 0, "client", "No."), ("1", 1, "therapist", "No?")]  # fmt: skip


def transcripts(utterances: list[tuple[str, int, str, str]], annotators: list[str]) -> str:
    header = ["transcript_id", "mi_quality", "utterance_id", "interlocutor", "utterance_text", "annotator_id"]
    rows = [[d, "high", str(n), who, text, a] for (d, n, who, text), a in zip(utterances, annotators, strict=True)]
    return written([header, *rows])


def test_an_utterance_of_several_annotators_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    turns = [
        annomi.Turn("0", "I drink a lot.", "You worry.", "high", ""),
        annomi.Turn("1", "No.", "No?", "high", ""),
    ]
    one_after_another = UTTERANCES[:4] * 3 + UTTERANCES[4:]
    each = [utterance for utterance in UTTERANCES for _ in range(2)]
    for several, repeated in ((UTTERANCES, 0), (one_after_another, 8), (each, 6)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert load(tmp_path, annomi, transcripts(several, [str(i) for i in range(len(several))])) == turns
        assert (f"{repeated} left out, which repeat an utterance" in caplog.text) == (repeated > 0)


def test_transcripts_out_of_order_and_contradictions_are_refused(tmp_path: Path) -> None:
    def refused(rows: list[tuple[str, int, str, str]], says: str) -> None:
        with pytest.raises(UserError, match=says):
            load(tmp_path, annomi, transcripts(rows, ["a"] * len(rows)))

    refused(UTTERANCES[::-1], "row 3: transcript '1' is out of order")
    refused([UTTERANCES[0], UTTERANCES[4], UTTERANCES[1]], "row 4: transcript '0' is out of order")
    refused([*UTTERANCES, ("0", 1, "client", "I walk")], "row 8: utterance 1 of transcript '0' is 'I walk' here")
    content = transcripts(UTTERANCES, ["a"] * 6).replace("utterance_id", "number")
    with pytest.raises(UserError, match="row 2: an annotator_id without an utterance_id"):
        load(tmp_path, annomi, content)


@pytest.mark.parametrize("final", ["1/2", "twelve", "", "5 apples", "1,00", "about 7", "-.5", "1 2"])
def test_a_reference_that_is_no_number_is_refused(tmp_path: Path, final: str) -> None:
    with pytest.raises(UserError, match=r"row 1: the answer does not end with '#### number'"):
        load(tmp_path, gsm8k, json.dumps({"question": "How many?", "answer": f"Because.\n#### {final}"}))


@pytest.mark.parametrize("final", ["12", "-3", "1,234,567", "0.25", "$40", "−7"])
def test_a_reference_that_is_a_number_is_kept(tmp_path: Path, final: str) -> None:
    (row,) = load(tmp_path, gsm8k, json.dumps({"question": "How many?", "answer": f"So.\n#### {final} "}))
    assert row.final == final.replace(",", "")


DIALOGUE = "\n\nHuman: hi\n\nAssistant:"
POSTS = "sp_id,seeker_post,response_post,level\n"
QUESTIONS = "questionID,questionTitle,questionText,answerText,upvotes\n"


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def review(text: str, label: int) -> dict[str, Any]:
    return {"text": text, "label": label}


def pairs(chosen: str, rejected: str) -> str:
    return lines({"chosen": chosen, "rejected": rejected})


COUNTED: list[tuple[Any, str, str]] = [
    (gsm8k, lines({"question": " ", "answer": "#### 1"}), "1 left out, without a question (row 1)"),
    (imdb, lines(review("<br />", 1), review("a", 1)), "1 left out, without a text (row 1)"),
    (imdb, lines(review("a", 1), review("a", 1), review("a", 0)), "2 rows repeat the texts of an earlier row, 1 of"),
    (epitome, f"{POSTS}a,sad,,0\na,sad,oh,1\n", "1 left out, without a post or an answer (row 2)"),
    (epitome, f"{POSTS}a,sad,oh,1\na,sad,oh,2\n", "1 rows repeat the texts of an earlier row, 1 of them with another"),
    (counsel_chat, f"{QUESTIONS}1,,<p></p>,So.,3\n", "1 left out, without a question or an answer (row 2)"),
    (psych8k, '[{"instruction": "i", "input": "", "output": "o"}]', "1 left out, in which the client says nothing"),
    (hh, pairs(f"{DIALOGUE} a", f" {DIALOGUE} b"), "1 left out, whose two dialogues differ before the last answer"),
    (hh, pairs(f"{DIALOGUE} a", f"{DIALOGUE} a "), "1 left out, whose two answers are equal (row 1)"),
]


@pytest.mark.parametrize(("corpus", "content", "says"), COUNTED, ids=[f"{c.__name__}-{s[-30:]}" for c, _, s in COUNTED])
def test_what_is_left_out_or_repeated_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, corpus: Any, content: str, says: str
) -> None:
    with caplog.at_level(logging.WARNING):
        load(tmp_path, corpus, content)
    assert says in caplog.text
