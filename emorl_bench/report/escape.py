"""Text from models, data and directories, made harmless for Markdown, csv and LaTeX."""

from __future__ import annotations

import html
import re

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet reads a cell that begins so as a formula (OWASP)
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", "√": r"$\surd$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "·": r"$\cdot$", "ε": r"$\varepsilon$", "ᶠ": r"\textsuperscript{f}",
    "ᵗ": r"\textsuperscript{t}", "₂": r"$_2$", "<": r"\textless{}", ">": r"\textgreater{}", "\n": " ",
}  # fmt: skip


def markdown(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no table cell that ends early, no link, no line break."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([|\\`\[\]])", r"\\\1", plain)


def cell(text: str) -> str:
    """A cell of a Markdown table. The report's own emphasis stays; HTML, links and the end of the cell do not."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|").replace("](", r"]\(")


def code(text: str) -> str:
    """Text in a code span of Markdown, where nothing but a backtick ends it."""
    return f"`{' '.join(text.split()).replace('`', '’')}`"


def csv_value(value: object) -> object:
    """A value that no spreadsheet runs as a formula. Numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(LATEX.get(character, character) for character in text.replace("*", ""))
