"""The text world: enough of it, split by situation, labelled truly, the same for the same seed."""

from __future__ import annotations

import random

import pytest

from emorl_bench.assets.tokenizer import build_tokenizer
from emorl_bench.assets.world.corpus import dialogues, labelled_pairs, misheard
from emorl_bench.assets.world.lexicon import to_you
from emorl_bench.assets.world.responses import DEFECTS, KINDS, MAX_WORDS, core, respond, split_words
from emorl_bench.assets.world.statements import SPLITS, sample_statements, situations
from emorl_bench.core.errors import UserError
from emorl_bench.tasks.reflections import Reflections


def test_there_are_at_least_5000_distinct_statements() -> None:
    assert len({s.text for s in sample_statements("train", 6000, seed=0)}) >= 5000


def test_no_situation_crosses_the_splits() -> None:
    seen = [{s.situation for s in sample_statements(split, 500, seed=1)} for split in SPLITS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_every_behaviour_and_event_is_met_in_both_halves_of_training() -> None:
    for half in (0, 1):
        met = situations("train", half)
        assert {b for b, _ in met} == set(range(14))
        assert {e for _, e in met} == set(range(12))
    assert not set(situations("train", 0)) & set(situations("train", 1))


def test_training_data_never_mention_a_report_situation() -> None:
    report = {s.text for s in sample_statements("report", 3000, seed=2)}
    trained_on = {p for p, _ in dialogues(3000, seed=2)} | {p.prompt for p in labelled_pairs(3000, seed=2, half=0)}
    assert not report & trained_on


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


def test_a_reflection_of_other_words_is_worth_less() -> None:
    rng, among = random.Random(0), situations("train")
    true = {"complex": 1.0, "simple": 0.55}
    pairs = [misheard(rng, s, among) for s in sample_statements("train", 300, seed=4)]
    wrong = [p for p in pairs if p.reflection not in true.values()]
    assert len(wrong) > 200
    assert max(p.reflection for p in wrong) <= 0.3


def test_the_tokenizer_gives_back_the_text_and_knows_every_word() -> None:
    tokenizer = build_tokenizer()
    for prompt, response in dialogues(300, seed=5):
        for text in (prompt, response):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert tokenizer.decode(tokenizer("I don't KNOW.")["input_ids"][2:]) == "not know."
