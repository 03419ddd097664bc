"""The phrases of the world, in the first person as clients say them.

`to_you` turns a client's phrase into the counsellor's, so each phrase is written once.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND_PERSON = {"i": "you", "my": "your", "me": "you", "myself": "yourself", "am": "are", "mine": "yours"}


def to_you(phrase: str) -> str:
    """``"i hurt my back"`` becomes ``"you hurt your back"``."""
    return " ".join(SECOND_PERSON.get(word, word) for word in phrase.split())


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A topic of the world: what the client does, its name, and the change under discussion."""

    doing: str  # after "i"
    name: str  # after "about"
    change: str  # after "to"


BEHAVIOURS = (
    Behaviour("smoke a pack a day", "smoking", "quit smoking"),
    Behaviour("drink every night", "drinking", "stop drinking"),
    Behaviour("skip my pills", "the pills", "take the pills again"),
    Behaviour("stay in bed until noon", "staying in bed", "get up earlier"),
    Behaviour("live on junk food", "the junk food", "eat better"),
    Behaviour("avoid any exercise", "the exercise", "move a little more"),
    Behaviour("gamble on my phone", "gambling", "stop gambling"),
    Behaviour("shout at everyone", "shouting", "stay calm"),
    Behaviour("scroll until two in the morning", "scrolling", "put the screen away"),
    Behaviour("spend money that is not there", "spending", "save some money"),
    Behaviour("work every single weekend", "the long hours", "work less"),
    Behaviour("go without breakfast and lunch", "the missed meals", "eat at noon"),
    Behaviour("hide from my friends", "hiding", "see people again"),
    Behaviour("leave every bill unopened", "the bills", "open the letters"),
)

EVENTS = (
    "my father got sick",
    "i lost my job",
    "my wife moved out",
    "the baby came",
    "i came to this town",
    "my best friend died",
    "the night shift began",
    "the kids left home",
    "i hurt my back",
    "the new boss arrived",
    "the rent went up",
    "i went back to school",
)

FEELINGS = (
    "guilty",
    "ashamed",
    "exhausted",
    "afraid",
    "angry",
    "lonely",
    "stuck",
    "worried",
    "hopeless",
    "overwhelmed",
    "numb",
    "embarrassed",
)

HOPES = (  # after "i want to"
    "be there for my family",
    "feel like myself again",
    "live a long life",
    "sleep through the night",
    "make my mother proud",
    "set a good example",
    "get my energy back",
    "have some peace",
    "trust my own word",
    "enjoy the small things",
)

OBSTACLES = (
    "it calms me down",
    "it is all i have left",
    "it helps me forget",
    "it is easier than talking",
    "nothing else works",
    "change scares me",
    "i never have the time",
    "i am too tired to fight",
    "i failed twice before",
    "nobody would notice anyway",
)

# Five styles of speaking; each tells the situation, the feeling and both sides of the ambivalence.
STYLES = (
    "since {event}, i {doing}. i feel {feeling}. i want to {hope}, but {obstacle}.",
    "well, i {doing} since {event}. {obstacle}. still, i am {feeling} and i want to {hope}.",
    "why do i {doing}? it started when {event}. i am so {feeling}. i want to {hope}, but {obstacle}.",
    "{obstacle}, so i {doing}. that began after {event}. i want to {hope} and i feel {feeling}.",
    "since {event}, i {doing}. my doctor asks me to {change}. {obstacle}, but i feel {feeling}. i want to {hope}.",
)
