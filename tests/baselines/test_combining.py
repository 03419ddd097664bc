"""Ways of combining experts, each against a plain second calculation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from conftest import make_bank, shaken, tiny_model, word_prompts
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from baselines.aim import Aim, salience
from baselines.dare import Dare
from baselines.mod import Mod
from baselines.param_merge import Soup
from baselines.ram import Ram
from baselines.ties import Ties
from emorl_bench.config.compose import conf_dir
from emorl_bench.core.errors import UserError
from emorl_bench.core.seeds import stream
from emorl_bench.core.types import Budget, Rollout, Sampling
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.ensemble.dense import dense_adapter, update
from emorl_bench.models.lora import Adapter
from emorl_bench.rl.experts import expert_bank, expert_budget, expert_dir
from emorl_bench.rl.kl import kl_to_reference
from emorl_bench.search.simplex import SimplexSubdivision

NAMES = ("param_merge", "mod", "ties", "dare", "ram", "aim")
GREEDY = Sampling(10, temperature=0.0)
SAMPLED = Sampling(10, temperature=1.0, samples_per_prompt=3)
SEARCH = SimplexSubdivision(2)
WEIGHTS = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def experts(architecture="gpt2", dtype=torch.float32):
    bank = make_bank(architecture, dtype=dtype)
    return bank, [shaken(bank, seed) for seed in (1, 2, 3)]


def random_adapter(seed: int, shapes: dict[str, tuple[int, int]]) -> Adapter:
    rng = torch.Generator().manual_seed(seed)

    def pair(outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        draw = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((2, inputs), (outputs, 2))]
        return draw[0], draw[1]

    return Adapter({name: pair(*shape) for name, shape in shapes.items()}, scale=2.0)


SHAPES = {"wide": (3, 7), "tall": (6, 4)}
TRIO = [random_adapter(seed, SHAPES) for seed in (1, 2, 3)]


def entries(adapter: Adapter) -> list[float]:
    """All entries of ``scale * B A``, layer by layer, one product at a time."""
    found = []
    for layer in SHAPES:
        a, b = adapter.factors[layer]
        for o in range(b.shape[0]):
            for i in range(a.shape[1]):
                found.append(adapter.scale * sum(b[o, r].item() * a[r, i].item() for r in range(a.shape[0])))
    return found


def trimmed(values: Sequence[float], density: float) -> list[float]:
    largest = sorted(range(len(values)), key=lambda e: -abs(values[e]))[: max(1, round(density * len(values)))]
    return [value if e in largest else 0.0 for e, value in enumerate(values)]


# dense weights ------------------------------------------------------------------------------------
def test_a_dense_update_goes_through_an_adapter_to_the_bit() -> None:
    drawn = {name: torch.randn(shape, generator=stream(4)) for name, shape in SHAPES.items()}
    adapter = dense_adapter(drawn)
    assert all(update(adapter, name).equal(drawn[name]) for name in SHAPES)


@pytest.mark.parametrize("merge", [Ties(), Dare(0.3, 7), Ram()], ids=lambda m: type(m).__name__)
def test_a_dense_merge_is_decoded_as_the_dense_weights(architecture, merge) -> None:
    """Second implementation: the merged update added to the base model's own weights."""
    bank, trio = experts(architecture, torch.float64)
    merged = merge.blend(trio, WEIGHTS[None]).generate(word_prompts(5), SAMPLED, stream(0))
    one = merge.merged([e.own for e in trio], WEIGHTS)
    for name, layer in bank.backbone.layers.items():
        delta = update(one, name).double()
        layer.base.weight += delta.T if isinstance(layer.base, Conv1D) else delta
    dense = trio[0].reference().generate(word_prompts(5), SAMPLED, stream(0))
    assert merged.responses == dense.responses
    torch.testing.assert_close(merged.logprobs_BT, dense.logprobs_BT, atol=1e-5, rtol=0)


@pytest.mark.parametrize("merge", [Ties(), Dare(0.3, 7), Ram()], ids=lambda m: type(m).__name__)
def test_many_weight_vectors_are_one_after_the_other_with_the_same_random_numbers(merge) -> None:
    _, trio = experts()
    weights = torch.rand(3, 3, generator=stream(1), dtype=torch.float64)
    at_once = merge.blend(trio, weights).generate(word_prompts(4), SAMPLED, stream(0))
    single = [merge.blend(trio, w[None]).generate(word_prompts(4), SAMPLED, stream(0)) for w in weights]
    assert at_once.responses == sum((r.responses for r in single), ())
    assert at_once.group_size == 3


# TIES, DARE, RAM ------------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.5, 0.3), (0.0, 0.7, 0.3)])
def test_ties_by_hand(weights) -> None:
    own = [trimmed(entries(adapter), 0.4) for adapter in TRIO]
    expected = []
    for values in zip(*own, strict=True):
        total = sum(w * v for w, v in zip(weights, values, strict=True))
        agree = [(w, v) for w, v in zip(weights, values, strict=True) if v * total > 0 and w > 0]
        expected.append(1.5 * sum(w * v for w, v in agree) / sum(w for w, _ in agree) if agree else 0.0)
    found = entries(Ties(0.4, 1.5).merged(TRIO, torch.tensor(weights, dtype=torch.float64)))
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 < expected.count(0.0) < len(expected)


def test_ties_of_one_expert_is_its_trimmed_self() -> None:
    for m, adapter in enumerate(TRIO):
        one_hot = torch.eye(3, dtype=torch.float64)[m]
        assert entries(Ties(0.4).merged(TRIO, one_hot)) == pytest.approx(trimmed(entries(adapter), 0.4), abs=1e-12)
        assert entries(Ties(1.0).merged(TRIO, one_hot)) == pytest.approx(entries(adapter), abs=1e-12)


def test_dare_by_hand() -> None:
    drop, found = 0.4, entries(Dare(0.4, 11).merged(TRIO, WEIGHTS))
    kept = []
    for m in range(3):
        masks = [torch.rand(shape, generator=stream(11, "dare", m, name)) >= drop for name, shape in SHAPES.items()]
        kept.append(torch.cat([mask.flatten() for mask in masks]).tolist())
    own = [entries(adapter) for adapter in TRIO]
    expected = [
        sum(w * own[m][e] / (1 - drop) for m, w in enumerate(WEIGHTS.tolist()) if kept[m][e])
        for e in range(len(own[0]))
    ]
    assert found == pytest.approx(expected, abs=1e-12)


def test_dare_is_the_soup_on_average_and_has_the_variance_that_it_says() -> None:
    drop, seeds = 0.6, 600
    drawn = torch.tensor([entries(Dare(drop, seed).merged(TRIO, WEIGHTS)) for seed in range(seeds)])
    own_ME = torch.tensor([entries(adapter) for adapter in TRIO])
    soup_E = torch.tensor(entries(Soup().merged(TRIO, WEIGHTS)))
    variance_E = (drop / (1 - drop) * (WEIGHTS[:, None] * own_ME) ** 2).sum(0)
    off_E = (drawn.mean(0) - soup_E) / (variance_E / seeds).sqrt()
    assert off_E.abs().max() < 4
    assert (drawn.var(0) / variance_E).log().abs().max() < 0.4
    assert entries(Dare(0.0, 1).merged(TRIO, WEIGHTS)) == pytest.approx(soup_E.tolist(), abs=1e-6)


@pytest.mark.parametrize("weights", [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.5, 0.3), (0.0, 0.7, 0.3)])
def test_ram_by_hand(weights) -> None:
    own = [trimmed(entries(adapter), 0.4) for adapter in TRIO]
    changed = [[w > 0 and abs(v) > 0.5 for v in values] for w, values in zip(weights, own, strict=True)]
    count = [sum(flags) for flags in zip(*changed, strict=True)]
    stretch = []
    for flags in changed:
        shared = sum(flag and c > 1 for flag, c in zip(flags, count, strict=True))
        unique = sum(flag and c == 1 for flag, c in zip(flags, count, strict=True))
        stretch.append(1 + 0.3 * min(shared / unique, 0.9) if unique else 1.0)
    expected = []
    for e, c in enumerate(count):
        those = [m for m in range(3) if changed[m][e]]
        mean = sum(weights[m] * own[m][e] for m in those) / max(sum(weights[m] for m in those), 1e-9)
        expected.append(stretch[those[0]] * own[those[0]][e] if c == 1 else mean)
    rule = Ram(density=0.4, threshold=0.5, rescale=0.3, ceiling=0.9)
    assert entries(rule.merged(TRIO, torch.tensor(weights, dtype=torch.float64))) == pytest.approx(expected, abs=1e-9)
    assert {0, 1, 2} <= set(count)


def test_ram_is_the_soup_where_everything_is_shared() -> None:
    """Which is what LoRA's dense updates are at the release's threshold."""
    merged = Ram(density=1.0).merged(TRIO, WEIGHTS)
    assert entries(merged) == pytest.approx(entries(Soup().merged(TRIO, WEIGHTS)), abs=1e-9)


# AIM ------------------------------------------------------------------------------------------------
def plain_salience(architecture: str, rollout: Rollout, bank) -> dict[str, Tensor]:
    """Second implementation: an untouched model, plain forward passes row by row, inputs kept and averaged."""
    model, seen = tiny_model(architecture).eval(), {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not model.get_output_embeddings():
            module.register_forward_hook(
                lambda _, given, __, name=name: seen.setdefault(name, []).append(given[0].flatten(0, -2))
            )
    for example, ids, mask in zip(rollout.examples, rollout.response_ids_BT, rollout.response_mask_BT, strict=True):
        prompt, answer = bank.backbone.prompt_ids(example.context), ids[mask].tolist()
        with torch.no_grad():
            if architecture == "t5":
                model(torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *answer[:-1]]]))
            else:
                model(torch.tensor([[*prompt, *answer[:-1]]]))
    means = {name: torch.cat(rows).abs().double().mean(0) for name, rows in seen.items()}
    return {name: mean_I / mean_I.max() for name, mean_I in means.items()}


def test_salience_is_that_of_the_base_model_without_padding(architecture) -> None:
    bank, trio = experts(architecture)
    rollout = trio[0].reference().generate(word_prompts(5), replace(SAMPLED, samples_per_prompt=1), stream(3))
    found, expected = salience(trio, rollout), plain_salience(architecture, rollout, bank)
    assert found.keys() == expected.keys() == bank.backbone.layers.keys()
    for name, mean_I in expected.items():
        torch.testing.assert_close(found[name], mean_I, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inner", [Soup(), Ties()], ids=lambda m: type(m).__name__)
def test_aim_scales_the_columns_of_the_merge_and_nothing_at_omega_1(inner) -> None:
    seen = {name: torch.linspace(1, 0, shape[1], dtype=torch.float64) for name, shape in SHAPES.items()}
    merged = inner.merged(TRIO, WEIGHTS)
    for omega in (0.0, 0.4, 1.0):
        spared = Aim(inner, omega, salience=seen).merged(TRIO, WEIGHTS)
        for name, s_I in seen.items():
            expected = update(merged, name) * (1 - s_I * (1 - omega))[None]
            torch.testing.assert_close(update(spared, name), expected, atol=1e-12, rtol=0)
    assert update(Aim(inner, 0.0, salience=seen).merged(TRIO, WEIGHTS), "wide")[:, 0].abs().max() == 0
    assert entries(Aim(inner, 1.0, salience=seen).merged(TRIO, WEIGHTS)) == entries(merged)


def test_aim_after_a_soup_stays_low_rank() -> None:
    seen = {name: torch.rand(shape[1], generator=stream(1)) for name, shape in SHAPES.items()}
    assert {a.shape[0] for a, _ in Aim(Soup(), 0.4, salience=seen).merged(TRIO, WEIGHTS).factors.values()} == {3 * 2}


def test_aim_sees_training_prompts_only_and_pays_for_them(bench) -> None:
    expert_bank(bench("t5"))
    made = bench("t5", select=())  # the experts are there: whoever looks at select prompts finds none
    Emorl(Aim(Soup(), calibration_prompts=5), None).fit(made)
    cost = made.ledger.phases["train/calibration"]
    assert (cost.prompts, cost.samples) == (5, 5)
    assert cost.generated_tokens > 0
    totals = made.ledger.totals()
    assert totals["data_points_sum"] - totals["data_points_validate"] == 2 * 2 * 6 + 5


# MOD ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_mod_is_the_blend_of_hidden_states(architecture, sampling) -> None:
    _, trio = experts(architecture, torch.float64)
    weights = torch.stack([WEIGHTS, WEIGHTS.flip(0)])
    mod = Mod().blend(trio, weights).generate(word_prompts(6), sampling, stream(0))
    hidden = HiddenState().blend(trio, weights).generate(word_prompts(6), sampling, stream(0))
    assert mod.responses == hidden.responses
    torch.testing.assert_close(mod.logprobs_BT, hidden.logprobs_BT, atol=1e-5, rtol=0, equal_nan=True)


def test_mod_is_the_papers_rule(architecture) -> None:
    """Second implementation: teacher-forced log-probabilities of each expert, mixed and normalised."""
    _, trio = experts(architecture, torch.float64)
    rollout = Mod().blend(trio, WEIGHTS[None]).generate(word_prompts(4), SAMPLED, stream(0))
    with torch.no_grad():
        logps = [e.logits(e.hidden(rollout)).log_softmax(-1) for e in trio]
    powers_BTV = torch.stack([logp.exp() ** w for logp, w in zip(logps, WEIGHTS, strict=True)]).prod(0)
    mixed_BTV = (powers_BTV / powers_BTV.sum(-1, keepdim=True)).log()
    expected_BT = mixed_BTV.gather(-1, rollout.response_ids_BT[..., None]).squeeze(-1) * rollout.response_mask_BT
    torch.testing.assert_close(rollout.logprobs_BT, expected_BT, atol=1e-5, rtol=0)


# as methods -----------------------------------------------------------------------------------------
def of_yaml(name: str):
    settings = OmegaConf.load(conf_dir() / "method" / f"{name}.yaml")
    settings.pop("defaults")  # the update rule, which lies outside of a method
    config = OmegaConf.create({"seed": 0, "method": settings})
    return instantiate(OmegaConf.to_container(config, resolve=True)["method"])


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
@pytest.mark.parametrize("name", NAMES)
def test_every_yaml_answers_every_preference(bench, architecture, name) -> None:
    method = of_yaml(name)
    made = bench(architecture)
    solution = method.fit(made)
    for preference in ([1.0, 0.0], [0.5, 0.5]):
        rollout = solution.policy_for(torch.tensor(preference)).generate(word_prompts(3), SAMPLED, stream(1))
        assert made.score(rollout).shape == (9, 2)
        assert math.isfinite(kl_to_reference(rollout, made.new_policy("base").reference()))
    spent = made.ledger.totals()
    assert spent["data_points_sum"] >= 4 * 6
    assert spent["search_evaluations"] > 0


@pytest.mark.parametrize("rule", [Soup(), Ties(), Dare(), Ram(), Aim(Soup())], ids=lambda m: type(m).__name__)
def test_without_a_search_one_policy_answers_all(bench, rule) -> None:
    made = bench("t5")
    solution = Emorl(rule, None).fit(made)
    assert len({id(solution.policy_for(torch.tensor(p))) for p in ([1.0, 0.0], [0.5, 0.5])}) == 1
    assert "search" not in made.ledger.phases


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Ties(density=0.0), r"method\.aggregator\.density=0\.0: give a number above 0 up to 1"),
        (lambda: Ties(scale=-1.0), r"method\.aggregator\.scale=-1\.0"),
        (lambda: Dare(drop=1.0), r"method\.aggregator\.drop=1\.0: give a number from 0 to below 1"),
        (lambda: Ram(density=1.5), r"method\.aggregator\.density=1\.5"),
        (lambda: Ram(ceiling=-0.5), r"method\.aggregator\.ceiling=-0\.5: give 0 or more"),
        (lambda: Aim(Soup(), omega=1.2), r"method\.aggregator\.omega=1\.2: give a number from 0 up to 1"),
        (lambda: Aim(Soup(), calibration_prompts=0), r"method\.aggregator\.calibration_prompts=0"),
    ],
)
def test_a_bad_value_is_named_where_the_rule_is_built(make, says) -> None:
    with pytest.raises(UserError, match=says):
        make()


def test_a_run_s_seed_is_that_of_what_dare_drops() -> None:
    """The key of the YAML, not a number of its own: otherwise all seeds of a table would drop the same entries."""
    assert (
        OmegaConf.to_container(OmegaConf.load(conf_dir() / "method" / "dare.yaml"))["aggregator"]["seed"] == "${seed}"
    )


def test_what_aim_looks_at_is_paid_from_the_share_of_the_search(bench) -> None:
    """However small that share is, and without a search too: experts leave as many prompts as it looks at."""
    for search, share in ((None, 0.0), (SEARCH, 0.1)):
        made = bench("t5", budget=Budget(prompts=200))
        Emorl(Aim(Soup(), calibration_prompts=50), search, 0.1).fit(made)
        assert expert_budget(made, reserve=0.25).prompts == 75 < expert_budget(made, reserve=share).prompts
        assert {expert_dir(made, name, Budget(prompts=75)).exists() for name in made.objectives} == {True}
        assert made.ledger.phases["train/calibration"].prompts == min(50, len(made.train))
