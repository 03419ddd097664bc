"""A file as `emorl-generate RUN --explain --json FILE` writes it, with answers that try to become markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from emorl_bench.ensemble.explaining.records import END, Explained, Explanation, Token

HOSTILE = "</script><script>window.broken = 1</script>"
HOSTILE_WORD = ' <img src=x onerror="window.broken=1">'
ASKED = {"reflection": 0.6, "empathy": 0.3, "fluency": 0.1}
WEIGHTS = [0.5, 0.25, 0.25]


def token(text: str, shares: list[float], rng: np.random.Generator) -> Token:
    """A decision with these shares; the first expert agrees, and the others say something of their own."""
    for_it = [max(share, 0.0) for share in shares]
    decided = [share / sum(for_it) for share in for_it] if sum(for_it) > 0 else None
    alone = [text, *(f" own{m}" for m in range(1, len(shares)))]
    pivotal = [share > 1 for share in shares]
    logprobs = rng.normal(-2, 0.1, len(shares)).tolist()
    agrees = [said == text for said in alone]
    return Token(text, sum(shares), shares, decided, " instead", logprobs, alone, agrees, pivotal)


def explanation(answers: int = 4, words: int = 6, experts: tuple[str, ...] = tuple(ASKED)) -> Explanation:
    """Answers whose shares are random; the second has hostile words and prompt."""
    rng = np.random.default_rng(3)
    made = []
    for i in range(answers):
        texts = [f"word{i}", *(f" word{t}" for t in range(1, words)), END]
        if i == 1:
            texts[1:3] = [HOSTILE_WORD, "\n"]
        tokens = [token(text, rng.normal(0.4, 1, len(experts)).tolist(), rng) for text in texts]
        prompt = HOSTILE if i == 1 else f"prompt {i}"
        made.append(Explained(prompt, "".join(one.text for one in tokens[:-1]), tokens))
    return Explanation(list(experts), WEIGHTS[: len(experts)], made)


def write_explained(file: Path, run: str = "emorl/s0-00000000", answers: int = 4, words: int = 6) -> dict[str, Any]:
    """Write the file; returns its content."""
    record = {"run": run, "answers": [], "explanation": explanation(answers, words).as_dict()}
    content = {"preference": dict(ASKED), "runs": [record]}
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return content
