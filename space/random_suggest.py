"""Answers at random, from a seed: what stands in for a sampler where none is wanted.

Answers what space/sampling.py's `Suggest` asks, and draws as the random sampler of a search does: choices by
their weights, all else evenly, on a log scale where one is asked for. It remembers what it answered, and
knows no space. Called by the forecast, `search space sample`, and what times networks before a search.
"""

import math
import random
from typing import Any, TypeVar

from space.domains import on_step
from space.weights import Weighted

Answer = TypeVar("Answer")


class RandomSuggest:
    """Independent answers; `answers` are those given since `clear`, by name."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.answers: dict[str, Any] = {}

    def clear(self) -> None:
        """Forgets the answers, for the next network."""
        self.answers = {}

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """On a log scale each number has the share of it from half below to half above."""
        if not log:
            return self._keep(name, low + step * self.random.randrange((high - low) // step + 1))
        drawn = round(math.exp(self._between(math.log(low - 0.5), math.log(high + 0.5))))
        return self._keep(name, min(max(drawn, low), high))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            drawn = low + step * self.random.randrange(round((high - low) / step) + 1)
            return self._keep(name, min(high, on_step(drawn)))
        if not log:
            return self._keep(name, self._between(low, high))
        return self._keep(name, min(max(math.exp(self._between(math.log(low), math.log(high))), low), high))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if isinstance(choices, Weighted):
            return self._keep(name, self.random.choices(choices, choices.weights)[0])
        return self._keep(name, choices[int(self.random.random() * len(choices))])

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random.random()

    def _keep(self, name: str, answer: Answer) -> Answer:
        self.answers[name] = answer
        return answer
