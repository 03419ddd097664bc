"""One colour and one marker for each name, the same in every figure of every report.

The colours are Okabe & Ito's, then three of Tol's. People with colour-vision deficiencies can tell them apart; markers
carry the same information in print.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B5B5B", "#882255", "#332288", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
PALE = "#C9C9C9"

# A name's place decides its look: add new names at the end, and never remove or move one. The first ten have ten
# colours; every ten more have the same colours with other markers.
PLACES = (
    "emorl", "weighted_scst", "weighted_ppo", "cory", "param_merge", "single_objective", "base", "rloo", "morlhf",
    "grpo",
    "emorl_cube", "dynaopt", "best_of_n", "ppo_matched", "mod", "gdpo", "random_weights", "ric", "agro", "c_dynaopt",
    "emorl_earlier", "hv_guided", "round_robin", "cory_individual", "ties", "dare", "saw", "mgda", "dorb", "mo_grpo",
    "emorl_gp", "cagrad", "upgrad", "cory_no_swap", "aim", "ram", "pareto_set", "trl_rloo", "agro_offline", "trl_grpo",
    "emorl_sobol", "trl_gdpo", "ppo_released", "cory_no_transfer", "param_merge_uniform", "weight_ensembling_moe",
    "emorl_tpe", "emorl_ucb", "agro_replay", "cory_released", "cory_reference",
    "random", "simplex", "hierarchical", "cube", "sobol", "gp", "tpe", "ucb", "ours", "theirs", "single",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The colour and the marker of one name."""

    colour: str
    marker: str

    @property
    def pale(self) -> bool:
        """Whether it is drawn behind the others, without a place in the legend."""
        return self.colour == PALE


def looks(names: Sequence[str], rest: Iterable[str] = ()) -> dict[str, Look]:
    """The looks of the names in a figure, in their order; those of the ``rest``, in grey, come first.

    A name that `PLACES` lacks has the place that its hash gives. Only where two names of one figure fall on one place
    does one of them move, to the next free place.
    """
    places: dict[str, int] = {name: PLACES.index(name) for name in names if name in PLACES}
    every = len(COLOURS) * len(MARKERS)
    for name in sorted(set(names) - set(places)):
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % every
        while place in places.values() and len(places) < every:
            place = (place + 1) % every
        places[name] = place
    return {name: Look(PALE, ".") for name in rest} | {name: look_at(places[name]) for name in names}


def look_at(place: int) -> Look:
    """The look of a place; 110 places differ."""
    column, row = place % len(COLOURS), place // len(COLOURS)
    return Look(COLOURS[column], MARKERS[(column + row) % len(MARKERS)])
