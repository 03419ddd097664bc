"""The judge of the world: what was written is read back, and what a policy may try is worth what the rules say."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from emorl_bench.assets.world.best import answers_and_grades, ceilings, inside
from emorl_bench.assets.world.corpus import WARMTHS
from emorl_bench.assets.world.grades import (
    EMPATHY,
    REFLECTION,
    SIMPLE_REFLECTION,
    UNFITTING,
    brevity,
    gold,
)
from emorl_bench.assets.world.judge import heard, read, statement_of
from emorl_bench.assets.world.lexicon import FEELINGS
from emorl_bench.assets.world.responses import COLD, DEFECTS, FITTING, KINDS, WARM, join_words, respond, split_words
from emorl_bench.assets.world.statements import Statement, draw_statement, sample_statements, situations
from emorl_bench.core.errors import UserError
from emorl_bench.indicators.fronts import simplex_grid

MOST_WORDS = 23
# "since i lost my job, i drink every night. i feel guilty. i want to have some peace, but it calms me down."
CLIENT = Statement(behaviour=1, event=1, feeling=0, hope=7, obstacle=0, style=0).text
WARM_WORDS = {"very warm": 2, "warm": 1, "neutral": 0, "cold": 0}


def test_a_prompt_is_read_back_as_the_statement_it_was_written_from() -> None:
    for split in ("train", "report", "audit"):
        for statement in sample_statements(split, 300, seed=6):
            assert statement_of(statement.text) == statement


def test_every_text_of_the_world_gets_its_own_labels_back() -> None:
    rng, among = random.Random(1), situations("train")
    for _ in range(4000):
        statement = draw_statement(rng, among)
        kind, warmth, defect = rng.choice(tuple(KINDS)), rng.choice(WARMTHS), rng.choice((None, *DEFECTS))
        response = respond(rng, statement, kind, warmth, defect)
        reading = read(statement.text, response.text)
        assert [s.kind for s in reading.sentences if s.kind in KINDS] == [response.kind], response.text
        assert reading.warm == WARM_WORDS[response.warmth]
        assert reading.cold == (response.warmth == "cold")
        assert (reading.plain < 1) == response.broken, response.text
        assert reading.known == 1
        assert not any(s.wrong for s in reading.sentences)
        assert reading.words == len(split_words(response.text))


def test_grades_follow_from_details_warm_sentences_and_words() -> None:
    complex_one = "you feel guilty about drinking, and you want to have some peace."
    simple = "you feel guilty about drinking."
    assert gold(CLIENT, simple) == (SIMPLE_REFLECTION, EMPATHY[0], 1.0)
    assert gold(CLIENT, complex_one) == (REFLECTION[3], EMPATHY[0], brevity(14))
    assert gold(CLIENT, f"{simple} {WARM[0]}") == (SIMPLE_REFLECTION, EMPATHY[1], brevity(14))
    assert gold(CLIENT, " ".join(WARM[:3]))[1] == EMPATHY[3]
    assert gold(CLIENT, f"{WARM[0]} {COLD[0]}")[1] == 0.0
    assert gold(CLIENT, "what have you tried so far?")[0] == 0.15
    assert gold(CLIENT, "") == (0.0, 0.0, 0.0)
    assert (brevity(7), brevity(28), brevity(40)) == (1.0, 0.0, 0.0)


def test_a_warm_sentence_is_worth_more_where_it_answers_to_what_the_client_feels() -> None:
    simple, courage, makes_sense = (
        "you feel guilty about drinking.",
        "i really admire your courage.",
        "it makes sense to feel that way.",
    )
    assert gold(CLIENT, f"{simple} {courage}")[1] == UNFITTING[1] < EMPATHY[1]
    assert gold(CLIENT, f"{courage} {makes_sense}")[1] == EMPATHY[2]
    assert read(CLIENT, f"{courage} makes it sense to feel that way.").fitting  # what is said counts, not how
    assert not read(CLIENT, simple).fitting
    exhausted = replace(statement_of(CLIENT), feeling=FEELINGS.index("exhausted")).text
    assert gold(exhausted, courage)[1] == EMPATHY[1]
    assert gold(exhausted, makes_sense)[1] == UNFITTING[1]


def test_every_feeling_is_answered_to_by_some_warm_sentence_and_by_few() -> None:
    for feeling in FEELINGS:
        assert 2 <= sum(feeling in feelings for feelings in FITTING.values()) <= 3
    assert {feeling for feelings in FITTING.values() for feeling in feelings} == set(FEELINGS)


def test_the_topic_counts_once_however_it_is_named() -> None:
    said = "you drink every night since you lost your job. you feel guilty about drinking."
    assert read(CLIENT, said).details() == 3  # topic, event, feeling


def test_what_was_heard_wrong_counts_against_the_answer() -> None:
    wrong = "you feel numb about drinking, and you want to have some peace."
    assert gold(CLIENT, wrong)[0] == 0.0
    assert read(CLIENT, f"you feel guilty about drinking. {wrong}").details() == 1  # two right, one wrong
    other = sample_statements("train", 1, seed=9)[0]
    assert heard(other.text)["feeling"] != "guilty"
    assert gold(other.text, "you feel guilty about drinking, and you want to have some peace.")[0] == 0.0


def test_what_review_found_policies_to_say_is_worth_nothing() -> None:
    assert gold(CLIENT, "you are guilty, because you really admire your courage.") == (0.0, 0.0, 0.0)
    looped = gold(CLIENT, "i am here with that sounds so hard. i am here with that sounds so hard.")
    assert looped == (0.0, 0.0, 0.0)


def test_a_repeated_sentence_dilutes_what_was_said() -> None:
    once, twice = gold(CLIENT, WARM[0]), gold(CLIENT, f"{WARM[0]} {WARM[0]}")
    assert twice[1] == pytest.approx(once[1] / 2)
    assert twice[2] < once[2] / 2


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_costs_fluency_alone(defect: str) -> None:
    plain = "you feel guilty about drinking, and you want to have some peace."
    broken = DEFECTS[defect](plain)
    assert gold(CLIENT, broken)[:2] == gold(CLIENT, plain)[:2]
    assert gold(CLIENT, broken)[2] == 0.0


def test_damaged_texts_are_never_worth_more_than_whole_ones() -> None:
    """Shuffled, spliced (five to ten words of each), cut and looped texts, and answers to another client."""
    rng, among = random.Random(2), situations("train")
    for _ in range(1500):
        statement, other = draw_statement(rng, among), draw_statement(rng, among)
        one = respond(rng, statement, "complex", rng.choice(WARMTHS)).text
        two = respond(rng, other, "complex", rng.choice(WARMTHS)).text
        words, others = split_words(one), split_words(two)
        best = answers_and_grades(statement.text, MOST_WORDS)[1].mean(1).max()
        shuffled, cut = rng.sample(words, len(words)), words[: rng.randrange(1, len(words))]
        spliced = words[: rng.randrange(5, 11)] + others[-rng.randrange(5, 11) :]
        for text in map(join_words, (shuffled, cut, spliced, (words * 3)[:MOST_WORDS])):
            grades = gold(statement.text, text)
            assert np.mean(grades) <= best + 1e-9
            assert read(statement.text, text).known == 1 or max(grades[:2]) < 1
        reading = read(statement.text, two)
        if any(s.kind == "complex" and s.wrong for s in reading.sentences):
            assert gold(statement.text, two)[0] == 0.0


def test_a_prompt_from_elsewhere_is_one_line() -> None:
    with pytest.raises(UserError, match="cannot read the prompt 'hello'"):
        gold("hello", "hello")


def test_no_text_of_up_to_three_sentences_beats_the_ceiling() -> None:
    """Against every ordered choice of up to three plain sentences of the world, warm, cold and reflective alike."""
    prompt = sample_statements("report", 1, seed=3)[0].text
    said = heard(prompt)
    sentences = [t.format(**said) for templates in KINDS.values() for t in templates] + [*WARM, *COLD]
    texts = (" ".join(chosen) for n in (1, 2, 3) for chosen in itertools.combinations(sentences, n))
    every_NK = np.array([gold(prompt, text) for text in texts if len(split_words(text)) <= MOST_WORDS])
    preferences_WK = simplex_grid(3, 3)
    ceiling_WK = ceilings([prompt], preferences_WK, MOST_WORDS)
    np.testing.assert_allclose(
        (preferences_WK * ceiling_WK).sum(1), (preferences_WK @ every_NK.T).max(1), rtol=0, atol=1e-12
    )


def test_the_front_has_an_inside() -> None:
    prompts = [s.text for s in sample_statements("audit", 24, seed=0)]
    assert inside(prompts, MOST_WORDS) >= 0.10
    points_WK = ceilings(prompts, simplex_grid(3, 3), MOST_WORDS)
    assert len({tuple(point) for point in points_WK.round(3)}) >= 5
