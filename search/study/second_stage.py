"""The second stage of one study, read from the store, and what is said of it: progress, finals, bill.

Reads rows; writes nothing. Called by the launcher, status, the end of a launch, the report and the export.
Who goes on is search/study/halving.py's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from search.study import bill, device_time, finish_plan, full_training, halving
from search.study.config import StudyConfig
from search.study.finish_plan import FinishPlan
from search.study.halving import ReachedRung
from search.study.score import WORDS, ScoreName
from search.study.statistics import Difference, Spread, difference, difference_of_means, spread
from search.study.text import counted, over_seeds, percent
from storage import candidates, rungs, trainings
from storage.row_types import TRAINED, Candidate, Epoch, RungTraining, Stage, State
from storage.studies import Study
from storage.trainings import Finished

WITHOUT_TEST = (
    "there are no test images: validation images chose the winner and measured it, so expect somewhat less on"
    " new ones"
)


@dataclass(frozen=True)
class Finalist:
    """A network of the finals: the seeds that came to their end, of how many, and what they came to."""

    candidate: Candidate
    seeds: int
    of: int
    validation: Spread
    test: Spread | None  # of seeds tested on one set; None where the data set has no test images
    score: Spread | None  # what the search maximises, on validation images; None where that is accuracy
    score_name: ScoreName
    test_images: int | None
    test_digest: str | None = None  # of these images; None where the rows are of before

    @property
    def tested_seeds(self) -> int:
        """How many the test accuracy is of: of seeds that were tested on two sets those of one; 0 without."""
        return len(self.test.values) if self.test else 0

    @property
    def is_tested(self) -> bool:
        """Whether each of its seeds was, on the same test images."""
        return self.test is not None and self.tested_seeds == self.seeds

    @property
    def seeds_cell(self) -> str:
        """Its seeds in a table: 3 of 3; where the test accuracy is of fewer, 3 of 3, 2 tested."""
        return f"{self.seeds} of {self.of}{self.tested_of_them}"

    @property
    def tested_of_them(self) -> str:
        """What to add to the number of its seeds where its test accuracy is of fewer; empty where not."""
        return f", {self.tested_seeds} tested" if self.test and not self.is_tested else ""

    @property
    def has_two_values(self) -> bool:
        """Whether a mean of it is of two seeds, whose values then stand in place of its interval."""
        return any(found is not None and len(found.values) == 2 for found in (self.validation, self.test))

    def __str__(self) -> str:
        named = f" (baseline {self.candidate.baseline})" if self.candidate.baseline else ""
        seeds = counted(self.of, "seed") if self.seeds == self.of else f"{self.seeds} of {self.of} seeds"
        said = f"trial {self.candidate.number}{named}: "
        if self.score is not None:
            said += f"{WORDS[self.score_name]} {_mean(self.score)}, accuracy "
        said += f"{_mean(self.validation)} on validation images"
        if self.test is not None:
            said += f", {_mean(self.test)} on {self.test_images:,} test images"
            said += "" if self.is_tested else f" (of {counted(self.tested_seeds, 'seed')})"
        return f"{said}, {seeds}"


def _seed(one: Finished) -> int:
    return one.seed


def _mean(found: Spread) -> str:
    known = over_seeds(found)
    return percent(found.mean) + (f" ({known})" if known else "")


@dataclass(frozen=True)
class SecondStage:
    """A study's second stage at one moment."""

    plan: FinishPlan
    rows: Sequence[Candidate]
    trainings: Sequence[RungTraining]
    full: Sequence[Finished]  # what finals of every length left among the full trainings
    trials: int  # that were asked for
    score: ScoreName = "accuracy"  # that the search maximises
    epochs: Mapping[int, Sequence[Epoch]] = field(default_factory=dict)  # those of device_time.needed()

    @property
    def rungs(self) -> list[ReachedRung]:
        """Those that were reached: none while trials are owed and nothing was asked for."""
        if not self.has_its_trials and not self.trainings:
            return []
        return halving.reached(self.plan, self.rows, self.trainings)

    @property
    def has_its_trials(self) -> bool:
        """Whether it may begin."""
        return not self.owed

    @property
    def owed(self) -> int:
        """How many trials are still to be trained."""
        return max(0, self.trials - sum(row.state in TRAINED for row in self.rows))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.has_its_trials and halving.is_over(self.plan, self.rows, self.trainings)

    def has_all_seeds(self, candidate: Candidate, epochs: int) -> bool:
        """Whether finals of this length had the network, and each of its seeds has ended; of two turns also
        of those that it has yet to be given."""
        mine = [
            one
            for one in self.trainings
            if one.candidate_id == candidate.id and one.stage == Stage.FINALS and one.epochs == epochs
        ]
        if not mine or not all(one.has_ended for one in mine):
            return False
        finals, rungs = self.plan.finals, self.rungs
        if not finals.contenders or epochs != finals.recipe.epochs or not rungs:
            return True
        if {one.seed for one in mine}.issuperset(range(finals.seeds)):  # others may be in a first turn by now
            return True
        last = rungs[-1]
        return not (last.is_first_turn or any(one.candidate_id == candidate.id for one in last.missing))

    @property
    def winner(self) -> Candidate | None:
        """The best of the finals, once they are over."""
        return halving.winner(self.rungs)

    @property
    def deciding_finals(self) -> ReachedRung | None:
        """The finals that say which network is the best so far: these once they are over, else, and where no
        network came through them, earlier ones."""
        over = halving.finals(self.rungs)
        if over and over.ranked:
            return over
        return halving.earlier_finals(self.plan, self.rows, self.trainings)

    @property
    def confirmed(self) -> Finalist | None:
        """The best network by finals: the winner, and until these finals are over that of earlier ones."""
        finals = self.deciding_finals
        return self._finalist(finals, finals.ranked[0]) if finals and finals.ranked else None

    @property
    def finalists(self) -> list[Finalist]:
        """Those that came through the finals, the best first; none before they are over."""
        rungs = self.rungs
        if halving.finals(rungs) is None:
            return []
        found = dict[int, Finalist]()  # of two turns the last one first
        for rung in reversed([rung for rung in rungs if rung.stage == Stage.FINALS]):
            for candidate in rung.ranked:
                found.setdefault(candidate.number, self._finalist(rung, candidate))
        return list(found.values())

    def _finalist(self, finals: ReachedRung, candidate: Candidate) -> Finalist:
        completed = finals.completed(candidate)
        seeds = {one.seed for one in completed}
        full = [
            one
            for one in self.full
            if (one.trial, one.epochs) == (candidate.number, finals.epochs) and one.seed in seeds
        ]
        tested = full_training.tested_alike(sorted(full, key=_seed))
        scored = all(one.score is not None for one in completed)
        return Finalist(
            candidate=candidate,
            seeds=len(completed),
            of=len(finals.seeds),
            validation=spread([one.accuracy or 0.0 for one in completed]),
            test=spread([one.test_accuracy or 0.0 for one in tested]) if tested else None,
            score=spread([one.score for one in completed if one.score is not None]) if scored else None,
            score_name=self.score,
            test_images=tested[0].test_images if tested else None,
            test_digest=next((found for one in tested if (found := full_training.test_digest(one))), None),
        )


def load(
    engine: Engine,
    record: Study,
    rows: Sequence[Candidate] | None = None,
    epochs: Mapping[int, Sequence[Epoch]] | None = None,
) -> SecondStage | None:
    """The second stage of a study, None where it has none; `rows` are its candidates and `epochs` theirs,
    where they are known."""
    plan = FinishPlan.from_record(record.finish)
    if plan is None:
        return None
    full = [
        one
        for one in trainings.of_study(engine, record.name)
        if one.trial is not None and one.run == trainings.run_of_finals(record.id, one.trial, one.epochs)
    ]
    rows = candidates.candidates(engine, record.id) if rows is None else rows
    score = StudyConfig.from_record(record.settings).score
    trained = rungs.of_study(engine, record.id)
    if epochs is None:  # they are for the bill, which there is none of before
        asked = device_time.needed(rows) if trained else ()
        epochs = candidates.epochs(engine, record.id, asked) if asked else {}
    return SecondStage(plan, rows, trained, full, record.trials, score, epochs)


def progress(stage: SecondStage) -> str:
    """How far it is, in one line."""
    if not stage.rungs:
        if stage.has_its_trials:
            return "second stage: no network was trained to the end, so none goes on"
        return f"second stage, after the trials: {finish_plan.describe(stage.plan)}"
    here = stage.rungs[-1]
    ended = [one for one in here.entered if one.has_ended]
    said = f"{here.name}: {len(ended)} of {here.total} trained"
    failed = [one.state for one in ended if one.state != State.COMPLETED]
    if failed:
        names = sorted({str(state).replace("_", " ") for state in failed})
        said += f", {len(failed)} of them came to nothing ({', '.join(names)})"
    return said


def lines(stage: SecondStage) -> list[str]:
    """Everything that is known of it: progress or finals, whether trials were closed in time for it, what
    picking was worth, the bill."""
    found = [progress(stage), *filter(None, [describe_earlier(stage)])]
    if stage.is_over and stage.rungs:
        finalists = stage.finalists
        epochs = counted(stage.plan.finals.recipe.epochs, "epoch")
        found = [f"{'finals' if i else 'winner of the finals'} of {epochs}, {one}"
                 for i, one in enumerate(finalists)]  # fmt: skip
        if against := _against_baseline(finalists):
            found.append(against)
        if not finalists:
            found = [f"finals of {epochs}: no training came to its end"]
            found += filter(None, [describe_earlier(stage)])
        elif any(one.test for one in finalists):
            by_first = _chose_by_first_seed(stage)
            chose = "the first seed, on validation images," if by_first else "validation images"
            found.append(f"{chose} chose the winner; test images were read once, and chose nothing")
        else:
            found.append(WITHOUT_TEST)
    if closed := finish_plan.describe_closing(stage.plan, stage.trials):
        found.append(closed)
    if shrunk := bill.shrinkage(stage.rungs):
        found.append(str(shrunk))
    elif stage.is_over and stage.finalists:
        found.append("picking: how much of a lead by brief scores is luck was not measured (too few were"
                     " trained again)")  # fmt: skip
    if stage.trainings:
        found.append(f"bill: {bill.bill(stage.rows, stage.trainings, stage.epochs)}")
    return found


def describe_earlier(stage: SecondStage) -> str:
    """The best network of earlier finals, while others are owed or where these have all failed; empty once
    they have a winner, and without any."""
    finals, best = stage.deciding_finals, stage.confirmed
    if (stage.is_over and stage.winner) or finals is None or best is None:
        return ""
    owed = "" if stage.is_over else "; the second stage is not over, and may find a better one"
    return f"best of earlier finals of {counted(finals.epochs, 'epoch')}, {best}{owed}"


def _chose_by_first_seed(stage: SecondStage) -> bool:
    """Whether the first seed chose the winner of finals that are over: of two turns, where no other network
    had all seeds, beside which the winner is the better one by all of its own."""
    *_, last = stage.rungs
    return any(rung.is_first_turn for rung in stage.rungs) and len(last.ranked) <= 1


def _against_baseline(finalists: Sequence[Finalist]) -> str:
    """How far the winner of the finals is ahead of the baseline that was in them, trained in the same way."""
    winner = finalists[0] if finalists else None
    baseline = next((one for one in finalists if one.candidate.baseline), None)
    if winner is None or baseline is None:
        return ""
    if winner is baseline:
        return "the winner is a baseline: the search is not ahead of a first guess"
    is_of_first, tested = winner.of > baseline.of, None  # the baseline had the first turn alone
    if winner.test and baseline.test and _are_tested_alike(winner, baseline, every_seed=is_of_first):
        images, one, other, tested = "test images", winner.test, baseline.test, winner.test_images
    else:
        images, one, other = "validation images", winner.validation, baseline.validation
    apart: Difference | None
    if is_of_first:
        one, other, images = spread(one.values[:1]), spread(other.values[:1]), f"{images}, first seed of both"
        apart = difference(one.mean, other.mean, tested) if tested else None
    else:
        apart = difference_of_means(one, len(one.values), other, len(other.values))
    known = f" (95% interval {apart})" if apart else ""
    what, chosen = "", ""
    if winner.score is not None and baseline.score is not None:  # then the winner may be the less accurate
        what, by = " of accuracy", WORDS[winner.score_name]
        scores = [found.values[0] if is_of_first else found.mean for found in (winner.score, baseline.score)]
        chosen = f", {_points(scores[0] - scores[1], f' of {by}', 'ahead', 'level')}"
    stands = _points(one.mean - other.mean, what, "ahead of", "level with")
    return f"the winner is {stands} the baseline of the finals on {images}{known}{chosen}"


def _are_tested_alike(one: Finalist, other: Finalist, *, every_seed: bool) -> bool:
    """Whether they were tested on the same test images, with `every_seed` after each of their seeds."""
    digests, images = (one.test_digest, other.test_digest), (one.test_images, other.test_images)
    is_whole = one.is_tested and other.is_tested
    return full_training.are_same_tests(digests, images) and (is_whole or not every_seed)


def _points(apart: float, what: str, ahead: str, level: str) -> str:
    """A lead in words: 2.0 points of accuracy ahead of."""
    if not apart:
        return level
    return f"{100 * abs(apart):.1f} points{what} {ahead if apart > 0 else 'behind'}"


def describe_training(training: RungTraining) -> str:
    """One that has ended, for a log."""
    seed = f", seed {training.seed}" if training.stage == Stage.FINALS else ""
    said = f"{training.stage.value} of {counted(training.epochs, 'epoch')}: trial {training.number}{seed}"
    said += f" {training.state}"
    if training.state == State.COMPLETED:
        return f"{said} {percent(training.accuracy)}, {training.seconds or 0:.1f} s"
    return f"{said}: {training.reason.splitlines()[-1]}" if training.reason else said
