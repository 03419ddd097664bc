"""Rows of a decode tree against the prefixes themselves, kept as tuples."""

from __future__ import annotations

import pytest
import torch

from emorl_bench.decoding.prefix_tree import PrefixTree


@pytest.mark.parametrize("seed", range(20))
def test_every_output_reads_the_row_of_its_own_prefix(seed):
    rng = torch.Generator().manual_seed(seed)
    starts, outputs, words = 5, 23, 3
    start_O = torch.cat([torch.arange(starts), torch.randint(starts, (outputs - starts,), generator=rng)])
    tree = PrefixTree(start_O, starts)
    prefix = {o: (int(s),) for o, s in enumerate(start_O)}
    content = [(s,) for s in range(starts)]  # what each row holds, moved as the tree says
    for _ in range(15):
        living = tree.output_L.tolist()
        token_L = torch.randint(words, (len(living),), generator=rng)
        ended_L = torch.rand(len(living), generator=rng) < 0.1
        prefix |= {o: (*prefix[o], token) for o, token in zip(living, token_L.tolist(), strict=True)}
        fed_R, moves = tree.grow(token_L, ended_L, 100)
        assert tree.output_L.tolist() == [o for o, e in zip(living, ended_L.tolist(), strict=True) if not e]
        if not tree.rows:
            break
        if moves is not None:
            assert not set(moves.source.tolist()) & set(moves.target.tolist())  # so all copies can be made at once
            places = content + [()] * max(0, moves.rows - len(content))
            for source, target in zip(moves.source.tolist(), moves.target.tolist(), strict=True):
                places[target] = content[source]
            content = places[: moves.rows]
        content = [(*held, token) for held, token in zip(content, fed_R.tolist(), strict=True)]
        assert len(content) == tree.rows == len(set(content))
        assert {content[r] for r in tree.row_L.tolist()} == set(content)
        assert [content[r] for r in tree.row_L.tolist()] == [prefix[o] for o in tree.output_L.tolist()]


def test_rows_that_have_parted_stay_where_they_are():
    tree = PrefixTree(torch.tensor([2, 0, 1]), 3)
    fed_R, moves = tree.grow(torch.tensor([7, 7, 8]), torch.zeros(3, dtype=torch.bool), 100)
    assert moves is None
    assert fed_R.tolist() == [7, 8, 7]
