"""Whether a network lies inside a space, and which suggestions make it: the inverse of `space/sampling.py`.

Called by `search launch --start-from`, which enqueues known networks, and where Optuna's part of a study is
made again. It knows no study and reads no file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from space import cost
from space.architecture import Architecture
from space.budget import Budget, judge
from space.domains import near, told
from space.inverse import shape_of
from space.same import SHARED, shared_value
from space.sampling import plain, propose
from space.skeleton import Skeleton
from space.space import SearchSpace, Task


@dataclass(frozen=True)
class Answers:
    """Given answers in place of a sampler; `asked` collects those that were wanted."""

    given: dict[str, Any]
    asked: dict[str, Any]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        del low, high, step, log
        return int(self._keep(name))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        del low, high, step, log
        return float(self._keep(name))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        del choices
        return self._keep(name)

    def _keep(self, name: str) -> Any:
        self.asked[name] = self.given[name]
        return self.given[name]


def contains(space: SearchSpace, architecture: Architecture) -> list[str]:
    """Why this network lies outside the space, each with the knob and the value; empty where it is inside.

    The budget and its share are not asked here, nor is the task: a network brings its own.
    """
    _, reasons = shape_of(space, architecture)
    return reasons


def suggestions_of(
    space: SearchSpace, budget: Budget, task: Task, architecture: Architecture
) -> dict[str, Any] | list[str]:
    """The answers of a sampler that make this network, as `optuna.Study.enqueue_trial` takes them; or the
    reasons why there are none."""
    shape, reasons = _shape_for(space, task, architecture)
    if shape is None:
        return reasons
    verdict = judge(architecture, budget)
    if verdict.excess:
        return [verdict.excess]
    used = budget.used(cost.total(architecture))
    share = next((s for s in sorted(near(space.budget_share, used)) if s >= used * (1 - 1e-12)), None)
    outside = [f"budget_share: it uses {used:.4f} of the budget, not {told(space.budget_share)}"]
    if share is None:
        return outside
    answers = Answers(answers_of(space, shape) | {"budget_share": share}, {})
    made = propose(space, budget, task, answers)
    if made.fingerprint != architecture.fingerprint:
        if used < space.budget_share.low:
            return outside
        return [
            f"budget_share: it uses {used:.4f} of the budget, where a network of its shape is"
            f" {made.stages[0].width} channels wide and not {architecture.stages[0].width}"
        ]
    return answers.asked


def plain_suggestions_of(
    space: SearchSpace, task: Task, architecture: Architecture
) -> dict[str, Any] | list[str]:
    """The same where the width is one of the answers and no budget gives it (`space.sampling.plain`), for a
    network of any size."""
    shape, reasons = _shape_for(space, task, architecture)
    if shape is None:
        return reasons
    answers = Answers(answers_of(space, shape) | {"width": architecture.stages[0].width}, {})
    plain(space, task, answers)  # asks; shape_of() has made the network of this shape and width before
    return answers.asked


def _shape_for(
    space: SearchSpace, task: Task, architecture: Architecture
) -> tuple[Skeleton | None, list[str]]:
    """The shape that the space gives a network for these images, or the reasons why there is none."""
    reasons = [*_other_task(architecture, task)]
    return (None, reasons) if reasons else shape_of(space, architecture)


def _other_task(architecture: Architecture, task: Task) -> Iterator[str]:
    for name in ("channels", "image_size", "classes"):
        was, wanted = getattr(architecture, name), getattr(task, name)
        if was != wanted:
            yield f"{name}: {was}, where the data have {wanted}"


def answers_of(space: SearchSpace, shape: Skeleton) -> dict[str, Any]:
    """The answer to every question that a draw of this shape may ask, and to some that it does not."""
    own: dict[str, Any] = {
        "depth": len(shape.stages),
        "head_form": shape.form,
        "stem_width_ratio": shape.stem_ratio,
        "stem_max_pool": shape.max_pool,
        **vars(shape.branch),
    }
    same = ("round_to", "stem_kernel", "stem_stride", "pool_kind", "pool_size", "pool_window", "hidden",
            "dropout", "shortcut", "block_dropout", "activation", "squeeze_excitation",
            "preactivation")  # fmt: skip
    own |= {name: getattr(shape, name) for name in same}
    for i, stage in enumerate(shape.stages, start=1):
        own |= {f"{name}_{i}": value for name, value in vars(stage).items()}
    for name in SHARED:
        value = shared_value(space, shape, name)
        own |= {f"same_{name}": value is not None, name: value}
    return own
