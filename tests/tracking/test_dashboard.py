"""The dashboard: its specification is of the library's own schema, names numbers that runs log, and can be sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb_workspaces", reason="pip install wandb-workspaces")

from emorl_bench.cli import dashboard as program
from emorl_bench.tracking.closing import numbers
from emorl_bench.tracking.dashboard import spec
from emorl_bench.tracking.dashboard.pages import report, workspace
from emorl_bench.tracking.dashboard.panels import Contents

OBJECTIVES = ("reflection", "empathy", "fluency")
CONTENTS = Contents(OBJECTIVES, "greedy", gold=True)
CURVES = {f"{kind}/{name}" for kind in ("train", "eval") for name in OBJECTIVES}
CURVES |= {"train/reward", "train/kl", "eval/mean_reward", "eval/utility", "search/utility", "search/evaluations"}


def point(preference: list[float]) -> dict[str, Any]:
    scores = dict.fromkeys(OBJECTIVES, 0.5)
    sets = {"objectives": scores, "held_out": scores, "gold": scores}
    means = {f"{prefix}{key}": 0.5 for prefix in ("", "held_out_", "gold_") for key in ("mean_reward", "utility")}
    return {"preference": preference, **sets, **means, "kl": 1.0}


def summary(**changes: Any) -> dict[str, Any]:
    """The parts of a ``summary.json`` that the report and the tracker read."""
    front = {"points": [point([1.0, 0.0, 0.0]), point([1 / 3] * 3)], "uniform": point([1 / 3] * 3), "hypervolume": 0.1}
    front |= {f"{prefix}deployed_utility": 0.5 for prefix in ("", "held_out_", "gold_")}
    costs = {f"data_points_{phase}": 1.0 for phase in ("train", "validate", "search", "sum", "max")}
    price = {"prompts": 1.0, "flops": 1.0}
    return {
        "schema_version": 1,
        "names": {"task": "reflections", "model": "tiny_t5", "method": "emorl"},
        "seed": 0,
        "fingerprint": "f1",
        "objectives": list(OBJECTIVES),
        "preferences": [[1.0, 0.0, 0.0], [1 / 3] * 3],
        "single_point": False,
        "decoding": {"greedy": front},
        "cost": costs | {"flops": 1.0, "seconds_sum": 1.0},
        "change": dict.fromkeys(("first_preference", "next_preference", "next_objective"), price),
    } | changes


def wanted(panel: dict[str, Any]) -> set[str]:
    """The numbers that a panel shows, as W&B names them: of the history, or of the summary."""
    config = panel["config"]
    named = [*config.get("metrics", []), *(config[key] for key in ("xAxis", "yAxis") if key in config)]
    return {name.removeprefix("summary_metrics.").removeprefix("summary:") for name in named}


def shown(text: str) -> list[dict[str, Any]]:
    """All panels of a specification."""

    def panels(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "viewType" in node and "config" in node:
                yield node
            for value in node.values():
                yield from panels(value)
        elif isinstance(node, list):
            for value in node:
                yield from panels(value)

    return list(panels(json.loads(text)))


@pytest.mark.parametrize("page", [workspace, report])
def test_the_specification_is_of_the_library_s_own_schema(page: Any) -> None:
    made = page("me", "emorl-bench", CONTENTS)
    text = spec.specification(made)
    read = type(made._to_model().spec).model_validate_json(text)
    again = json.loads(read.model_dump_json(by_alias=True, exclude_none=True))
    assert len(shown(json.dumps(again))) == len(shown(text)) > 20


@pytest.mark.parametrize("page", [workspace, report])
def test_every_number_that_is_shown_is_one_that_runs_log(page: Any) -> None:
    ended = set(numbers(summary(), {}))
    panels = shown(spec.specification(page("me", "emorl-bench", CONTENTS)))
    curves = [panel for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {panel["config"]["xAxis"] for panel in curves} == {"data_points", "tokens", "seconds"}
    assert all(panel["config"]["groupBy"] == "jobType" for panel in curves), "one line for each method"
    assert all(panel["config"]["groupArea"] == "minmax" for panel in curves), "and a band of its seeds"
    drawn = {name for panel in curves for name in panel["config"]["metrics"]}
    assert drawn == CURVES - {f"train/{name}" for name in OBJECTIVES}
    others = [panel for panel in panels if panel["viewType"] in ("Scatter Plot", "Bar Chart")]
    assert {name for panel in others for name in wanted(panel)} <= ended
    kinds = {panel["viewType"] for panel in panels}
    assert {"Run History Line Plot", "Scatter Plot", "Bar Chart", "Media Browser"} <= kinds
    text = json.dumps(panels)
    assert all(name in text for name in ("tables/samples", "tables/front", "pictures/front", "pictures/search"))


class Api(BaseHTTPRequestHandler):
    """A small stand-in of W&B's API: it answers what the library asks, and records what it is sent."""

    saved: list[dict[str, Any]]

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.graphql(json.loads(raw)) if self.path == "/graphql" else {}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        query, given = body["query"], body.get("variables") or {}
        if "upsertView" in query:
            type(self).saved.append(given)
            project = {"id": "p1", "name": given["projectName"], "entityName": given["entityName"]}
            kept = {key: given.get(key) for key in ("type", "displayName", "description", "spec")}
            view = {**kept, "id": "Vmlldzox", "name": given.get("name") or "view", "project": project}
            return {"data": {"upsertView": {"view": view | {"updatedAt": "2026-01-01T00:00:00"}, "inserted": True}}}
        if "viewer" in query:
            user = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
            return {"data": {"viewer": user}}
        if "mutation CreateProject" in query:
            return {"data": {"result": {"project": {"id": "p1"}, "model": {"id": "p1", "name": "emorl-bench"}}}}
        return {"data": {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}}


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a stand-in of the API was sent to be saved."""
    Api.saved = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    yield Api.saved
    server.shutdown()


def run_in(directory: Path, **changes: Any) -> Path:
    run = directory / "reflections" / "tiny_t5" / "emorl" / f"s{len(list(directory.rglob('status.json')))}-00000000"
    run.mkdir(parents=True)
    (run / "status.json").write_text('{"state": "done"}')
    (run / "summary.json").write_text(json.dumps(summary(**changes)))
    return directory


def test_what_is_saved_in_a_project_is_what_is_written(tmp_path: Path, saved: list[dict[str, Any]]) -> None:
    program.main([str(run_in(tmp_path)), "--entity", "me", "--publish", "--out", str(tmp_path / "out")])
    assert [(view["type"], view["entityName"], view["projectName"]) for view in saved] == [
        ("project-view", "me", "emorl-bench"),
        ("runs", "me", "emorl-bench"),
    ]
    for view, name in zip(saved, ("workspace", "report"), strict=True):
        sent, written = (shown(text) for text in (view["spec"], (tmp_path / "out" / f"{name}.json").read_text()))
        assert [(p["viewType"], p["config"]) for p in sent if p["viewType"] != "Weave"] == [
            (p["viewType"], p["config"]) for p in written if p["viewType"] != "Weave"
        ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{empty}"], "has no finished run"),
        (["{runs}", "--publish"], "say --entity USER_OR_TEAM"),
        (["{mixed}"], "runs with different objectives"),
        (["{runs}", "--entity", "me", "--publish"], "--publish: W&B says: "),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # nobody is logged in
    (empty := tmp_path / "empty").mkdir()
    runs, mixed = run_in(tmp_path / "runs"), run_in(tmp_path / "mixed")
    run_in(mixed, objectives=["right", "brief"], preferences=[[1.0, 0.0], [0.5, 0.5]])
    places = {"empty": empty, "runs": runs, "mixed": mixed}
    with pytest.raises(SystemExit) as exit:
        program.main([argument.format(**places) for argument in arguments] + ["--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert exit.value.code == 2
    assert says in error
    assert error.count("\n") == 1
