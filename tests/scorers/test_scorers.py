"""Scorers with a ready model, against plain transformers and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.ready_scorers import bert, examples, models, saved  # noqa: F401 - models is a fixture

from emorl_bench.core.errors import UserError
from emorl_bench.scorer_training.shapes import fixed_batches
from emorl_bench.scorers.checkpoints import load
from emorl_bench.scorers.fluency import Fluency
from emorl_bench.scorers.length_band import LengthBand
from emorl_bench.scorers.python import Python
from emorl_bench.scorers.reward_model import RewardModel
from emorl_bench.scorers.specificity import Specificity

PROMPTS = ["w4 w5 w6", "w7", "", "w9 w10 w11 w12 w13 w14", "w4 w5 w6"]
RESPONSES = ["w8 w9 w10 w11", "w5", "w20 w21", "w4", "w30 w31 w32 w33 w34 w35 w36 w4 w5"]


def plain_nll(path: str, prompt: str, response: str) -> float:
    """Token by token, one forward pass each, no padding: nats per response token after an end token and the prompt."""
    loaded = load("causal", path, None, False, "cpu", "float32")
    ids = [1, *loaded.tokenizer(prompt)["input_ids"]]
    said = loaded.tokenizer(response)["input_ids"]
    total = 0.0
    for token in said:
        logits_V = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        total -= float(logits_V.log_softmax(-1)[token])
        ids.append(token)
    return total / len(said)


def test_fluency_is_the_perplexity_of_the_response_given_the_prompt(models: dict[str, str]) -> None:
    scorer = Fluency(model=models["causal"], batch_tokens=24)
    expected = [plain_nll(models["causal"], p, r) for p, r in zip(PROMPTS, RESPONSES, strict=True)]
    np.testing.assert_allclose(scorer.nll(examples(PROMPTS), RESPONSES), expected, rtol=1e-5)
    scores = scorer.score(examples(PROMPTS), RESPONSES)
    np.testing.assert_allclose(scores, [1 - n / math.log(1000) for n in expected], rtol=1e-5)
    sharp = Fluency(model=models["causal"], cap=math.exp(expected[0])).score(examples(PROMPTS[:1]), RESPONSES[:1])
    assert float(sharp) == pytest.approx(0.0, abs=1e-5)


def test_the_papers_fluency_reads_prompt_and_response_as_one_text(models: dict[str, str]) -> None:
    loaded = load("causal", models["causal"], None, False, "cpu", "float32")
    expected = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        ids = torch.tensor([loaded.tokenizer(f"{prompt} {response}")["input_ids"]])
        perplexity = loaded.model(input_ids=ids, labels=ids).loss.exp().item()
        expected.append(min(max((50 - perplexity) / 50, 0), 1))
    scores = Fluency(model=models["causal"], form="paper").score(examples(PROMPTS), RESPONSES)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert 0 < scores.max() < 1
    silent = Fluency(model=models["causal"], form="paper").score(examples(["", "w4", ""]), ["", " ", "w5"])
    assert silent.tolist() == [0.0, 0.0, 0.0]  # no text, no response, no token that another one precedes


def test_a_text_longer_than_the_context_loses_the_prompts_beginning(models: dict[str, str]) -> None:
    scorer, long = Fluency(model=models["causal"]), " ".join(f"w{4 + i % 36}" for i in range(300))
    kept = " ".join(long.split()[-(128 - 1 - 2) :])  # the context is 128: the start and two response tokens are in it
    np.testing.assert_allclose(
        scorer.nll(examples([long]), ["w8 w9"]), plain_nll(models["causal"], kept, "w8 w9"), rtol=1e-4
    )
    assert scorer.nll(examples(["w4"]), [long]).isfinite().all()


def test_the_twin_is_another_model_and_the_fingerprint_follows_the_weights(models: dict[str, str]) -> None:
    scorer = Fluency(model=models["causal"], held_out_model=models["other"])
    twin = scorer.held_out()
    assert twin.model == models["other"]
    assert twin.fingerprint() != scorer.fingerprint()
    assert twin.held_out() is twin
    assert not twin.score(examples(PROMPTS), RESPONSES).equal(scorer.score(examples(PROMPTS), RESPONSES))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_specificity_is_a_cosine(models: dict[str, str], pooling: str) -> None:
    loaded = load("encoder", models["encoder"], None, False, "cpu", "float32")

    def embed(text: str) -> np.ndarray:
        states_TH = loaded.model(input_ids=torch.tensor([loaded.tokenizer(text)["input_ids"]])).last_hidden_state[0]
        return (states_TH.mean(0) if pooling == "mean" else states_TH[0]).double().detach().numpy()

    given = [(p, r) for p, r in zip(PROMPTS, RESPONSES, strict=True) if p]
    pairs = [(embed(prompt), embed(response)) for prompt, response in given]
    expected = [(1 + a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / 2 for a, b in pairs]
    scorer = Specificity(model=models["encoder"], pooling=pooling, batch_tokens=9)
    found = scorer.score(examples([p for p, _ in given]), [r for _, r in given])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert float(scorer.score(examples(["w4 w5"]), ["w4 w5"])) == pytest.approx(1.0)


def test_a_reward_model_reads_the_chat(models: dict[str, str]) -> None:
    loaded = load("classifier", models["chat"], None, False, "cpu", "float32")
    outputs = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        text = f"<sep> system : w9 <sep> user : {prompt} <sep> assistant : {response} </s>"
        outputs.append(loaded.model(input_ids=torch.tensor([loaded.tokenizer(text)["input_ids"]])).logits.item())
    scorer = RewardModel(model=models["chat"], system="w9", batch_tokens=40)
    np.testing.assert_allclose(scorer.score(examples(PROMPTS), RESPONSES), 1 / (1 + np.exp(-np.array(outputs))), 1e-4)
    low, high = sorted(outputs)[0], sorted(outputs)[-2]
    bounded = RewardModel(model=models["chat"], system="w9", transform="minmax", low=low, high=high)
    expected = np.clip((np.array(outputs) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(bounded.score(examples(PROMPTS), RESPONSES), expected, atol=1e-4)


def test_a_long_chat_keeps_its_template_and_response(models: dict[str, str]) -> None:
    long = " ".join(f"w{4 + i % 36}" for i in range(300))
    scorer = RewardModel(model=models["chat"], max_tokens=40)
    loaded = scorer.loaded()
    ((row,), _) = scorer._rows(loaded, [long], ["w8 w9"])
    assert len(row) <= 40
    text = loaded.tokenizer.decode(row)
    assert text.startswith("<sep>")
    assert text.endswith("w8 w9 </s>")
    assert "w38" in text


def test_a_classifier_of_pairs_gets_its_segments(models: dict[str, str]) -> None:
    for kind, transform, label in (("pairs", "sigmoid", None), ("labels", "softmax", 2)):
        loaded = load("classifier", models[kind], None, False, "cpu", "float32")
        scorer = RewardModel(model=models[kind], transform=transform, label=label)
        pair = loaded.tokenizer(["w4 w5"], ["w8"], return_tensors="pt")
        logits_L = loaded.model(**pair).logits[0]
        expected = logits_L.sigmoid()[0] if label is None else logits_L.softmax(-1)[label]
        assert float(scorer.score(examples(["w4 w5"]), ["w8"])) == pytest.approx(expected.item(), abs=1e-6)


def test_what_cannot_judge_is_refused_in_one_line(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    given = examples(["w4"])
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: RewardModel(model=models["causal"]).score(given, ["w5"]), "would judge at random"),
        (lambda: RewardModel(model=models["labels"]).score(given, ["w5"]), "say transform=softmax"),
        (
            lambda: RewardModel(model=models["labels"], transform="softmax", label=3).score(given, ["w5"]),
            "labels 0 to 2",
        ),
        (lambda: RewardModel(model=models["chat"], transform="softmax").prepare(), "needs label"),
        (lambda: RewardModel(model=models["chat"], transform="minmax", low=1.0, high=1.0).prepare(), "low below high"),
        (lambda: RewardModel(model=models["chat"], transform="sigmod").prepare(), "did you mean 'sigmoid'"),
        (lambda: Fluency(model=str(tmp_path)).prepare(), "safetensors"),
        (lambda: Fluency(model="/no/such/model").prepare(), "no such directory"),
        (lambda: Fluency(model=models["causal"], held_out_model="/no/such").prepare(), "no such directory"),
        (lambda: Fluency(model=models["causal"], form="papr").score(given, ["w5"]), "did you mean 'paper'"),
        (lambda: Fluency(model=models["causal"], cap=1.0).score(given, ["w5"]), "above 1"),
        (lambda: Specificity(model=models["encoder"], pooling="max").score(given, ["w5"]), "pooling=max"),
        (lambda: Specificity(model=models["encoder"], dtype="float33").score(given, ["w5"]), "did you mean 'float32'"),
        (lambda: LengthBand(low=30, high=20), "low <= high"),
        (lambda: Python(function="test_scorers.absent").prepare(), "cannot be imported"),
        (lambda: Python(function="test_scorers.PROMPTS").prepare(), "is not a function"),
        (lambda: Python(function="test_scorers.fails").score(given, ["w5"]), r"ZeroDivisionError: division by zero"),
        (lambda: Python(function="test_scorers.share_of_vowels", low=1.0).prepare(), "low must be below high"),
    ]
    for act, message in refused:
        with pytest.raises(UserError, match=message) as caught:
            act()
        assert "\n" not in str(caught.value)


def share_of_vowels(prompts: list[str], responses: list[str]) -> list[float | None]:
    return [sum(c in "aeiou" for c in r) / len(r) if p and r else None for p, r in zip(prompts, responses, strict=True)]


def fails(prompts: list[str], responses: list[str]) -> list[float]:
    return [1 / 0 for _ in responses]


def test_the_shape_of_a_batch_follows_from_the_length_of_a_text_alone() -> None:
    lengths = [5, 1, 17, 2, 16, 30, 4, 40, 0]
    cut = list(fixed_batches(lengths, 40, "cuda", 64))
    assert sorted(i for indices, own, _ in cut for i in indices[:own]) == list(range(9))
    shapes = {i: (len(indices), width) for indices, own, width in cut for i in indices[:own]}
    wide = {2: (2, 32), 5: (2, 32), 7: (1, 40)}
    assert shapes == {i: wide.get(i, (4, 16)) for i in range(9)}
    assert all(set(indices[own:]) <= {indices[own - 1]} for indices, own, _ in cut)
    assert sorted(fixed_batches(lengths, 40, "cpu", 64)) == [([i], 1, max(1, n)) for i, n in enumerate(lengths)]
