"""The text world: enough of it, split by situation, labelled truly, the same for the same seed."""

from __future__ import annotations

import itertools
import random

import pytest

from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.corpus import dialogue, lesson
from emorl_bench.assets.world.judge import statement_of
from emorl_bench.assets.world.lexicon import to_you
from emorl_bench.assets.world.responses import DEFECTS, KINDS, MAX_WORDS, core, respond, split_words
from emorl_bench.assets.world.statements import SPLITS, sample_statements, situations
from emorl_bench.building.reflections.scorer_texts import world_texts
from emorl_bench.core.errors import UserError
from emorl_bench.tasks.reflections import Reflections


def test_there_are_at_least_5000_distinct_statements() -> None:
    assert len({s.text for s in sample_statements("train", 6000, seed=0)}) >= 5000


def test_no_situation_crosses_the_splits() -> None:
    seen = [{s.situation for s in sample_statements(split, 500, seed=1)} for split in (*SPLITS, "audit")]
    assert all(not one & other for one, other in itertools.combinations(seen, 2))
    assert [len(situations(split)) for split in (*SPLITS, "audit")] == [96, 24, 24, 24]


def test_every_behaviour_and_event_is_met_in_both_halves_of_training() -> None:
    for half in (0, 1):
        met = situations("train", half)
        assert {b for b, _ in met} == set(range(14))
        assert {e for _, e in met} == set(range(12))
    assert not set(situations("train", 0)) & set(situations("train", 1))


def test_training_data_never_mention_a_situation_that_is_kept() -> None:
    kept = {s for split in ("select", "report", "audit") for s in situations(split)}
    rng = random.Random(2)
    trained_on = {statement_of(draw(rng)[0]).situation for draw in (dialogue, lesson) for _ in range(2000)}
    trained_on |= {statement_of(p).situation for half in (0, 1) for p, _ in world_texts(2000, half, seed=2)}
    assert trained_on == set(situations("train"))
    assert not kept & trained_on


def test_the_two_sets_of_scorers_share_no_situation() -> None:
    met = [{statement_of(p).situation for p, _ in world_texts(2000, half, seed=3)} for half in (0, 1)]
    assert not met[0] & met[1]


def test_the_same_seed_gives_the_same_task_and_another_seed_another() -> None:
    one, same, other = Reflections({}).splits(), Reflections({}).splits(), Reflections({}, split_seed=1).splits()
    assert one == same
    assert one.fingerprint != other.fingerprint
    assert (len(one.train), len(one.select), len(one.report)) == (2000, 48, 96)
    assert len({e.id for split in (one.train, one.select, one.report) for e in split}) == 2144


def test_a_split_of_no_prompts_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.select=0"):
        Reflections({}, select=0).splits()


def test_counsellors_speak_of_you() -> None:
    assert to_you("i hurt my back") == "you hurt your back"
    assert to_you("feel like myself again") == "feel like yourself again"


def test_responses_are_short_and_defects_change_them() -> None:
    rng = random.Random(0)
    for statement in sample_statements("train", 50, seed=3):
        for kind in KINDS:
            text = core(random.Random(0), statement, kind)
            assert all(defect(text) != text for defect in DEFECTS.values())
            assert len(split_words(respond(rng, statement, kind, "very warm", "inverted").text)) <= MAX_WORDS


def test_the_tokenizer_gives_back_the_text_and_knows_every_word() -> None:
    tokenizer = build_tokenizer()
    rng = random.Random(5)
    for _ in range(300):
        for text in dialogue(rng):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert tokenizer.decode(tokenizer("I don't KNOW.")["input_ids"][2:]) == "not know."
