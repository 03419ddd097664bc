"""Scorers that are a rule, and a user's own function, against tables worked out by hand."""

from __future__ import annotations

import pytest
from support.ready_scorers import examples

from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.scorers.answer_format import AnswerFormat
from emorl_bench.scorers.diversity_2 import Diversity2
from emorl_bench.scorers.edit_rate import EditRate
from emorl_bench.scorers.gsm8k_accuracy import Gsm8kAccuracy, last_number
from emorl_bench.scorers.length_band import LengthBand
from emorl_bench.scorers.python import Python


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 42.", "42"),
        ("5 + 6 = 11 apples", "11"),
        ("It costs $1,234.50", "1234.5"),
        ("so -7", "-7"),
        ("pages 10-15", "15"),
        ("− 3 and −2.0", "-2"),
        ("x<<3*4=12>>12\n#### 12", "12"),
        ("1,2,3", "3"),
        ("12,345,678", "12345678"),
        ("about .5", "0.5"),
        ("none at all", None),
        ("", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    found = last_number(text)
    assert (found is None) == (number is None)
    assert found is None or float(found) == float(number or "nan")


def test_gsm8k_accuracy_needs_a_reference() -> None:
    answers = ["72", "He has 6*12=72.\n#### 72", None, "-3", "1,000"]
    given = [Example("", "How many?", answer=answer) for answer in answers]
    said = ["It is 72.0 now", "71", "72", "72", "#### 1000"]
    assert Gsm8kAccuracy().score(given, said) == [1.0, 0.0, None, 0.0, 1.0]
    for other in ("no number", "1/2", "#### twelve", "3 of 4", "He has 72.", ""):
        with pytest.raises(UserError, match=r"a reference is .*; give a number"):
            Gsm8kAccuracy().score([Example("", "How many?", answer=other)], ["72"])


@pytest.mark.parametrize(
    ("text", "thirds"),
    [
        ("6*2=12\n#### 12", 3),
        ("#### -1,200.5.\n", 3),
        ("#### 12 apples", 2),
        ("#### 1 #### 2", 2),
        ("#### 1 #### 2 x", 1),
        ("12", 0),
        ("####", 0),
        ("#### twelve", 0),
        ("", 0),
    ],
)
def test_answer_format(text: str, thirds: int) -> None:
    assert float(AnswerFormat().score(examples(["p"]), [text])) == pytest.approx(thirds / 3)


def test_length_band_diversity_and_edit_rate_by_hand() -> None:
    said = ["", "one two", "one two three four", "a b c d e f", "a b c d e f g h i j k l"]
    band = LengthBand(low=4, high=5, fall=4).score(examples(["p"] * 5), said)
    assert band.tolist() == pytest.approx([0, 0.5, 1, 0.75, 0])
    repeated = Diversity2().score(examples(["p"] * 3), ["a b a b a", "a b c", "a"])
    assert repeated.tolist() == pytest.approx([2 / 4, 1, 0])
    rates = EditRate().score(examples(["I am sad", "I am sad", "I am sad"]), ["i am sad!", "You are sad then", ""])
    assert rates.tolist() == pytest.approx([0, 3 / 4, 0])


def test_a_function_of_the_users() -> None:
    scorer = Python(function="test_scorers.share_of_vowels", name="vowels")
    assert scorer.score(examples(["p", "", "p"]), ["aeix", "aeix", ""]) == [0.75, None, None]
    assert (scorer.name, scorer.bounds) == ("vowels", (0.0, 1.0))
    assert scorer.fingerprint().startswith("test_scorers.share_of_vowels-")
