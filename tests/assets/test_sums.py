"""The world of sums: what answers are worth, which are best, how sums are split, what base models learn from."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from typing import Any

import pytest
import torch

from emorl_bench.assets.sums.judge import OBJECTIVES, Worth, best_answer, best_worth, judge, needed_steps, rules_key
from emorl_bench.assets.sums.prompts import SPLITS, capacity, prompt_of, split_of, terms_of
from emorl_bench.assets.sums.tokenizer import build_tokenizer
from emorl_bench.building.sums import habits
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example
from emorl_bench.indicators.fronts import simplex_grid
from emorl_bench.scorers.diversity_2 import Diversity2
from emorl_bench.scorers.sums import SumScorer
from emorl_bench.tasks.sums import Sums

SCORERS = {name: SumScorer(name) for name in OBJECTIVES}
GRID_WK = torch.from_numpy(simplex_grid(3, 3))
SAMPLES = ((4, 7, 8), (4, 7, 8, 5), (9, 1, 9, 2, 6))


def sums(**settings: Any) -> Sums:
    return Sums(scorers=SCORERS, **settings)


def by_arithmetic(terms: tuple[int, ...], answer: str) -> tuple[float, float, float]:
    """The three scores of an answer of the grammar, by walking through it once and adding up."""
    *steps, last = answer.split(" , ")
    total, true_steps, needed = terms[0], 0, len(terms) - 1
    for place, step in enumerate(steps):
        before, term, after = map(int, re.fullmatch(r"(\d+) \+ (\d+) = (\d+)", step).groups())  # type: ignore[union-attr]
        true_steps += (before, term, after) == (total, terms[place + 1], total + terms[place + 1])
        total += terms[place + 1]
    missing = min(needed, needed - true_steps + len(steps) - true_steps)
    length = 6 * len(steps) / (6 * needed)
    return float(int(last.split()[1]) == sum_of(terms)), 1 - length**2, 1 - (missing / needed) ** 2


def sum_of(terms: tuple[int, ...]) -> int:
    return int(torch.tensor(terms).sum())


# what answers are worth --------------------------------------------------------------------------------------------
def test_every_answer_that_the_world_writes_gets_its_own_labels_back() -> None:
    rng, right = random.Random(0), 0
    for _ in range(3000):
        terms = habits.training_terms(rng)
        answer = habits.habitual_answer(terms, rng)
        assert judge(terms, answer).scores() == pytest.approx(by_arithmetic(terms, answer))
        right += judge(terms, answer).right == 1
    assert 1200 < right < 1800


@pytest.mark.parametrize(
    ("said", "scores"),
    [  # of 4 + 7 + 8, two steps are needed
        ("so 19", (1, 1, 0)),
        ("4 + 7 = 11 , so 19", (1, 0.75, 0.75)),
        ("4 + 7 = 11 , 11 + 8 = 19 , so 19", (1, 0, 1)),
        ("4+7=11, 11+8=19, So 19", (1, 0, 1)),  # spacing and case say nothing
        ("4 + 7 = 1 , 1 + 8 = 9 , so 9", (0, 0, 0)),  # a carry was forgotten
        ("4 + 7 = 11 , 11 + 8 = 9 , so 9", (0, 0, 0)),  # one right step, one wrong one
        ("4 + 7 = 11 , 11 + 8 = 19", (0, 0, 1)),  # cut before the end
        ("4 + 7 = 11 , 11 + 8", (0, 0, 0)),  # cut in a step
        ("4 + 7 = 11 ,", (0, 0, 0)),
        ("so", (0, 0, 0)),
        ("", (0, 0, 0)),
        ("19", (0, 0, 0)),
        ("so 019", (0, 1, 0)),
        ("so -19", (0, 0, 0)),
        ("so so 19", (0, 0, 0)),
        ("so 19 so 19", (0, 0, 0)),  # doubled
        ("so 19 , so 19", (1, 1 - (3 / 12) ** 2, 0)),
        ("so 19 , so 18 , so 19", (1, 1 - (6 / 12) ** 2, 0)),
        ("4 + 7 = 11 , 4 + 7 = 11 , so 19", (1, 0, 0)),  # looped
        ("4 + 7 = 11 , 4 + 7 = 11 , 4 + 7 = 11 , 4 + 7", (0, 0, 0)),
        ("11 + 8 = 19 , 4 + 7 = 11 , so 19", (1, 0, 0)),  # shuffled
        ("11 + 8 = 19 , so 19", (1, 0.75, 0.75)),  # a step left out
        ("4 + 7 = 11 , 5 + 6 = 11 , 11 + 8 = 19 , so 19", (1, 0, 0.75)),  # spliced with another sum's
        ("4 + 7 = 11 so 19", (0, 0, 0)),  # no comma
        ("so 19 , 4 + 7 = 11 , 11 + 8 = 19", (0, 0, 0.75)),
    ],
)
def test_what_damaged_answers_are_worth(said: str, scores: tuple[float, ...]) -> None:
    assert judge((4, 7, 8), said).scores() == pytest.approx(scores)


def test_an_answer_to_another_prompt_is_worth_only_its_brevity() -> None:
    assert judge((4, 7, 9), "4 + 7 = 11 , 11 + 8 = 19 , so 19") == Worth(0.0, 0.0, 0.0)
    assert judge((2, 2), "so 19") == Worth(0.0, 1.0, 0.0)


def test_endless_numbers_and_foreign_digits_are_judged() -> None:
    assert judge((4, 7), "so " + "1" * 10_000).right == 0
    assert judge((4, 7), "so ١١") == Worth(0.0, 0.0, 0.0)


# which answers are best --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("terms", SAMPLES)
def test_no_text_beats_the_ceiling_and_one_reaches_it(terms: tuple[int, ...]) -> None:
    """Every sequence of up to as many parts as there are terms: the needed steps in any order, and what is no step."""
    needed, longest = needed_steps(terms), len(terms)
    useless = [f"{terms[0]} + {terms[1]} = 1", "so", "", "11", "so 3"] if longest < 5 else []
    parts = [*needed, f"so {sum_of(terms)}", *useless]
    chosen = itertools.chain.from_iterable(itertools.product(parts, repeat=n) for n in range(1, longest + 1))
    worth_N3 = torch.tensor([judge(terms, " , ".join(said)).scores() for said in chosen], dtype=torch.float64)
    ceiling_W3 = sums().ceiling([Example("", prompt_of(terms))], GRID_WK)
    assert ceiling_W3 is not None
    found_W, claimed_W = (worth_N3 @ GRID_WK.T).amax(0), (ceiling_W3 * GRID_WK).sum(1)
    torch.testing.assert_close(claimed_W, found_W, atol=1e-12, rtol=0)


@pytest.mark.parametrize("level", [2, 3, 4, 5, 8])
def test_the_best_of_each_style_are_those_that_the_judge_finds(level: int) -> None:
    terms = tuple(random.Random(level).randint(1, 9) for _ in range(level))
    judged = [judge(terms, best_answer(terms, steps)) for steps in range(level)]
    assert [w.scores() for w in judged] == [pytest.approx(w.scores()) for w in best_worth(level)]


def test_the_front_has_an_inside() -> None:
    """At the uniform preference the best answers are worth more than those that are best for one objective."""
    task, uniform_1K = sums(), torch.full((1, 3), 1 / 3, dtype=torch.float64)
    report = task.splits().report
    best, corners = task.ceiling(report, uniform_1K), task.ceiling(report, torch.eye(3, dtype=torch.float64)[1:])
    assert best is not None
    assert corners is not None
    assert best.mean().item() == pytest.approx((5 / 6 + 22 / 27 + 5 / 6) / 3)
    assert corners.mean(1).tolist() == pytest.approx([2 / 3, 2 / 3])
    assert best.mean() - corners.mean(1).max() >= 0.10


def test_gold_is_the_reward_and_the_ceiling_follows_the_objectives() -> None:
    examples = [Example("", prompt_of(terms)) for terms in SAMPLES]
    assert sums().gold_scorers() == SCORERS
    brief_first = Sums(scorers={name: SCORERS[name] for name in ("brief", "right")})
    best = brief_first.ceiling(examples, torch.tensor([[0.5, 0.5]]))
    assert best is not None
    assert best.tolist() == [[1.0, 1.0]]
    mixed = Sums(scorers={**SCORERS, "diversity_2": Diversity2()})
    assert list(mixed.gold_scorers()) == list(OBJECTIVES)
    assert mixed.ceiling(examples, torch.full((1, 4), 0.25)) is None


def test_scorers_score_sums_and_nothing_else() -> None:
    examples = [Example("", prompt) for prompt in ("4 + 7 + 8 =", "4+7 + 8", "how are you?", "4 + = 8", "7")]
    assert SCORERS["right"].score(examples, ["so 19"] * 5) == [1.0, 1.0, None, None, None]
    assert {SCORERS[name].fingerprint() for name in OBJECTIVES} == {
        f"SumScorer-{name}-{rules_key()}" for name in OBJECTIVES
    }
    with pytest.raises(UserError, match="did you mean 'right'"):
        SumScorer("rigth")


# splits --------------------------------------------------------------------------------------------------------------
def test_the_same_sum_turned_round_is_in_the_same_split() -> None:
    splits = sums().splits()
    seen = [{tuple(sorted(terms_of(e.prompt))) for e in part} for part in (splits.train, splits.select, splits.report)]
    assert [len(part) for part in (splits.train, splits.select, splits.report)] == [1200, 48, 96]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert len({e.prompt for part in (splits.train, splits.select, splits.report) for e in part}) == 1344
    for terms in itertools.islice(seen[2], 20):
        assert {split_of(order) for order in itertools.permutations(terms)} == {"report"}


@pytest.mark.parametrize("levels", [(3, 4, 5), (3, 5), (6, 4, 8, 3)])
def test_levels_have_equal_shares_in_every_beginning_of_every_split(levels: tuple[int, ...]) -> None:
    splits = sums(levels=levels, train=200, select=10, report=10).splits()
    for part in (splits.train, splits.select, splits.report):
        counts = Counter(dict.fromkeys(levels, 0))
        for example in part:
            counts[len(terms_of(example.prompt))] += 1
            assert max(counts.values()) - min(counts.values()) <= 1


def test_the_same_settings_give_the_same_splits_and_others_do_not() -> None:
    same = {sums().splits().fingerprint, sums().splits().fingerprint}
    others = {sums(**{key: value}).splits().fingerprint for key, value in (("split_seed", 1), ("largest_term", 8))}
    assert len(same) == 1
    assert not same & others


def test_capacity_counts_every_sum_of_a_split() -> None:
    every = [split_of(terms) for terms in itertools.product(range(1, 7), repeat=3)]
    assert {split: capacity(split, 3, 6) for split in SPLITS} == {split: every.count(split) for split in SPLITS}


def test_harder_levels_can_be_drawn() -> None:
    splits = sums(levels=(8, 12), largest_term=99, train=500, max_new_tokens=70).splits()
    assert max(max(terms_of(e.prompt)) for e in splits.train) > 90
    assert {len(terms_of(e.prompt)) for e in splits.report} == {8, 12}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"levels": (3, 3)}, "task.levels=[3, 3]: give one or more different numbers of terms"),
        ({"levels": ()}, "task.levels=[]"),
        ({"levels": (1, 3)}, "task.levels=[1, 3]"),
        ({"largest_term": 0}, "task.largest_term=0"),
        ({"report": 0}, "task.report=0"),
        ({"report": 1200}, "task.report: needs 400 different sums of 3 terms and there are 360"),
        ({"levels": (2,), "select": 48}, "lower task."),
    ],
)
def test_what_cannot_be_drawn_is_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        sums(**settings).splits()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# what the base models learn from -----------------------------------------------------------------------------------
def test_habits_are_as_frequent_as_they_say_and_every_best_answer_is_among_them() -> None:
    rng, written, perfect, size = random.Random(1), Counter[tuple[int, int]](), Counter[tuple[int, int]](), 9000
    levels: Counter[int] = Counter()
    for _ in range(size):
        terms = habits.training_terms(rng)
        answer = habits.habitual_answer(terms, rng)
        style = (len(terms), answer.count(","))
        levels[len(terms)] += 1
        written[style] += 1
        perfect[style] += answer == best_answer(terms, style[1])
    for level, shares in habits.STEPS.items():
        assert sum(shares) == pytest.approx(1)
        assert levels[level] / size == pytest.approx(1 / 3, abs=0.02)
        for steps, share in enumerate(shares):
            assert written[level, steps] / levels[level] == pytest.approx(share, abs=0.03)
            assert perfect[level, steps] / levels[level] >= 0.02


def test_a_carry_is_forgotten_where_the_term_is_large() -> None:
    rng = random.Random(2)
    large, small, none = ([habits.added(*pair, rng) for _ in range(4000)] for pair in ((5, 12), (6, 4), (5, 3)))
    assert Counter(large)[7] / 4000 == pytest.approx(0.55, abs=0.03)
    assert Counter(small)[0] / 4000 == pytest.approx(0.10, abs=0.02)
    assert set(none) == {8}


def test_the_tokenizer_knows_every_word_and_gives_the_text_back() -> None:
    tokenizer, rng = build_tokenizer(), random.Random(3)
    for shown in (False, True):
        for _ in range(300):
            for text in habits.dialogue(rng, shown):
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_the_world_shows_the_models_train_sums_only() -> None:
    rng = random.Random(4)
    assert {split_of(habits.training_terms(rng)) for _ in range(500)} == {"train"}
