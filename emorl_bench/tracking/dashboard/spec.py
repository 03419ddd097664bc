"""The specification of a dashboard: JSON as W&B stores it, written to a file or saved in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emorl_bench.core.atomic import write_text
from emorl_bench.core.errors import UserError
from emorl_bench.tracking.dashboard.pages import report, workspace
from emorl_bench.tracking.dashboard.panels import Contents


def write(directory: Path, entity: str, project: str, contents: Contents) -> list[Path]:
    """Write ``workspace.json`` and ``report.json``; needs neither a login nor the network."""
    pages = {"workspace": workspace(entity, project, contents), "report": report(entity, project, contents)}
    paths = []
    for name, page in pages.items():
        paths.append(directory / f"{name}.json")
        write_text(paths[-1], specification(page) + "\n")
    return paths


def publish(entity: str, project: str, contents: Contents) -> list[str]:
    """Save both in the project; returns where they are to be seen.

    Raises:
        UserError: nobody is logged in, or W&B refuses or cannot be reached.
    """
    import wandb

    try:
        saved = [workspace(entity, project, contents).save(), report(entity, project, contents).save()]
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--publish: W&B says: {reason}; run wandb login, and check --entity and --project") from error
    return [page.url for page in saved]


def specification(page: Any) -> str:
    """What W&B stores of a workspace or a report."""
    text: str = page._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1)
    return text
