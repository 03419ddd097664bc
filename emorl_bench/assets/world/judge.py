"""What an answer says, read by the grammar that the world writes with: the ground truth, without any network.

An answer is divided into sentences. A sentence is known if the world can write it: plainly, or with one of the three
defects of speech. Of each known sentence the judge tells its kind and which details of the client it heard right.
`grades` turns that into numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from emorl_bench.assets.world.lexicon import BEHAVIOURS, EVENTS, FEELINGS, HOPES, OBSTACLES, STYLES, to_you
from emorl_bench.assets.world.responses import (
    COLD,
    FITTING,
    KINDS,
    WARM,
    details_of,
    join_words,
    split_words,
    telegraphic,
    ungrammatical,
)
from emorl_bench.assets.world.statements import Statement
from emorl_bench.core.errors import UserError

DETAIL = {"doing": "topic", "name": "topic", "change": "topic"}  # three ways to name one detail
REFLECTIVE = ("complex", "simple")  # the kinds that give details back
PHRASES = {  # slot of a template -> what may stand there
    "doing": tuple(to_you(b.doing) for b in BEHAVIOURS),
    "name": tuple(b.name for b in BEHAVIOURS),
    "change": tuple(b.change for b in BEHAVIOURS),
    "event": tuple(map(to_you, EVENTS)),
    "feeling": FEELINGS,
    "hope": tuple(map(to_you, HOPES)),
    "obstacle": tuple(map(to_you, OBSTACLES)),
}
SAID = {  # the same in a client's words
    "doing": tuple(b.doing for b in BEHAVIOURS),
    "change": PHRASES["change"],
    "event": EVENTS,
    "feeling": FEELINGS,
    "hope": HOPES,
    "obstacle": OBSTACLES,
}
SLOT, SENTENCE = re.compile(r"\{(\w+)\}"), re.compile(r"[^.?]+[.?]?")
DIALECTS: dict[str, Callable[[str], str]] = {  # how words are spoken; the fourth dialect only swaps the first two
    "plain": lambda text: text,
    "telegraphic": telegraphic,
    "ungrammatical": ungrammatical,
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence that the world can write; ``right`` and ``wrong`` are details of the client that it gives back."""

    text: str
    kind: str  # of `KINDS`, or warm, or cold
    dialect: str  # plain, or the name of a defect
    right: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    fits: bool = False  # a warm sentence that answers to what the client feels


class Parsed(NamedTuple):
    """How the world would write a sentence."""

    kind: str  # of `KINDS`, or warm, or cold
    template: str  # in plain words; a warm or cold sentence is its own
    dialect: str
    slots: tuple[tuple[str, str], ...]  # and what stands in them


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as the judge reads it: sentences that it knows, each once, and how much there is beside them."""

    sentences: tuple[Sentence, ...]
    count: int  # of all sentences, unknown and repeated ones included
    words: int  # words and marks

    @property
    def known(self) -> float:
        """Share of the sentences that the world can write and that were not said before."""
        return len(self.sentences) / self.count if self.count else 0.0

    @property
    def plain(self) -> float:
        """Share of the sentences that are known and without a defect."""
        return sum(s.dialect == "plain" for s in self.sentences) / self.count if self.count else 0.0

    @property
    def warm(self) -> int:
        return sum(s.kind == "warm" for s in self.sentences)

    @property
    def fitting(self) -> bool:
        """Whether a warm sentence answers to what the client feels."""
        return any(s.fits for s in self.sentences)

    @property
    def cold(self) -> bool:
        return any(s.kind == "cold" for s in self.sentences)

    def details(self, kinds: tuple[str, ...] = REFLECTIVE) -> int:
        """How many details were heard: right ones of sentences without a mistake, less all that were heard wrong."""
        told = [s for s in self.sentences if s.kind in kinds]
        right = frozenset[str]().union(*(s.right for s in told if not s.wrong))
        return max(0, len(right) - sum(len(s.wrong) for s in told))


@lru_cache(maxsize=400_000)
def read(prompt: str, response: str) -> Reading:
    """What ``response`` says to a client who said ``prompt``.

    Raises:
        UserError: the prompt is no statement of the world.
    """
    said, known, texts = heard(prompt), {}, [s.strip() for s in SENTENCE.findall(response) if s.strip()]
    for text in texts:
        if text not in known and (parsed := parse(text)) is not None:
            known[text] = _heard_right(text, parsed, said)
    return Reading(tuple(known.values()), len(texts), len(split_words(response)))


def _heard_right(text: str, parsed: Parsed, said: dict[str, str]) -> Sentence:
    """A known sentence beside what the client ``said``."""
    right, wrong = (
        frozenset(DETAIL.get(k, k) for k, v in parsed.slots if (_speak(parsed.dialect, said[k]) == v) is wanted)
        for wanted in (True, False)
    )
    fits = said["feeling"] in FITTING.get(parsed.template, ())
    return Sentence(text, parsed.kind, parsed.dialect, right, wrong, fits)


@lru_cache(maxsize=100_000)
def statement_of(prompt: str) -> Statement:
    """The statement that a prompt of the world was written from."""
    for style, pattern in enumerate(_STYLES):
        if found := pattern.match(prompt.strip()):
            said = found.groupdict()
            topic = next(b for b, behaviour in enumerate(BEHAVIOURS) if behaviour.doing == said["doing"])
            places = (EVENTS.index(said["event"]), FEELINGS.index(said["feeling"]), HOPES.index(said["hope"]))
            return Statement(topic, *places, OBSTACLES.index(said["obstacle"]), style)
    raise UserError(f"the judge of the embedded world cannot read the prompt {prompt!r}; it knows its own prompts only")


def heard(prompt: str) -> dict[str, str]:
    """What there is to be heard in a statement, in the words of a counsellor, by slot."""
    return details_of(statement_of(prompt))


@lru_cache(maxsize=400_000)
def parse(sentence: str) -> Parsed | None:
    """How the world would write one sentence; None where it has no such sentence."""
    for dialect in DIALECTS:
        if (parsed := _parse_as(sentence, dialect)) is not None:
            return parsed
    parsed = _parse_as(_uninverted(sentence), "plain")
    return None if parsed is None else parsed._replace(dialect="inverted")


def _speak(dialect: str, phrase: str) -> str:
    return phrase if dialect == "inverted" else DIALECTS[dialect](phrase)


def _parse_as(sentence: str, dialect: str) -> Parsed | None:
    if (found := _TONES[dialect].get(sentence)) is not None:
        return Parsed(*found, dialect, ())
    for kind, template, pattern in _PATTERNS[dialect]:
        if match := pattern.match(sentence):
            return Parsed(kind, template, dialect, tuple(match.groupdict().items()))
    return None


def _uninverted(sentence: str) -> str:
    words = split_words(sentence)
    return join_words([words[1], words[0], *words[2:]]) if len(words) > 2 else sentence


def _pattern(template: str, phrases: dict[str, tuple[str, ...]], speak: Callable[[str], str]) -> re.Pattern[str]:
    """A template as an expression whose groups are its slots, in one way of speaking."""
    text = re.escape(speak(SLOT.sub(r"slot\1", template)))
    for slot, choices in phrases.items():
        spoken = sorted({re.escape(speak(phrase)) for phrase in choices}, key=len, reverse=True)
        text = text.replace(f"slot{slot}", f"(?P<{slot}>{'|'.join(spoken)})")
    return re.compile(f"^{text}$")


_STYLES = tuple(_pattern(style, SAID, DIALECTS["plain"]) for style in STYLES)
_PATTERNS = {
    dialect: [(kind, t, _pattern(t, PHRASES, speak)) for kind, templates in KINDS.items() for t in templates]
    for dialect, speak in DIALECTS.items()
}
_TONES = {
    dialect: {speak(text): (tone, text) for tone, texts in (("warm", WARM), ("cold", COLD)) for text in texts}
    for dialect, speak in DIALECTS.items()
}
