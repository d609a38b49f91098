"""One training of the second stage: what is missing is asked for, claimed, trained and recorded.

Called by search/worker/worker.py once a study has its trials. Reads the plan in the study's row and the
ledger; who goes on, search/study/halving.py says. Trains by search/worker/attempt.py, as a trial is trained.
A final is trained as `search train` would train the same network with the same seed, keeps its weights, and
reads the test images once, at its end.
"""

import logging
import time
from typing import Any

from search.recording.rung_rows import RungRows
from search.study import finals_length, finish_plan, full_training, halving
from search.study.finish_plan import FinishPlan
from search.study.halving import ReachedRung
from search.study.versions import OF_TRAINING, installed_versions
from search.worker import attempt, trial as worker_trial
from search.worker.attempt import Assignment
from search.worker.callbacks import AttemptCallbacks
from search.worker.context import WorkerContext
from search.worker.training_function import FinalScore
from space.architecture import Architecture
from space.errors import RecipeError, UsageError
from storage import candidates, rungs, studies, trainings
from storage.leases import Claim, NoClaim
from storage.row_types import Candidate, RungTraining, Stage, State, TrainingMetrics
from storage.trainings import Training
from storage.workers import Doing
from trainer.callbacks import SaveWeights
from trainer.outcome import Outcome
from trainer.recipe.document import Recipe

logger = logging.getLogger(__name__)

# That a worker whose GPU has a training leaves the next one to GPUs that have none, whose workers ask twice
# meanwhile (worker.py): of six finals on eight GPUs none shares one.
LEFT_SECONDS = 1.0


def run_next(context: WorkerContext) -> State | NoClaim | None:
    """One training: how it ended, why there was none, or None where it is worth asking again.

    DONE where the study has no second stage, or it is over. Raises LeaseLostError, OUT_OF_REACH while the
    database is away, and Cancelled, once that is recorded.
    """
    stored = studies.get(context.engine, context.study_id).finish
    plan = FinishPlan.from_record(stored)
    if stored is None or plan is None:
        return NoClaim.DONE
    claimed = _claim(context, leaves=context.shares_gpu and context.device_lock.is_occupied())
    if claimed is NoClaim.LEFT:
        time.sleep(LEFT_SECONDS)
        claimed = _claim(context, leaves=False)
    if claimed is NoClaim.DONE:
        return None if ask_for_what_is_missing(context, stored, plan) else NoClaim.DONE
    if isinstance(claimed, NoClaim):
        return claimed
    context.say(Doing.WORKING)
    stored = studies.get(context.engine, context.study_id).finish  # finals may have become other meanwhile
    return run(context, FinishPlan.from_record(stored) or plan, *claimed)


def _claim(context: WorkerContext, leaves: bool) -> tuple[Claim, RungTraining] | NoClaim:
    options = context.options
    name, seconds = options.name or "", options.lease_seconds
    return rungs.claim(context.engine, context.study_id, name, seconds, context.device, leaves)


def ask_for_what_is_missing(context: WorkerContext, stored: dict[str, Any], plan: FinishPlan) -> bool:
    """Enters the trainings of the rung that is due, by a plan as it is stored; finals that have time for more
    epochs than it says, or too little for these, get others, with a plan that says so even where all of them
    are trained already. Returns whether the second stage goes on."""
    rows = candidates.candidates(context.engine, context.study_id)
    trained = rungs.of_study(context.engine, context.study_id)
    reached = halving.reached(plan, rows, trained)
    if not reached or halving.finals(reached):
        return False
    other = None
    if reached[-1].stage == Stage.FINALS and not reached[-1].entered:
        other = _trained_whole(plan, rows, trained) or _fitted(context, plan, reached[-1], trained)
    if other:
        reached = halving.reached(other, rows, trained)
    missing = reached[-1].missing
    if missing:
        logger.info("%s: %d trainings", reached[-1].name, len(missing))
    if missing or other:
        instead = other.document() if other else stored
        rungs.enter(context.engine, context.study_id, missing, by=stored, instead=instead)
    return True


def _trained_whole(plan: FinishPlan, rows: list[Candidate], trained: list[RungTraining]) -> FinishPlan | None:
    """A shortened plan with the finals that were asked for, where these have been trained, for whatever plan,
    of those who would be in them now; None where they have not."""
    if plan.wanted is None:
        return None
    whole = plan.model_copy(update={"finals": plan.whole.finals})
    whole = whole.with_wanted(plan.whole, plan.closed_from, plan.limit, exhausted=plan.exhausted)
    return whole if halving.finals(halving.reached(whole, rows, trained)) else None


def _fitted(
    context: WorkerContext, plan: FinishPlan, finals: ReachedRung, trained: list[RungTraining]
) -> FinishPlan | None:
    now = studies.clock(context.engine)
    chosen = [candidate.id for candidate in finals.entrants]
    epochs = candidates.epochs(context.engine, context.study_id, chosen)
    try:
        return finals_length.fitted(context.config, plan, finals, trained, now, epochs)
    except (UsageError, RecipeError):  # a recipe that cannot have other epochs
        return None


def run(context: WorkerContext, plan: FinishPlan, claim: Claim, training: RungTraining) -> State:
    """Trains what a claim is for. Returns how that ended. Raises as run_next()."""
    candidate = candidates.find(context.engine, context.study_id, training.number)
    final = _Final(context, plan, candidate, training) if training.stage == Stage.FINALS else None
    work = _assignment(context, plan, candidate, training, final)
    rows = RungRows(context.engine, claim, training, work.name, final.row if final else None)
    callbacks = AttemptCallbacks(context, rows, work.recipe.batch_size)
    if final:
        final.callbacks = callbacks
    logger.info("%s: %s", work.name, attempt.described_network(work.architecture, candidate.parameters))
    end = attempt.train(context, callbacks, work)
    attempt.close(callbacks, end)
    context.files.done(training.key)
    return end.state


def _assignment(
    context: WorkerContext,
    plan: FinishPlan,
    candidate: Candidate,
    training: RungTraining,
    final: "_Final | None",
) -> Assignment:
    return Assignment(
        name=f"trial {candidate.number} in the {training.stage.value}, {training.epochs} epochs",
        architecture=Architecture.parse(candidate.architecture),
        parameters=candidate.parameters,
        recipe=recipe_of(context, plan, training),
        seed=seed_of(context, candidate, training),
        checkpoint=context.files.checkpoint(training.key),
        on_trained=final.keep if final else None,
        on_test=final.tested if final else None,
    )


def recipe_of(context: WorkerContext, plan: FinishPlan, training: RungTraining) -> Recipe:
    """That of the finals, or the brief one as it is for the training's epochs: of a rung, or of finals that
    another plan than this one asked for."""
    if training.stage == Stage.FINALS and training.epochs == plan.finals.recipe.epochs:
        return plan.finals.recipe
    if training.stage == Stage.HALVING:
        return finish_plan.recipe_of_rung(context.config, training.epochs)
    config, data = context.config, context.config.data
    images, written = data.all_train_images, config.recipe_written
    return full_training.adapted(config.recipe, data, data, training.epochs, images, written=written)


def seed_of(context: WorkerContext, candidate: Candidate, training: RungTraining) -> int:
    """Of the training: in the halving another than that of the brief trial, so that a rung judges the network
    and not the luck that it was picked for."""
    if training.stage == Stage.FINALS:
        return training.seed
    return worker_trial.training_seed(context.config.seed, f"{candidate.fingerprint}:{training.epochs}")


class _Final:
    """What a training of the finals leaves beside its row: weights, and a full training in the store."""

    callbacks: AttemptCallbacks  # whose reports are those of the training

    def __init__(
        self, context: WorkerContext, plan: FinishPlan, candidate: Candidate, training: RungTraining
    ) -> None:
        self.context, self.plan, self.candidate, self.training = context, plan, candidate, training
        self.test: FinalScore | None = None

    def tested(self, score: FinalScore | None) -> None:
        self.test = score

    def keep(self, _outcome: Outcome, save: SaveWeights) -> None:
        training = self.training
        self.context.files.keep_final(self.candidate.number, training.epochs, training.seed, save)

    def row(self, metrics: TrainingMetrics, name: str) -> Training:
        """The full training that it was, in the study of this name."""
        candidate, training = self.candidate, self.training
        reports, test = self.callbacks.reports, self.test
        best = max(reports, key=lambda report: (report.validation_accuracy, -report.epoch))
        recipe = recipe_of(self.context, self.plan, training)
        if self.callbacks.batch_size != recipe.batch_size:
            recipe = recipe.halved()  # memory was short
        return Training(
            run=trainings.run_of_finals(training.study_id, candidate.number, training.epochs),
            seed=training.seed,
            subject=f"{name}:{candidate.number}",
            study=name,
            trial=candidate.number,
            fingerprint=candidate.fingerprint,
            parameters=candidate.parameters,
            macs=candidate.macs,
            architecture=candidate.architecture,
            recipe=recipe.model_dump(mode="json"),
            data=self.context.final_data.model_dump(mode="json"),
            epochs=metrics.epochs,
            accuracy=metrics.accuracy,
            best_accuracy=metrics.best_accuracy,
            best_epoch=best.epoch,
            loss=metrics.loss,
            test_accuracy=test.accuracy if test else None,
            test_loss=test.loss if test else None,
            test_images=test.images if test else None,
            seconds=metrics.seconds,
            device=self.context.device,
            versions=installed_versions(OF_TRAINING),
            folder=str(self.context.files.folder.resolve()),
        )
