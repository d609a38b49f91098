"""The plan of a search's second stage: rungs of successive halving, then finals.

Made by search/launcher/prepare.py of `search launch --finish`, shortened by search/launcher/closing.py where
--timeout leaves less, stored as JSON in the study's row, and read
there by every worker and every command that looks at the study. It says how many networks, epochs and seeds;
which networks they are, search/study/halving.py finds out. A shortened one keeps the plan that was asked for
and the limit, to which search/study/finals_length.py lengthens the finals again once they are due.

Each rung trains a quarter of the networks of the one before for four times as long: successive halving (K.
Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS
2016), by a factor that L. Li et al. (Hyperband, JMLR 18, 2018) advise: 3 or 4. Rungs end where a final would
be as short, or where nobody would be dropped.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search import settings
from search.study import full_training
from search.study.config import StudyConfig
from search.study.text import counted
from space import baselines as first_guesses
from space.document import first_problem
from space.errors import StudyError, UsageError
from storage.row_types import Candidate, State
from storage.studies import CLOSED_FROM, EXHAUSTED
from trainer.recipe.document import Recipe

FIRST = 16  # networks that go on from the brief trials
FACTOR = 4  # of epochs from rung to rung, and of networks that are dropped
STEP = 24  # images that take as long as what a step costs beside its images: docs/recipe.md, on a CPU
SLOWEST = 5.0  # times the median of their paces, that a trial counts for at most
SLACK = 1.25  # longer than the pace of the trials says: finals augment more, some networks are slower


class Rung(BaseModel):
    """So many networks at most, for so many epochs, by the study's recipe for that length, one seed each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: int = Field(ge=1)
    epochs: int = Field(ge=1)


class Finals(BaseModel):
    """So many networks and the best baseline, by this recipe, with so many seeds, on all training images.

    With `contenders` they have two turns: so many, the best baseline and the best variant of baselines among
    them, are trained with the first seed, and the best `networks` of them with the others, if there are any.
    `variants` are the fingerprints of what counts as a variant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: int = Field(ge=1)
    seeds: int = Field(ge=1)
    recipe: Recipe
    contenders: int | None = Field(default=None, ge=2)
    variants: tuple[str, ...] = ()

    @property
    def entrants(self) -> int:
        """How many networks come into them; without contenders beside the best baseline."""
        return self.contenders or self.networks

    @property
    def turns(self) -> tuple[int, ...]:
        """Trainings at most, with a baseline that was not among the best, in each turn: those of the next one
        are known once these have ended."""
        if self.contenders is None:
            return ((self.networks + 1) * self.seeds,)
        return (self.contenders, self.networks * (self.seeds - 1))


class Limit(BaseModel):
    """When the launch ends that a plan is to end in, in seconds since 1970 by the clock of the database, how
    many workers it had then, and on how many devices, where these are known: fewer than workers, if they
    share GPUs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    until: float
    workers: int = Field(ge=1)
    devices: int | None = Field(default=None, ge=1)


class FinishPlan(BaseModel):
    """What comes after the brief trials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rungs: tuple[Rung, ...]
    finals: Finals
    wanted: "FinishPlan | None" = None  # what was asked for, where this is shortened to a limit of time
    closed_from: int | None = None  # trials that were asked for, where they were ended before that
    exhausted: bool = False  # they were, as no network was left to propose; else in time
    limit: Limit | None = None  # of the launch that it is to end in

    @property
    def whole(self) -> "FinishPlan":
        """The plan that was asked for."""
        unended = {"closed_from": None, "exhausted": False, "limit": None}
        return self.wanted or self.model_copy(update=unended)

    def with_wanted(
        self,
        wanted: "FinishPlan",
        closed_from: int | None,
        limit: Limit | None = None,
        *,
        exhausted: bool = False,
    ) -> "FinishPlan":
        """This plan in place of the one that was asked for. `limit`: that it is to end in, be it as long as
        was asked for: its finals may turn out to take longer than was reckoned."""
        shortened = (self.rungs, self.finals) != (wanted.rungs, wanted.finals)
        kept = {"wanted": wanted.whole if shortened else None, "closed_from": closed_from, "limit": limit}
        return self.model_copy(update=kept | {"exhausted": exhausted and closed_from is not None})

    @classmethod
    def from_record(cls, finish: dict[str, Any] | None) -> Self | None:
        """The plan in a study's row, None where the search ends with its trials. Raises StudyError for one
        that cannot be read."""
        try:
            return cls.model_validate_json(json.dumps(finish)) if finish else None
        except ValidationError as error:
            reason = first_problem(error, cls)
            raise StudyError(f"the stored second stage is damaged, or of another version: {reason}") from None

    def document(self) -> dict[str, Any]:
        """The plan as JSON values, as the store keeps it; without what says nothing."""
        found = self.model_dump(mode="json", include={"rungs", "finals"})
        if self.finals.contenders is None:
            del found["finals"]["contenders"]
        if not self.finals.variants:
            del found["finals"]["variants"]
        if self.wanted:
            found["wanted"] = self.wanted.document()
        if self.closed_from is not None:
            found[CLOSED_FROM] = self.closed_from
        if self.exhausted:
            found[EXHAUSTED] = True
        if self.limit:
            found["limit"] = self.limit.model_dump(mode="json", exclude_none=True)
        return found

    def halving_epochs(self) -> int:
        """Epochs of all rungs, if there are networks enough."""
        return sum(rung.networks * rung.epochs for rung in self.rungs)

    def finals_epochs(self) -> int:
        """Epochs of the finals at most: with a baseline that was not among the best."""
        return sum(self.finals.turns) * self.finals.recipe.epochs


def make_plan(
    config: StudyConfig,
    stored: FinishPlan | None,
    finalists: int | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    first: int = FIRST,
    contenders: int | None = None,
) -> FinishPlan:
    """The plan that the flags mean; what they leave open comes from the stored one, else from the defaults.
    `first` networks go on from the brief trials; 0: no rungs. `contenders` as in Finals.

    Raises UsageError where the finals are no longer than the brief trials, RecipeError where the recipe of a
    full training does not fit the study's images.
    """
    was = stored.finals if stored else None
    if was and epochs in (None, was.recipe.epochs):  # which an older version may have made otherwise
        recipe = was.recipe
    else:
        data = config.data
        images, written = data.all_train_images, config.recipe_written
        recipe = full_training.adapted(config.recipe, data, data, epochs, images, written=written)
    recipe = Recipe.parse(recipe.model_dump(), "recipe of the finals")  # another length may be a mistake
    recipe.require_fit(config.data.image_size)
    brief = config.recipe.epochs
    if recipe.epochs <= brief:
        raise UsageError(
            f"--final-epochs {recipe.epochs}: finals are longer than the {counted(brief, 'epoch')} of a trial"
        )
    in_turns = was is not None and was.contenders is not None
    varied = was.variants if was and in_turns else _variants(config) if contenders else ()
    finals = Finals(
        networks=finalists or (was.networks if was else settings.FINALISTS),
        seeds=seeds or (was.seeds if was else settings.FINAL_SEEDS),
        recipe=recipe,
        contenders=contenders or (was.contenders if was else None),
        variants=varied,
    )
    return FinishPlan(rungs=rungs(brief, recipe.epochs, finals.entrants, first), finals=finals)


def _variants(config: StudyConfig) -> tuple[str, ...]:
    """Fingerprints of the variants of baselines that a search of this study tries first."""
    found = first_guesses.variants(config.space, config.budget, config.task)
    return tuple(one.architecture.fingerprint for one in found if not one.reason)


def rungs(brief: int, last: int, finalists: int, first: int = FIRST) -> tuple[Rung, ...]:
    """From trials of `brief` epochs to finals of `last`: `first` networks for four times the epochs, then a
    quarter of them for four times as many. None of two networks: the finals of one are the better for it."""
    found = list[Rung]()
    networks, epochs = first, FACTOR * brief
    while networks > max(finalists, settings.FINALISTS) and epochs < last:
        found.append(Rung(networks=networks, epochs=epochs))
        networks, epochs = networks // FACTOR, epochs * FACTOR
    return tuple(found)


def recipe_of_rung(config: StudyConfig, epochs: int) -> Recipe:
    """The study's recipe as it is for so many epochs."""
    data, written = config.data, config.recipe_written
    return full_training.adapted(config.recipe, data, data, epochs, written=written)


def slower(batch: int, than: int) -> float:
    """How many times longer an epoch in batches of this size takes than in batches of another: a step costs
    something beside its images. Less than that on a GPU, where it costs more."""
    return (1 + STEP / batch) / (1 + STEP / than)


def longest(
    config: StudyConfig, wanted: FinishPlan, takes: Callable[[int, int], float], seconds: float
) -> int | None:
    """The most epochs, and not more than wanted, of finals that take no longer than this; None where none do
    that are longer than trials. `takes` says it of so many epochs in batches of a size.

    Raises UsageError and RecipeError as make_plan() does.
    """

    def batch_of(epochs: int) -> int:
        return make_plan(config, wanted, epochs=epochs).finals.recipe.batch_size

    shortest, last = config.recipe.epochs + 1, wanted.finals.recipe.epochs
    if last >= shortest and takes(last, batch_of(last)) <= seconds:
        return last
    last -= 1  # the wanted ones may be stored with batches of their own
    while last >= shortest:  # longer ones have larger batches, and the first of these may take less time
        batch = batch_of(last)
        first = shortest + bisect_left(range(shortest, last + 1), batch, key=batch_of)
        fitting = _longest_of(range(first, last + 1), batch, takes, seconds)
        if fitting:
            return fitting
        last = first - 1
    return None


def _longest_of(epochs: range, batch: int, takes: Callable[[int, int], float], seconds: float) -> int | None:
    """Of lengths that have batches of one size; None where none of them fits."""
    fitting = bisect_right(epochs, seconds, key=lambda length: takes(length, batch))
    return epochs[fitting - 1] if fitting else None


def describe(plan: FinishPlan) -> str:
    """What will be trained, in words."""
    said = [
        f"the best {rung.networks} {'of these ' if i else ''}for {counted(rung.epochs, 'epoch')}"
        for i, rung in enumerate(plan.rungs)
    ]
    finals = plan.finals
    best = "the best network" if finals.networks == 1 else f"{finals.networks}"
    length, seeds = counted(finals.recipe.epochs, "epoch"), counted(finals.seeds, "seed")
    if finals.contenders:
        one = "the best one" if finals.networks == 1 else f"the best {finals.networks}"
        varied = " and variant" if finals.variants else ""
        first = f"one seed of the best {finals.contenders}, with the best baseline{varied}"
        last = f"finals of {length}: {first}" + (f", {seeds} of {one}" if finals.seeds > 1 else "")
    else:
        last = f"finals of {best} and the best baseline for {length} with {seeds}"
    return ", ".join([*said, last])


def describe_closing(plan: FinishPlan, trials: int) -> str:
    """That trials were ended before as many were trained as were asked for, in time for the second stage or
    as no network was left; empty where they were not. `trials`: the study's number."""
    if plan.closed_from is None or plan.closed_from <= trials:
        return ""
    if plan.exhausted:
        return f"the space is exhausted: trials ended after {trials:,} of {plan.closed_from:,}"
    return f"trials were closed in time after {trials:,} of {plan.closed_from:,}"


def describe_cost(plan: FinishPlan, config: StudyConfig, trials: int, rows: Sequence[Candidate]) -> str:
    """What that costs at most beside the brief trials, and the time where trials have shown their pace."""
    halving, finals = plan.halving_epochs(), plan.finals_epochs()
    brief = trials * config.recipe.epochs
    share = (halving + finals) / (brief + halving + finals)
    said = (
        f"at most {halving:,} epochs of halving and {finals:,} of finals beside {brief:,} of the trials,"
        f" {100 * share:.0f}% of all"
    )
    if config.data.limit is not None:
        return f"{said}; finals train on all images, trials on {config.data.train_images:,}"
    pace = seconds_an_epoch([row for row in rows if row.state == State.COMPLETED])
    if pace is None:
        return said
    return f"{said}; about {duration(pace * (halving + finals))} of one worker by the trials so far"


def seconds_an_epoch(rows: Sequence[Candidate]) -> float | None:
    """Of trials that were trained to the end, their mean; None where there is none. One whose process was
    stopped for hours counts as a slow one."""
    paces = [row.seconds / row.epochs for row in rows if row.seconds and row.epochs]
    if not paces:
        return None
    slow = SLOWEST * median(paces)
    return fmean(min(pace, slow) for pace in paces)


def slowest(rows: Sequence[Candidate]) -> float:
    """How many times as long as usual the slowest of these trials took; 1 for none."""
    paces = [pace for row in rows if (pace := seconds_an_epoch([row])) is not None]
    return min(max(paces) / fmean(paces), SLOWEST) if paces else 1.0


def duration(seconds: float) -> str:
    """A time span as people say it: 3 h 10 min, 4 min, 20 s."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
