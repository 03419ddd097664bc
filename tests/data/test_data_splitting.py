"""Who may see what: no group in two parts, no near-duplicate across parts, checked against brute force."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping, Sequence
from itertools import combinations

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data.splitting import divide, protected

SHARES = {"scorer": 0.35, "held_out": 0.35, "select": 0.1, "report": 0.2}
Item = tuple[str, str]  # group, text


def jaccard(one: str, other: str) -> float:
    a, b = (set(re.findall(r"\w+", text.lower())) or {text.strip().lower()} for text in (one, other))
    return len(a & b) / len(a | b)


def texts(rng: random.Random, count: int) -> list[str]:
    """Few words and many small edits, so that similarities lie on both sides of the threshold and on it."""
    found: list[str] = []
    for _ in range(count):
        if found and rng.random() < 0.5:
            words = rng.choice(found).split()
            words[rng.randrange(len(words))] = f"w{rng.randrange(40)}"
            rng.shuffle(words)
        else:
            words = [f"w{rng.randrange(40)}" for _ in range(rng.randrange(1, 25))]
        found.append(" ".join(words))
    return found


def brute_force(cut: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """From the last part back: what is near anything that is kept so far goes."""
    kept: dict[str, list[str]] = {}
    for name in reversed(list(cut)):
        later = [text for part in kept.values() for text in part]
        kept[name] = [text for text in cut[name] if all(jaccard(text, other) < 0.8 for other in later)]
    return kept


@pytest.mark.parametrize("seed", range(25))
def test_near_duplicates_are_those_that_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)
    every = texts(rng, 120)
    cut = {"train": every[:70], "select": every[70:90], "report": every[90:]}
    division = protected(cut, lambda text: text)
    oracle = brute_force(cut)
    assert division.parts == {name: oracle[name] for name in cut}
    assert division.removed == {name: len(cut[name]) - len(oracle[name]) for name in cut}
    assert list(division.parts) == list(cut)
    assert division.removed["report"] == 0


def test_the_oracle_has_something_to_find() -> None:
    rng = random.Random(0)
    every = texts(rng, 120)
    similarities = {round(jaccard(a, b), 3) for a, b in combinations(every, 2)}
    assert 0.8 in similarities  # the threshold itself is met, and counts
    assert sum(protected({"a": every[:90], "b": every[90:]}, lambda text: text).removed.values()) > 5


@pytest.mark.parametrize("seed", range(10))
def test_no_group_is_in_two_parts_and_all_is_accounted_for(seed: int) -> None:
    rng = random.Random(seed)
    items: list[Item] = [(f"G{rng.randrange(60)}", text) for text in texts(rng, 200)]
    division = divide(items, lambda item: item[0], SHARES, seed, text=lambda item: item[1])
    owners = [{group for group, _ in part} for part in division.parts.values()]
    assert all(not one & other for one, other in combinations(owners, 2))
    assert sum(map(len, division.parts.values())) + sum(division.removed.values()) == len(items)
    for one, other in combinations(division.parts.values(), 2):
        assert all(jaccard(a, b) < 0.8 for _, a in one for _, b in other)


def test_shares_are_of_groups_and_the_order_of_items_decides_nothing() -> None:
    items = [f"text number {i} says x{i} y{i} z{i}" for i in range(200)]
    division = divide(items, lambda text: text, SHARES)
    assert {name: len(part) for name, part in division.parts.items()} == {
        "scorer": 70, "held_out": 70, "select": 20, "report": 40,
    }  # fmt: skip
    backwards = divide(items[::-1], lambda text: text, SHARES)
    assert backwards == division
    other = divide(items, lambda text: text, SHARES, seed=1)
    assert other.fingerprint != division.fingerprint
    assert 0 < len(set(other.parts["report"]) & set(division.parts["report"])) < 20  # 8 by chance


def test_case_and_white_space_do_not_make_another_group() -> None:
    items = [f"text {i} about a{i} b{i}" for i in range(40)] + [f"  Text {i}  ABOUT a{i} b{i}" for i in range(40)]
    division = divide(items, lambda text: text, SHARES)
    for part in division.parts.values():
        assert len({" ".join(text.lower().split()) for text in part}) * 2 == len(part)
    assert not any(division.removed.values())


def test_texts_without_words_are_compared_as_they_are() -> None:
    division = protected({"train": ["?!", "…", ""], "report": ["?!", "the end"]}, lambda text: text)
    assert division.parts["train"] == ["…", ""]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_groups_are_an_error_and_as_many_as_parts_are_not(count: int) -> None:
    with pytest.raises(UserError, match=f"{count} distinct texts cannot make 4 parts"):
        divide([f"only {i}" for i in range(count)], lambda text: text, SHARES)
    smallest = divide(["one a", "two b", "three c", "four d"], lambda text: text, SHARES)
    assert all(len(part) == 1 for part in smallest.parts.values())


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        divide(list("abcdef"), str, {"train": 0.5, "report": 0.4})


def test_reviews_are_divided_in_seconds() -> None:
    """5,000 texts of review length over a vocabulary with a long tail; 25,000 real reviews take about 10 s."""
    rng = random.Random(0)
    words = [f"w{int(10 ** (rng.random() * 4.5))}" for _ in range(200_000)]
    reviews = [" ".join(rng.sample(words, rng.randrange(50, 200))) for _ in range(5000)]
    started = time.perf_counter()
    divide(reviews, lambda text: text, SHARES)
    assert time.perf_counter() - started < 20
