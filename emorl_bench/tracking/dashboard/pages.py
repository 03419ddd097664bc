"""The saved workspace, and the report with its sentences."""

from __future__ import annotations

from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from emorl_bench.tracking.dashboard import panels
from emorl_bench.tracking.dashboard.panels import METHOD, Contents, X

NAME = "emorl-bench: methods"
TITLE = "Methods for multi-objective fine-tuning, compared"


def workspace(entity: str, project: str, contents: Contents) -> ws.Workspace:
    """A saved view of the project: sections of panels over data points, runs grouped by method."""
    sections = {
        "1 training": panels.training(contents),
        "2 search": panels.searching(),
        "3 quality and cost": panels.quality(contents),
        "4 fronts": panels.fronts(contents),
        "5 costs": panels.costs(),
        "6 answers": [panels.table("samples"), panels.pictures("scores")],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[ws.Section(name=name, panels=own, is_open=True) for name, own in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=X, max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric(METHOD)],
            pinned_columns=[f"summary:{name}" for name in _columns(contents)],
        ),
    )


def report(entity: str, project: str, contents: Contents) -> wr.Report:
    """The report: what is shown and how it is to be read, then the panels."""
    judge = "gold labels" if contents.gold else "held-out scorers, which no method sees"
    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.P("Every line is a method; its band goes from the lowest to the highest seed. All methods had one budget of "
             "prompts for training, validation and search together, and the x axis is what was spent of it."),
        *_part("Training", panels.training(contents), "Validations are on the select split. While experts are trained, "
               "their mean is shown, each on its own objective; then the best blend for the uniform preference."),
        *_part("Search", panels.searching(), "Methods without a search have one point: their best validation."),
        *_part("Quality against cost", panels.quality(contents), f"Judged by {judge}, on the report split, with "
               f"{contents.decoding} decoding, at the uniform preference. Up is better, and left is cheaper."),
        *_part("Fronts", panels.fronts(contents), "What each method deploys for each preference."),
        *_part("Costs", panels.costs(), "The cost of training, validation and search, and of one more preference or "
               "objective."),
        *_part("Answers side by side", [panels.table("samples")], "The answers of all runs in one table: group it by "
               "prompt to see methods side by side, and sort it by a score. The uniform preference comes first."),
        *_part("Methods", [wr.RunComparer(diff_only="split", layout=panels.WIDE)], "Settings and results of each run.",
               by_method=False, contents=contents),
    ]  # fmt: skip
    return wr.Report(entity=entity, project=project, title=TITLE, blocks=blocks, width="fluid")


def _part(
    title: str, shown: list[Any], text: str, *, by_method: bool = True, contents: Contents | None = None
) -> list[Any]:
    columns = [f"summary:{name}" for name in _columns(contents)] if contents is not None else []
    runs = wr.Runset(name="runs", groupby=[METHOD] if by_method else [], pinned_columns=columns)
    return [wr.H2(title), wr.P(text), wr.PanelGrid(runsets=[runs], panels=shown)]


def _columns(contents: Contents) -> list[str]:
    """The columns of the table of methods."""
    scores = [contents.judged, *(contents.final(f"objectives/{name}") for name in contents.objectives)]
    return [*scores, contents.final("hypervolume"), contents.final("kl"), "cost/data_points_sum", "cost/seconds_sum"]
