"""Counsellors' responses of every kind and warmth, plain or with a defect of speech."""

from __future__ import annotations

import random
from dataclasses import dataclass

from emorl_bench.assets.world.lexicon import EVENTS, FEELINGS, HOPES, OBSTACLES, to_you
from emorl_bench.assets.world.statements import Statement

COMPLEX = (
    "you feel {feeling} about {name}, and you want to {hope}.",
    "part of you wants to {hope}, and part of you thinks that {obstacle}.",
    "you are {feeling}, because you really want to {hope}.",
    "you hope to {hope}, and yet {obstacle}.",
    "{obstacle}, and still you feel {feeling} about {name}.",
)
SIMPLE = (
    "you {doing} since {event}.",
    "you feel {feeling} about {name}.",
    "you say that {obstacle}.",
    "it all began when {event}.",
    "you would like to {hope}.",
)
QUESTION = (
    "how long has this been going on?",
    "what would help you to {change}?",
    "do you think you could {change}?",
    "what have you tried so far?",
)
ADVICE = (
    "you should {change}.",
    "you have to talk to a doctor about it.",
    "just make a plan and {change} next week.",
    "try to think about something else.",
)
CONFRONTATION = (
    "you are only making excuses.",
    "you know very well that {name} will ruin you.",
    "you could {change} if you really cared.",
    "you have only yourself to blame.",
)
KINDS = {
    "complex": COMPLEX,
    "simple": SIMPLE,
    "question": QUESTION,
    "advice": ADVICE,
    "confrontation": CONFRONTATION,
}

FITTING = {  # warm sentences, and the feelings that each answers to
    "it makes sense to feel that way.": ("guilty", "ashamed", "embarrassed"),
    "anyone would struggle with that.": ("guilty", "ashamed", "embarrassed"),
    "thank you for trusting me.": ("guilty", "ashamed", "embarrassed"),
    "i am here with you.": ("afraid", "worried", "overwhelmed"),
    "take all the time you need.": ("afraid", "worried", "overwhelmed"),
    "you are not alone in this.": ("lonely", "hopeless", "numb"),
    "my heart goes out to you.": ("lonely", "hopeless", "numb"),
    "i am glad you told me.": ("lonely", "hopeless", "numb"),
    "that sounds so hard.": ("exhausted", "angry", "stuck"),
    "i really admire your courage.": ("exhausted", "angry", "stuck"),
}
WARM = tuple(FITTING)
COLD = (
    "stop complaining.",
    "that is your own fault.",
    "everybody has problems.",
    "so what?",
    "get over it.",
    "do not be so dramatic.",
    "i have no time for this.",
    "grow up.",
)
LESS = {"very warm": "warm", "warm": "neutral", "cold": "neutral", "neutral": "neutral"}
MAX_WORDS = 22

ARTICLES_AND_VERBS = ("a", "all", "are", "has", "have", "is", "it", "the", "this")
LINKING_WORDS = ("about", "and", "at", "for", "from", "in", "of", "that", "to", "when", "with")
FUNCTION_WORDS = frozenset((*ARTICLES_AND_VERBS, *LINKING_WORDS))

WRONG_FORM = {
    "are": "is",
    "am": "be",
    "is": "are",
    "your": "you",
    "you": "your",
    "feel": "feels",
    "want": "wanting",
    "wants": "want",
    "has": "have",
    "have": "has",
    "what": "which",
    "to": "at",
    "it": "its",
    "that": "which",
    "i": "me",
}


@dataclass(frozen=True, slots=True)
class Response:
    """A response and what it was made of."""

    text: str
    kind: str  # of `KINDS`
    warmth: str  # very warm, warm, neutral or cold
    broken: bool  # a defect has changed the words


def details_of(statement: Statement) -> dict[str, str]:
    """What there is to be heard in a statement, in the words of a counsellor."""
    return {
        "doing": to_you(statement.topic.doing),
        "name": statement.topic.name,
        "change": statement.topic.change,
        "event": to_you(EVENTS[statement.event]),
        "feeling": FEELINGS[statement.feeling],
        "hope": to_you(HOPES[statement.hope]),
        "obstacle": to_you(OBSTACLES[statement.obstacle]),
    }


def core(rng: random.Random, statement: Statement, kind: str) -> str:
    """A response of one kind to one statement, neither warm nor cold."""
    return rng.choice(KINDS[kind]).format(**details_of(statement))


def respond(
    rng: random.Random,
    statement: Statement,
    kind: str,
    warmth: str,
    defect: str | None = None,
    *,
    fitting: bool = False,
) -> Response:
    """A response with the wanted labels; drawn again until it is short enough to be said in one breath.

    With ``fitting`` the first warm sentence answers to what the client feels; without, it is any.
    """
    while True:
        sentences = [core(rng, statement, kind), *_tone(rng, warmth, FEELINGS[statement.feeling] if fitting else None)]
        if rng.random() < 0.5:
            sentences = sentences[1:] + sentences[:1]
        plain = " ".join(sentences)
        text = plain if defect is None else DEFECTS[defect](plain)
        if len(split_words(text)) <= MAX_WORDS:
            return Response(text, kind, warmth, text != plain)
        if rng.random() < 0.2:  # much warmth leaves no room for a complex reflection
            warmth = LESS[warmth]


def _tone(rng: random.Random, warmth: str, feeling: str | None) -> list[str]:
    """The sentences of a warmth, the first of which answers to the feeling."""
    if warmth == "neutral":
        return []
    if warmth == "cold":
        return rng.sample(COLD, 1)
    first = rng.choice([text for text in WARM if feeling is None or feeling in FITTING[text]])
    return [first] if warmth == "warm" else [first, rng.choice([text for text in WARM if text != first])]


def split_words(text: str) -> list[str]:
    """Words and punctuation marks, as the tokenizer sees them."""
    for mark in ".,?":
        text = text.replace(mark, f" {mark}")
    return text.split()


def join_words(words: list[str]) -> str:
    text = " ".join(words)
    for mark in ".,?":
        text = text.replace(f" {mark}", mark)
    return text


def telegraphic(text: str) -> str:
    """Function words lost: "you feel guilty smoking, you want family"."""
    return join_words([w for w in split_words(text) if w not in FUNCTION_WORDS])


def inverted(text: str) -> str:
    """Every sentence starts with its second word."""
    words = split_words(text)
    for i in [0, *(i + 1 for i, w in enumerate(words) if w in ".?" and i + 2 < len(words))]:
        words[i], words[i + 1] = words[i + 1], words[i]
    return join_words(words)


def ungrammatical(text: str) -> str:
    """Verbs and pronouns of the wrong form."""
    return join_words([WRONG_FORM.get(w, w) for w in split_words(text)])


DEFECTS = {"telegraphic": telegraphic, "inverted": inverted, "ungrammatical": ungrammatical}
