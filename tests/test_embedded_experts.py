"""The embedded task is a real experiment: experts reach their objective, and at another's expense."""

from __future__ import annotations

import pytest
from emorl_bench.runner.expert_checks import expert_checks


@pytest.mark.parametrize("model", ["tiny_t5", "tiny_gpt2"])
def test_experts_learn_their_objective_and_the_conflict_is_real(model: str) -> None:
    checks = expert_checks(model)
    assert len(checks) == 4
    assert [f"{c.name}: {c.value:.3f}, wanted {c.wanted}" for c in checks if not c.met] == []
