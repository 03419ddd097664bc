"""A hook of MkDocs: the site's pages are files of the repository, each at its own place.

A relative link between two files is then the same on the site as on the repository's page, and MkDocs checks it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "AGENTS.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "examples/*.md",
    "results/**/*.md",
)
BESIDE = ("docs/**/*.png", "results/**/*.png", "examples/*.ipynb", "CITATION.cff")  # what pages show or link to


def on_files(files: Files, *, config: Any) -> Files:
    root, own = Path(config.config_file_path).parent, Path(config.docs_dir)
    for pattern in (*PAGES, *BESIDE):
        for path in sorted(root.glob(pattern)):
            if not path.is_relative_to(own):
                place = path.relative_to(root).as_posix()
                files.append(File(place, str(root), config.site_dir, config.use_directory_urls))
    return files
