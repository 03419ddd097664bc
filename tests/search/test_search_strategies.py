"""Budgeted weight searches: points, budgets, determinism, Gaussian process, hypervolume bound, and whole fronts."""

from __future__ import annotations

import itertools
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest, multivariate_normal

from emorl_bench.core.errors import UserError
from emorl_bench.core.protocols import FrontStrategy
from emorl_bench.emorl import Emorl
from emorl_bench.ensemble.blending import HiddenState
from emorl_bench.search.gaussian_process import LENGTHS, NOISES, GaussianProcess, matern
from emorl_bench.search.hypervolume import added_volume, best_addition, volume
from emorl_bench.search.optuna_study import OptunaSearch
from emorl_bench.search.sobol import Sobol
from emorl_bench.search.sticks import corners_of_cube, sobol_points, to_simplex
from emorl_bench.search.ucb_front import UcbFront
from studies.search_regret import __main__ as search_regret
from studies.search_regret.strategies import Random
from studies.search_regret.surfaces import SURFACES, Concave, Multimodal
from studies.search_regret.trials import on_surface

needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra optuna")
STRATEGIES = {
    "sobol": lambda n, seed: Sobol(n, seed=seed),
    "sobol in batches": lambda n, seed: Sobol(n, batch=3, seed=seed),
    "tpe": lambda n, seed: OptunaSearch("tpe", n, seed=seed),
    "gp": lambda n, seed: OptunaSearch("gp", n, startup=7, seed=seed),
    "ucb": lambda n, seed: UcbFront(n, startup=2, pool=64, seed=seed),
}
EACH = [pytest.param(name, marks=needs_optuna if name in ("tpe", "gp") else ()) for name in STRATEGIES]


def run(strategy, experts, scores, preference):
    """All that a search asked, and what it recommends; told scores or their utility, as it wants."""
    front = isinstance(strategy, FrontStrategy)
    search = strategy.start_front(experts) if front else strategy.start(experts)
    asked = []
    while len(weights := search.ask()):
        asked.append(weights)
        search.tell(weights, scores(weights) if front else scores(weights) @ preference)
    return torch.cat(asked), search.best(preference) if front else search.best()


def quadratic(experts):
    """Each expert's objective falls with the squared distance to its corner; the preference is its own optimum."""
    return lambda weights: 1 - torch.cdist(weights, torch.eye(experts, dtype=torch.float64)) ** 2


def uniform(experts):
    return torch.full((experts,), 1 / experts, dtype=torch.float64)


@pytest.mark.parametrize("experts", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", EACH)
def test_points_lie_on_the_simplex_and_the_budget_is_kept_exactly(name, experts):
    for evaluations in (1, 4, 13):
        asked, best = run(STRATEGIES[name](evaluations, 0), experts, quadratic(experts), uniform(experts))
        assert asked.shape == (1 if experts == 1 else evaluations, experts)
        assert asked.dtype == torch.float64
        assert (asked >= 0).all()
        torch.testing.assert_close(asked.sum(1), torch.ones(len(asked), dtype=torch.float64))
        assert len(asked.unique(dim=0)) == len(asked)  # nothing is asked twice
        assert name == "ucb" or (asked == best).all(1).any()
        assert best.sum().item() == pytest.approx(1.0)
        corners = min(experts, len(asked))
        assert torch.equal(asked[:corners], torch.eye(experts, dtype=torch.float64)[:corners])


@pytest.mark.parametrize("name", EACH)
def test_a_search_depends_on_its_seed_and_on_nothing_else(name):
    def asked(seed):
        torch.manual_seed(len(str(seed)))
        np.random.seed(seed + 5)  # global state must not matter
        return run(STRATEGIES[name](12, seed), 3, quadratic(3), uniform(3))[0]

    assert torch.equal(asked(1), asked(1))
    assert not torch.equal(asked(1), asked(2))


@pytest.mark.parametrize("experts", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", [p for p in EACH if p.values[0] in ("tpe", "ucb")])
def test_regret_on_a_quadratic_is_below_that_of_random_weights(name, experts):
    trials = [on_surface(STRATEGIES[name](24, seed), "concave", experts, 0.0, 24, seed) for seed in range(7)]
    random = [on_surface(Random(24, seed), "concave", experts, 0.0, 24, seed) for seed in range(7)]
    assert np.mean([t.regret_N[-1] for t in trials]) < np.mean([t.regret_N[-1] for t in random])


def test_the_cube_is_mapped_to_the_uniform_distribution_on_the_simplex():
    """Dirichlet(1): each weight is Beta(1, M-1), and the density is constant also across weights."""
    cube = np.random.default_rng(0).random((4000, 3))
    weights = to_simplex(cube)
    for m in range(4):
        assert kstest(weights[:, m], beta(1, 3).cdf).pvalue > 0.01
    step = 1e-6
    for point in cube[:5]:
        moved = [to_simplex((point + step * np.eye(3)[i])[None])[0] - to_simplex(point[None])[0] for i in range(3)]
        assert abs(np.linalg.det(np.array(moved)[:, :3] / step)) == pytest.approx(1 / 6, rel=1e-3)  # 1 / (M-1)!


@pytest.mark.parametrize("experts", [1, 2, 3, 6])
def test_corners_of_the_cube_become_the_experts(experts):
    assert np.array_equal(to_simplex(corners_of_cube(experts)), np.eye(experts))


def test_sobol_points_fill_the_simplex_more_evenly_than_random_ones():
    """Integration error of a smooth function whose mean is known: E[sum w^2] = 2 / (M + 1)."""

    def errors(draw):
        return [abs((draw(seed) ** 2).sum(1).mean() - 2 / 5) for seed in range(10)]

    even = errors(lambda seed: sobol_points(64, 4, seed))
    random = errors(lambda seed: np.random.default_rng(seed).dirichlet(np.ones(4), 64))
    assert np.median(even) < np.median(random) / 4
    assert np.array_equal(sobol_points(64, 4, 3)[:20], sobol_points(20, 4, 3))


def test_gaussian_process_of_one_value_is_the_textbook_one():
    x, y = np.array([[0.0, 1.0]]), np.array([2.0])
    model = GaussianProcess(x, y, length=0.7, noise=0.25, signal=3.0)
    there = np.array([[0.3, 0.7]])
    r = np.sqrt(5) * np.sqrt(0.18) / 0.7
    correlation = (1 + r + r**2 / 3) * np.exp(-r)
    mean, deviation = model.posterior(there)
    assert mean[0] == pytest.approx(2.0)
    assert deviation[0] ** 2 == pytest.approx(3.0 * (1 - correlation**2 / 1.25))


def test_gaussian_process_posterior_is_the_conditional_of_the_joint_normal():
    rng = np.random.default_rng(1)
    x, there, y = rng.dirichlet(np.ones(4), 9), rng.dirichlet(np.ones(4), 5), rng.normal(size=9)
    length, noise, signal = 0.5, 0.1, 1.7
    both = np.vstack([x, there])
    distance = np.sqrt(((both[:, None] - both[None]) ** 2).sum(-1))
    joint = signal * matern(distance, length)
    joint[:9, :9] += signal * noise * np.eye(9)
    gain = joint[9:, :9] @ np.linalg.inv(joint[:9, :9])
    mean, deviation = GaussianProcess(x, y, length, noise, signal).posterior(there)
    np.testing.assert_allclose(mean, y.mean() + gain @ (y - y.mean()), rtol=1e-9)
    np.testing.assert_allclose(deviation**2, np.diag(joint[9:, 9:] - gain @ joint[:9, 9:]), rtol=1e-8)


def test_the_fitted_gaussian_process_is_the_likeliest_of_its_grid():
    rng = np.random.default_rng(2)
    x = rng.dirichlet(np.ones(3), 12)
    y = np.sin(5 * x[:, 0]) + 0.1 * rng.normal(size=12)
    model = GaussianProcess.fit(x, y)
    distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))

    def likelihood(length, noise, signal):
        kernel = signal * (matern(distance, length) + noise * np.eye(12))
        return multivariate_normal(np.full(12, y.mean()), kernel, allow_singular=True).logpdf(y)

    ours = likelihood(model.length, model.noise, model.signal)
    others = [(length, noise) for length in LENGTHS[::3] for noise in NOISES[4::2]]
    for (length, noise), scale in itertools.product(others, (0.5, 1.0, 2.0)):
        assert likelihood(length, noise, scale * y.var()) <= ours + 1e-9
        assert likelihood(model.length, model.noise, scale * 1.01 * model.signal) <= ours + 1e-9


def test_a_gaussian_process_of_equal_values_expects_them_everywhere():
    x = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    mean, deviation = GaussianProcess.fit(x, np.full(5, 0.4)).posterior(np.eye(3))
    np.testing.assert_allclose(mean, 0.4)
    assert (deviation < 1e-6).all()


def counted_volume(points, reference, cells=12):
    """Share of a grid's cells whose centre a point dominates; exact for coordinates that are multiples of the cell."""
    axis = (np.arange(cells) + 0.5) / cells
    centres = np.array(list(itertools.product(axis, repeat=points.shape[1])))
    inside = (centres > reference).all(1) & (centres[:, None] < points[None]).all(-1).any(1)
    return inside.sum() / cells ** points.shape[1]


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_what_a_point_adds_is_the_difference_of_two_counted_volumes(objectives):
    rng = np.random.default_rng(objectives)
    front = rng.integers(1, 13, (5, objectives)) / 12
    reference = np.full(objectives, 2 / 12)
    for point in rng.integers(0, 13, (6, objectives)) / 12:
        more = counted_volume(np.vstack([front, point]), reference) - counted_volume(front, reference)
        assert added_volume(front, point, reference) == pytest.approx(more, abs=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4, 5, 6])
def test_the_bounded_choice_is_that_of_trying_every_point(objectives):
    rng, reference = np.random.default_rng(objectives), np.zeros(objectives)
    for size in (0, 1, 7):
        front, points = rng.random((size, objectives)), rng.random((40, objectives))
        gains = [volume(np.vstack([front, p]), reference) - volume(front, reference) for p in points]
        assert best_addition(front, points, reference) == int(np.argmax(gains))


@pytest.mark.parametrize("experts", [2, 3, 5])
def test_ucb_front_reaches_more_hypervolume_than_points_that_learn_nothing(experts):
    reference = np.full(experts, -1.2)  # a tenth of the range of 2 below the least

    def reached(strategy):
        asked, _ = run(strategy, experts, quadratic(experts), uniform(experts))
        return volume(quadratic(experts)(asked).numpy(), reference)

    ours = [reached(UcbFront(24, seed=seed)) for seed in range(4)]
    others = [reached(Sobol(24, seed=seed)) for seed in range(4)]
    assert min(ours) > max(others)


def test_ucb_front_leaves_out_an_objective_that_applies_to_nothing():
    def scores(weights):
        made = quadratic(3)(weights)
        made[:, 1] = torch.nan
        made[weights[:, 0] > 0.9, 2] = torch.nan  # and one that does not apply to some blends
        return made

    asked, best = run(UcbFront(16, seed=0), 3, scores, torch.tensor([0.5, 0.2, 0.3]))
    assert asked.shape == (16, 3)
    assert best.isfinite().all()


def test_an_untried_blend_answers_only_where_that_is_allowed():
    scores, preference = quadratic(4), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    asked, told = run(UcbFront(16, untried=False, seed=0), 4, scores, preference)
    _, untried = run(UcbFront(16, seed=0), 4, scores, preference)
    assert (asked == told).all(1).any()
    assert not (asked == untried).all(1).any()
    regret = {name: float(((w - preference) ** 2).sum()) for name, w in (("told", told), ("untried", untried))}
    assert regret["untried"] < 0.1 * regret["told"]  # the optimum is the preference itself


def test_a_lucky_value_does_not_win_in_ucb_front():
    """With as much noise as signal the smoothed leader is truly better, on average, than the largest value told."""
    gaps = []
    for seed in range(12):
        rng, seen = torch.Generator().manual_seed(seed), []

        def noisy(weights, rng=rng, seen=seen):
            exact = quadratic(3)(weights)
            seen.append((weights, exact + 0.3 * torch.randn(exact.shape, generator=rng, dtype=torch.float64)))
            return seen[-1][1]

        _, best = run(UcbFront(32, untried=False, seed=seed), 3, noisy, uniform(3))
        told, values = torch.cat([w for w, _ in seen]), torch.cat([v for _, v in seen]) @ uniform(3)
        exact = quadratic(3)(torch.stack([best, told[values.argmax()]])) @ uniform(3)
        gaps.append(float(exact[0] - exact[1]))
    assert np.mean(gaps) > 0


def test_one_search_of_the_front_answers_every_preference_and_is_remembered(bench):
    made = bench("t5")
    strategy = UcbFront(6, batch=2, startup=1, pool=16)
    front = Emorl(HiddenState(), strategy).fit(made)
    for preference in ([1.0, 0.0], [0.5, 0.5], [0.2, 0.8]):
        front.policy_for(torch.tensor(preference))
    assert made.ledger.phases["search"].evaluations == made.ledger.phases["search"].evaluations_asked == 6
    rows = [json.loads(line) for line in (made.dir / "search.jsonl").read_text().splitlines()]
    assert [row["preference"] for row in rows] == [[0.5, 0.5]] * 6
    again = bench("t5")
    twin = Emorl(HiddenState(), strategy).fit(again)
    twin.policy_for(torch.tensor([1.0, 0.0]))
    assert again.ledger.phases["search"].evaluations == 6  # those of the first session: nothing was decoded again
    assert twin._found[(1.0, 0.0)].equal(front._found[(1.0, 0.0)])


def test_preferences_share_the_points_of_sobol(bench):
    made = bench("t5")
    front = Emorl(HiddenState(), Sobol(5)).fit(made)
    for preference in ([1.0, 0.0], [0.3, 0.7]):
        front.policy_for(torch.tensor(preference))
    cost = made.ledger.phases["search"]
    assert (cost.evaluations, cost.evaluations_asked) == (5, 10)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sobol(0), "method.search.evaluations=0: give a whole number above 0"),
        (lambda: Sobol(4, batch=0), "method.search.batch=0"),
        (lambda: UcbFront(confidence=-1.0), "method.search.confidence=-1.0: give 0 or more"),
        (lambda: UcbFront(pool=0), "method.search.pool=0"),
        (lambda: OptunaSearch("tpw"), "method.search.sampler=tpw: unknown; did you mean 'tpe'?"),  # type: ignore[arg-type]
        (lambda: OptunaSearch("tpe", startup=0), "method.search.startup=0"),
    ],
)
def test_a_bad_setting_is_named(make, says):
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(says)


def test_without_optuna_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("emorl_bench.search.optuna_study.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"method\.search\.sampler=gp needs the extra: pip install .*\[optuna\]"):
        OptunaSearch("gp")


@pytest.mark.parametrize("name", list(SURFACES))
@pytest.mark.parametrize("objectives", [2, 4, 6])
def test_no_point_of_a_known_surface_is_above_its_optimum(name, objectives):
    rng = np.random.default_rng(objectives)
    surface, preference = SURFACES[name].drawn(objectives, rng), rng.dirichlet(np.ones(objectives))
    weights = np.vstack([np.eye(objectives), rng.dirichlet(np.ones(objectives), 20_000)])
    utility = surface.scores(weights) @ preference
    assert utility.max() <= surface.optimum(preference) + 1e-12
    assert surface.optimum(preference) - utility.max() < 0.1  # and it is the surface's, not a number above it


def test_the_polished_optimum_finds_that_of_the_closed_form():
    rng = np.random.default_rng(0)
    smooth, preference = Concave.drawn(4, rng), rng.dirichlet(np.ones(4))
    flat = Multimodal(smooth, np.zeros((4, 4)))
    assert flat.optimum(preference) == pytest.approx(smooth.optimum(preference), abs=1e-5)


def test_the_benchmark_runs_and_leaves_its_record(tmp_path: Path, capsys):
    out = tmp_path / "search_regret.json"
    search_regret.main(["--quick", "--repeats", "2", "--gp", "none", "--out", str(out)])
    ratios = json.loads(capsys.readouterr().out.splitlines()[-1])["ratios"]
    assert {"sobol", "sobol_four", "simplex", "cube", "ucb_front", "ucb_front_four"} <= ratios.keys()
    record = json.loads(out.read_text())
    curves = record["notes"]["median_regret_after_each_evaluation"]
    curve = curves["surface concave, objectives 2, noise 0"]["ucb_front"]
    assert len(curve) == 12
    assert curve[0] is None  # before the first round
    assert curve[-1] < curve[5]
    assert out.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("line", "named"),
    [(["--objectives", "1,2"], "--objectives=1,2"), (["--gp", "concav-2"], "did you mean 'concave-2'")],
)
def test_bad_input_of_the_benchmark_is_named(line, named):
    with pytest.raises(UserError, match=named):
        search_regret.main(line)
