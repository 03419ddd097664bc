"""Writes report.html: one file with its data, its style and its scripts, which asks for nothing from outside.

Data is embedded as JSON in which no character can end the element, and reaches the page as text, never as markup. As a
second lock, the page's own policy (Content-Security-Policy) lets nothing run but the two scripts that stand here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

from emorl_bench.report.html.payload import Page

HERE = Path(__file__).parent
PLOTLY = HERE / "vendor" / "plotly-basic.min.js"
PLOTLY_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
SCRIPTS = (  # in the order in which they stand in the page; the last one starts it
    "data",
    "dom",
    "glyph",
    "choice",
    "chart",
    "conclusion",
    "table",
    "ladder",
    "profile",
    "preference",
    "fronts",
    "change",
    "kl",
    "words",
    "cards",
    "answers",
    "explained",
    "spoken",
    "published",
    "settings",
    "main",
)
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_page(path: Path, page: Page) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written.
        ValueError: a number is not finite.
    """
    path.write_text(rendered(page), encoding="utf-8")


def rendered(page: Page) -> str:
    """The text of the file."""
    plotly, script = PLOTLY.read_text(encoding="utf-8"), joined()
    parts = {
        "policy": _policy(plotly, script),
        "style": _part("style.css"),
        "plotly": plotly,
        "data": embedded(page),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("index.html"))


def embedded(page: object) -> str:
    """JSON that may stand in a ``script`` element: no ``<``, so no end of the element, whatever a model has written."""
    text = json.dumps(page, default=vars, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(UNSAFE)


def joined() -> str:
    """The page's own script. Its parts see one another's functions and leave nothing in the window."""
    parts = "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _part(name: str) -> str:
    return (HERE / "page" / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Nothing from outside, and no script but these. Styles are free: charts set their own."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
