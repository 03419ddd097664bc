"""Answers on the terminal: with their scores, and with the words in the colours of the experts that decided them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from emorl_bench.cli.answering import Answer
from emorl_bench.core.words import counted
from emorl_bench.ensemble.explaining.records import END, Explanation, Token
from emorl_bench.runner.columns import aligned

COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
HALF = 0.5  # of a decision: an expert that has less of it did not decide alone


def show(console: Console, answer: Answer, name: str = "") -> None:
    """Print the answers of a run to one text, under its name where there are several."""
    if name:
        console.print(Text(name, style="bold"))
    explained = [None] * len(answer.responses) if answer.explanation is None else answer.explanation.answers
    for response, scores, told in zip(answer.responses, answer.scores, explained, strict=True):
        console.print(Text(response) if told is None else coloured(told.tokens), soft_wrap=True)
        console.print(Text(f"  [{'  '.join(scored(scores))}]"), soft_wrap=True)
        if told is not None and answer.explanation is not None:
            lines = disputed(told.tokens, answer.explanation.experts)
            console.print(Text("\n".join(f"  {line}" for line in lines)), soft_wrap=True)


def scored(scores: Mapping[str, float | None]) -> Iterator[str]:
    """Each objective with its score."""
    yield from (f"{name} {'n/a' if score is None else f'{score:.2f}'}" for name, score in scores.items())


def coloured(tokens: Sequence[Token]) -> Text:
    """The words in the colour of the expert with the largest part of the decision.

    A word is bold where the others would have said another one, and dim where no expert has half of the decision.
    """
    text = Text()
    for token in tokens:
        if token.text == END:
            continue
        if token.decided is None:
            text.append(token.text)
            continue
        first = max(range(len(token.decided)), key=token.decided.__getitem__)
        strength = "bold " if token.pivotal[first] else "dim " if token.decided[first] < HALF else ""
        text.append(token.text, style=f"{strength}{COLOURS[first % len(COLOURS)]}")
    return text


def legend(experts: Sequence[str]) -> Text:
    """Which colour is whose."""
    text = Text("decided by: ")
    for index, name in enumerate(experts):
        text.append(name, style=COLOURS[index % len(COLOURS)])
        text.append("  ")
    return text.append("(bold: the others would have said another word; dim: nobody has half of the decision)")


def disputed(tokens: Sequence[Token], experts: Sequence[str]) -> list[str]:
    """A table of the words that some expert alone would not have said: margin, shares, and its own word."""
    rows = [["word", "margin", *experts, "runner-up", *(f"{name} says" for name in experts)]]
    for token in tokens:
        if not all(token.agrees):
            said = ["=" if agrees else word.strip() for word, agrees in zip(token.alone, token.agrees, strict=True)]
            shares = [f"{share:+.2f}" for share in token.shares]
            rows.append([token.text.strip(), f"{token.margin:+.2f}", *shares, token.runner_up.strip(), *said])
    return aligned(rows) if len(rows) > 1 else ["each expert alone would have said the same"]


def totals(explanation: Explanation, preference: Mapping[str, float]) -> list[str]:
    """A table of how much of the answers each expert decided, beside the weights asked for.

    ``preference``: objective -> the weight that was asked for.
    """
    found = explanation.totals()
    rows = [["expert", "asked", "weight", "decided", "of margins", "needed", "agrees"]]
    for index, name in enumerate(explanation.experts):
        asked = f"{preference[name]:.2f}" if name in preference else ""
        parts = [found[key] for key in ("decided", "margin", "pivotal", "agrees")]
        shown = ["" if part is None else f"{part[index]:.0%}" for part in parts]
        rows.append([name, asked, f"{explanation.weights[index]:.2f}", *shown])
    return [
        f"{counted(len(explanation.answers), 'answer')}, {counted(found['tokens'], 'token')}, "
        f"of which the experts dispute {found['disputed']:.0%}",
        *aligned(rows),
    ]
