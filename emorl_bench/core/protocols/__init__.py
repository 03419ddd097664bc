"""The interfaces of the benchmark: what a method is given, and what it must return.

They are divided by subject (policies, scoring, training, ensemble, method), and all are imported from here.
"""

from emorl_bench.core.protocols.ensemble import Aggregator, FrontSearch, FrontStrategy, SearchStrategy, WeightSearch
from emorl_bench.core.protocols.method import Bench, Candidate, Method, Runtime, Solution, Tracker
from emorl_bench.core.protocols.policies import Policy, Sampler
from emorl_bench.core.protocols.scoring import Scorer, Scores, Task
from emorl_bench.core.protocols.training import Learner, Resumable, UpdateRule, Weighting

__all__ = [
    "Aggregator",
    "Bench",
    "Candidate",
    "FrontSearch",
    "FrontStrategy",
    "Learner",
    "Method",
    "Policy",
    "Resumable",
    "Runtime",
    "Sampler",
    "Scorer",
    "Scores",
    "SearchStrategy",
    "Solution",
    "Task",
    "Tracker",
    "UpdateRule",
    "WeightSearch",
    "Weighting",
]
