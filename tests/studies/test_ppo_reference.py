"""The reference of PPO: the judge that TRL's half asks, and the table that both halves make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WordShare, word_prompts, word_tokenizer

from studies.ppo_reference import compare

theirs = pytest.importorskip("studies.ppo_reference.theirs")


def test_the_judge_scores_each_answer_to_its_own_prompt_without_padding_and_end() -> None:
    tokenizer, examples = word_tokenizer(), word_prompts(3)
    ids = [tokenizer(e.prompt)["input_ids"] for e in examples]
    scorer = {"_target_": "conftest.WordShare", "name": "even", "remainder": 0}
    setup = {
        "task": {"_target_": "types.SimpleNamespace", "scorers": {"even": scorer}},
        "train": [{"id": e.id, "prompt": e.prompt, "ids": row} for e, row in zip(examples, ids, strict=True)],
        "eos": 1,
    }
    width = max(map(len, ids))
    said = [[4, 5, 6, 1, 0], [5, 1, 0, 0, 0], [8, 8, 8, 8, 8]]
    whole = torch.cat([theirs.padded(ids, width, 0), torch.tensor(said)], 1)
    judge = theirs.Judge(setup, tokenizer, width)
    hidden = judge.backbone(whole, whole != 0).hidden_states[-1]
    found = judge.score(hidden)
    assert found.shape == (3, width + 5, 1)
    expected = WordShare("even", 0).score(examples, ["w4 w5 w6", "w5", "w8 w8 w8 w8 w8"])
    torch.testing.assert_close(found[:, -1, 0], expected)
    assert expected.tolist() == pytest.approx([2 / 3, 0, 1])


def test_the_table_has_the_paired_difference_of_the_last_quarters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own, other = rng.random((2, 3, 8))
    setup = {"steps": 8, "prompts": 4, "assets": {"model": "m", "fingerprint": "f"}}
    for side, curves in (("ours", own), ("theirs", other)):
        told = {str(seed): {"reward": list(row), "kl": list(row)} for seed, row in enumerate(curves)}
        (tmp_path / f"{side}.json").write_text(
            json.dumps({"side": side, "curves": told, "trl": "1.12.0", "setup": setup})
        )
    compare.main(["--dir", str(tmp_path)])
    gaps = own[:, -2:].mean(1) - other[:, -2:].mean(1)
    half = 4.302653 * gaps.std(ddof=1) / 3**0.5
    assert f"{gaps.mean():+.3f} ± {half:.3f}" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 10_000
