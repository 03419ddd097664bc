"""Pictures of a report.html: ``python -m emorl_bench.report.html.screenshot report/report.html --out DIR``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.report.html.browser import headless

DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 360, "height": 740}
PARTS = ("methods", "cost", "preference", "kl", "answers")  # the ids of the sections that have a picture of their own


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m emorl_bench.report.html.screenshot", description=__doc__)
    parser.add_argument("report", type=Path, metavar="REPORT", help="a report.html")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)")
    args = parser.parse_args(argv)
    try:
        with headless() as browser:
            for path in screenshots(browser, args.report, args.out):
                print(path)
    except UserError as error:
        parser.error(str(error))


def screenshots(browser: Any, report: Path, out: Path) -> list[Path]:
    """The top of the page, each of `PARTS`, and the page on a phone; returns the paths of the pictures.

    Raises:
        UserError: there is no such report.
    """
    if not report.is_file():
        raise UserError(f"REPORT={report} is not a file; write it with emorl-report RUNS --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "report_top.png", *(out / f"report_{part}.png" for part in PARTS), out / "report_phone.png"]
    page = opened(browser, report, DESKTOP)
    page.screenshot(path=written[0])
    if (largest := page.query_selector("#largest-gap")) is not None:
        largest.click()
    page.add_style_tag(content=".choice { position: static !important }")  # it would cover the part's first lines
    for part, path in zip(PARTS, written[1:], strict=False):
        page.locator(f"#{part}").screenshot(path=path)
    opened(browser, report, PHONE).screenshot(path=written[-1])
    return written


def opened(browser: Any, report: Path, size: dict[str, int]) -> Any:
    """A page of the browser with the report in it, in a window of this size."""
    page = browser.new_page(viewport=size)
    page.goto(report.resolve().as_uri())
    page.wait_for_selector("#settings")
    return page


if __name__ == "__main__":
    main()
