"""A score from a user's own function: ``function(prompts, responses)`` returns a number, or None, for each response."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emorl_bench.core.errors import UserError
from emorl_bench.core.leaving import staying
from emorl_bench.core.types import Example
from emorl_bench.scorers.rule import Rule


@dataclass(frozen=True)
class Python(Rule):
    """``function`` is a dotted path, ``my.module.fn``. Its results are between ``low`` and ``high``.

    It gets two lists of texts. Its result for a text must not depend on the other texts, because each text is asked
    about once.
    """

    function: str
    low: float = 0.0
    high: float = 1.0
    name: str = "python"

    @property
    def bounds(self) -> tuple[float, float]:
        """The configured bounds."""
        return self.low, self.high

    def prepare(self) -> None:
        """Import the function now, and not in the middle of a run.

        Raises:
            UserError: it cannot be imported.
        """
        self._function()

    def score(self, examples: Sequence[Example], responses: Sequence[str]) -> list[float | None]:
        """B numbers; None where the function does not apply.

        Raises:
            UserError: the function cannot be imported, fails, or does not give one number or None for each response.
        """
        function = self._function()
        try:
            with staying(f"scorer {self.name}: function={self.function}"):
                scores = list(function([e.prompt for e in examples], list(responses)))
                return [None if score is None else float(score) for score in scores]
        except UserError:
            raise
        except Exception as error:  # a user's code may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"scorer {self.name}: function={self.function} failed ({reason}); mend the function"
            ) from error

    def fingerprint(self) -> str:
        """Hash of the source of its module, where there is one."""
        function = self._function()
        try:
            source = inspect.getsource(inspect.getmodule(function) or function)
        except (OSError, TypeError):  # built into an extension module
            source = ""
        return f"{self.function}-{hashlib.sha256(source.encode()).hexdigest()[:16]}"

    def _function(self) -> Callable[[list[str], list[str]], Sequence[Any]]:
        if self.low >= self.high:
            raise UserError(f"scorer {self.name}: low={self.low}, high={self.high}: low must be below high")
        module, _, attribute = self.function.rpartition(".")
        try:
            with staying(f"scorer {self.name}: importing function={self.function}"):
                function = getattr(importlib.import_module(module), attribute)
        except UserError:
            raise
        except Exception as error:  # importing a user's module may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"scorer {self.name}: function={self.function}: cannot be imported ({reason}); "
                "give a dotted path such as my.module.fn, with its directory on PYTHONPATH"
            ) from error
        if not callable(function):
            raise UserError(f"scorer {self.name}: function={self.function}: is not a function")
        return function  # type: ignore[no-any-return]
