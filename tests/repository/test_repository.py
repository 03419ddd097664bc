"""What the repository says of itself: files parse, commands exist, links lead somewhere, every page is in the site."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "results").rglob("*.md"),
    ]
)
TOLD = [  # where a reader, a hook or a workflow is told to run something
    *(ROOT / name for name in ("CONTRIBUTING.md", "AGENTS.md", "README.md", ".ci/run", ".pre-commit-config.yaml")),
    *WORKFLOWS,
    *FORMS,
    ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = {"ruff", "mypy", "lint-imports", "pytest"}  # console scripts of the extra `test`


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", TOLD, ids=relative)
def test_commands_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`|run: )make ([a-z][\w-]*)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"\bemorl-[a-z]+(?:-[a-z]+)*\b", text)) <= {*PROJECT["scripts"], PROJECT["name"]}
    for module in re.findall(r"python -m ((?:benchmarks|emorl_bench)[\w.]*\w)", text):
        assert importlib.util.find_spec(module), module
    for sweep in re.findall(r"SWEEP=(\w+)|--config-dir sweeps --config-name (\w+)", text):
        assert (ROOT / "sweeps" / f"{''.join(sweep)}.yaml").is_file()
    assert set(re.findall(r"\.venv/bin/([\w-]+)", text)) <= TOOLS | {"activate"} | set(PROJECT["scripts"])


def test_hooks_use_the_project_s_own_environment() -> None:
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])
    extra = " ".join(PROJECT["optional-dependencies"]["test"])
    assert {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]} <= TOOLS
    assert all(package in extra for package in ("ruff", "mypy", "import-linter"))


def test_pull_requests_are_tested_and_the_full_comparison_is_weekly() -> None:
    checks, weekly = (loaded(ROOT / ".github" / "workflows" / name) for name in ("checks.yml", "weekly.yml"))
    assert "pull_request" in checks[True]  # YAML 1.1 reads `on` as true
    assert weekly[True]["schedule"][0]["cron"].split()[-1] == "0"
    runs = [step.get("run", "") for step in checks["jobs"]["test"]["steps"]]
    assert {"make test", "make docs"} <= set(runs)
    assert any("SWEEP=smoke" in run for run in runs)
    steps = weekly["jobs"]["compare"]["steps"]
    assert "make bench" in [step.get("run") for step in steps]
    uploads = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/upload-artifact")]
    assert uploads == ["report/main_table"]  # where `make bench` writes its tables
    assert re.search(r"^REPORT \?= report/\$\(SWEEP\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=relative)
def test_a_workflow_can_only_read_the_repository(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 180
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


@pytest.mark.parametrize("path", [form for form in FORMS if form.stem != "config"], ids=relative)
def test_an_issue_form_has_what_the_platform_demands(path: Path) -> None:
    form = loaded(path)
    assert {"name", "description", "body"} <= set(form)
    identifiers = [item["id"] for item in form["body"]]
    assert len(set(identifiers)) == len(identifiers) > 0
    assert {item["type"] for item in form["body"]} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(item["attributes"]["label"] for item in form["body"])
    assert any(item.get("validations", {}).get("required") for item in form["body"])


def test_the_citation_is_of_this_version() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what CFF 1.2.0 requires
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        (identifier,) = reference["identifiers"]
        assert identifier["value"].removeprefix("arXiv:") in (ROOT / "README.md").read_text()
    assert f"({PROJECT['version']})" in (ROOT / "CHANGELOG.md").read_text()


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    """Relative links work on the repository's page and on the site, where `make docs` checks anchors too."""
    for link in links(page):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_page_is_in_the_site_s_navigation() -> None:
    site = loaded(ROOT / "mkdocs.yml")
    named = {Path(page) for page in re.findall(r": (\S+\.md)", json.dumps(site["nav"]).replace('"', ""))}
    own = ROOT / site["docs_dir"]
    assert all((ROOT / page).is_file() or (own / page).is_file() for page in named)
    found = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
    pages = {page.relative_to(ROOT) for page in found if not page.is_relative_to(own)}
    assert pages <= named
    assert {page.relative_to(own) for page in own.rglob("*.md")} <= named


def test_the_reference_names_modules_that_exist() -> None:
    pages = (ROOT / "docs" / "site" / "reference").glob("*.md")
    modules = [name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)]
    assert len(modules) > 5
    for module in modules:
        place = ROOT.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module


def test_the_places_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("| kind |") : text.index("What makes an extension complete")]
    paths = re.findall(r"`((?:emorl_bench|baselines|conf|tests)/[\w/.]+)`", table)
    assert len(paths) > 20
    for path in paths:
        place = ROOT / path
        assert place.parent.is_dir() if place.stem == "mine" else place.exists(), path


def test_decisions_have_their_four_parts_and_are_listed() -> None:
    pages = [page for page in (ROOT / "docs" / "decisions").glob("*.md") if page.stem != "README"]
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert len(pages) >= 5
    for page in pages:
        found = re.findall(r"^\*\*([\w ]+)\.\*\*", page.read_text(), re.MULTILINE)
        assert found == ["Context", "Decision", "Consequences", "What would change it"], page
        assert f"]({page.name})" in listed
        assert len(page.read_text().splitlines()) < 60, "one short page"
