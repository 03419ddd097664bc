"""Weight searches on known surfaces: the optimum is found in the stated number of evaluations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from emorl_bench.search.hierarchical import HierarchicalGrid
from emorl_bench.search.simplex import SimplexSubdivision, subdivide
from emorl_bench.search.successive_halving import directions


def run(strategy, experts, surface):
    search, asked = strategy.start(experts), []
    while len(weights := search.ask()):
        asked.append(weights)
        search.tell(weights, surface(weights))
    return search.best(), torch.cat(asked)


@pytest.mark.parametrize("experts", [1, 2, 3, 4, 5])
def test_cube_finds_the_peak(experts):
    peak = torch.linspace(0.2, 0.8, experts, dtype=torch.float64)
    best, asked = run(HierarchicalGrid(5), experts, lambda w: -((w - peak) ** 2).sum(1))
    assert len(asked) == HierarchicalGrid(5).evaluations(experts) == 5 * 3**experts
    assert (best - peak).abs().max() <= 1 / 32


@pytest.mark.parametrize("experts", [1, 2, 3, 4, 5])
def test_simplex_finds_the_peak(experts):
    weights = torch.arange(1, experts + 1, dtype=torch.float64)
    peak = weights / weights.sum()
    best, asked = run(SimplexSubdivision(5), experts, lambda w: -((w - peak) ** 2).sum(1))
    stated = SimplexSubdivision(5).evaluations(experts)
    assert stated == {1: 1, 2: 7, 3: 18, 4: 34, 5: 55}[experts]
    assert len(asked) <= stated
    torch.testing.assert_close(asked.sum(1), torch.ones(len(asked), dtype=torch.float64))
    assert (best - peak).abs().max() <= 1 / 16


def test_paper_counts_for_three_experts():
    """135 evaluations of which 103 are distinct points (the published ledger's number of prompts is 135 * 32)."""
    peak = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    _, asked = run(HierarchicalGrid(5), 3, lambda w: -((w - peak) ** 2).sum(1))
    assert len(asked) == 135
    assert len(asked.unique(dim=0)) == 103
    assert len(directions(asked).mul(2**20).round().unique(dim=0)) < 103


@pytest.mark.parametrize("experts", [2, 3, 4, 5])
def test_subdivision_tiles_the_simplex(experts):
    """2^(M-1) pieces of equal volume that sum to the whole."""
    corners = [tuple(8 if i == j else 0 for j in range(experts)) for i in range(experts)]
    whole = abs(torch.tensor(corners, dtype=torch.float64).det())
    pieces = list(subdivide(corners))
    volumes = [abs(torch.tensor(piece, dtype=torch.float64).det()) for piece in pieces]
    assert len(pieces) == 2 ** (experts - 1) == len({frozenset(piece) for piece in pieces})
    assert all(math.isclose(v, whole / len(pieces)) for v in volumes)


def test_searches_never_ask_twice_on_the_simplex():
    for seed, experts in itertools.product(range(5), (2, 3, 4)):
        noise = torch.Generator().manual_seed(seed)
        _, asked = run(SimplexSubdivision(5), experts, lambda w, g=noise: torch.rand(len(w), generator=g))
        assert len(asked) == len(asked.unique(dim=0))


def test_directions_sum_to_one_and_the_origin_stays():
    weights = torch.tensor([[0.5, 1.0, 0.5], [0.0, 0.0, 0.0]])
    assert directions(weights).tolist() == [[0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]
