"""One trial of a worker: propose, record, train, finish.

`run` is called by the worker for each claim. It reads the ledger and Optuna's study, writes a row for each
proposal, and hands the one that is worth it to the context's training function: it knows what a trial is,
not how a network learns. The ledger decides, and Optuna is told in the same transaction: nothing that
counts depends on its answer.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from optuna.trial import Trial, TrialState

from search.optuna_adapter import ask as optuna_ask, sampler as samplers, study as optuna_study
from search.optuna_adapter.differing import DIFFERS
from search.optuna_adapter.weights import weigh
from search.recording import reconcile as reconciling
from search.recording.outage import OUT_OF_REACH
from search.recording.spool import TrialEnd
from search.recording.writer import TrialRows
from search.study import score as scores
from search.study.short_form import short_form
from search.study.text import counted
from search.worker import attempt
from search.worker.attempt import Assignment
from search.worker.callbacks import AttemptCallbacks
from search.worker.context import WorkerContext
from space import cost
from space.architecture import Architecture
from space.budget import judge
from space.errors import ExhaustedError
from space.sampling import Proposal as Drawn, prior
from storage import candidates, leases
from storage.leases import Claim
from storage.row_types import Candidate, Proposal, State
from trainer.outcome import Outcome

logger = logging.getLogger(__name__)

WIDEN_AFTER = 20  # repeats in a row: the sampler has settled on known networks, further proposals are random
GIVE_UP_AFTER = 400  # repeats in a row, 380 of them random: the space holds nothing new
GIVE_UP_OVER_BUDGET = 4_000  # proposals for one claim: --sampling reject finds nothing that fits


def run(context: WorkerContext, claim: Claim) -> State:
    """Uses one claim: proposes until a network is worth training, and trains it. Returns how that ended.

    Raises ExhaustedError where nothing new is proposed any more; LeaseLostError where the trial is somebody
    else's by now; Cancelled, once that is recorded; OutageTooLongError when the database stays away: what
    is owed to it is in the spool then.
    """
    trial, candidate, architecture = propose_new(context, claim)
    recipe = context.config.recipe
    callbacks = AttemptCallbacks(
        context,
        TrialRows(context.engine, context.study, claim, trial, candidate),
        recipe.batch_size,
        prunable=candidate.baseline is None,  # a baseline is what the others are measured by
        seconds=context.options.trial_seconds,
    )
    work = Assignment(
        name=f"trial {candidate.number}",
        architecture=architecture,
        parameters=candidate.parameters,
        recipe=recipe,
        seed=candidate.seed,
        checkpoint=context.files.checkpoint(candidate.fingerprint),
        on_trained=partial(_keep_weights, context, candidate),
    )
    network = attempt.described_network(architecture, candidate.parameters)
    logger.info("%s: %s, %s", work.name, network, counted(recipe.epochs, "epoch"))
    end = attempt.train(context, callbacks, work)
    finish(context, callbacks, candidate, end)
    return end.state


def propose_new(context: WorkerContext, claim: Claim) -> tuple[Trial, Candidate, Architecture]:
    """Proposes and records until a network is within the budget and not trained yet.

    Raises ExhaustedError where it does not come to that, else as run() does.
    """
    repeats = 0
    for proposed in range(GIVE_UP_OVER_BUDGET):
        sampler = "random" if repeats >= WIDEN_AFTER else context.config.sampler
        seed = (context.config.seed, claim.ordinal, proposed)
        made = samplers.make_sampler(sampler, *seed, after=context.study.sampler)
        context.study.sampler = weigh(made, prior(context.config.space))
        trial, architecture = propose(context)
        candidate = context.outage.insist(partial(record, context, claim, trial, architecture))
        if candidate.state == State.RUNNING:
            return trial, candidate, architecture
        context.outage.insist(partial(reconciling.tell_untrained, context.study, trial, candidate))
        logger.info("trial %d %s: %s", trial.number, candidate.state, candidate.reason)
        repeats = 0 if candidate.repeat_of is None else repeats + 1
        if repeats >= GIVE_UP_AFTER:
            raise ExhaustedError(f"{repeats} proposals in a row were networks that the study already has")
    raise ExhaustedError(
        f"of {GIVE_UP_OVER_BUDGET} proposals none was new and within {context.config.budget}:"
        " larger limits, or --sampling fit, in a new study"
    )


def propose(context: WorkerContext) -> tuple[Trial, Architecture]:
    """The trial that another worker could not end, if there is one; else what is queued, or what the sampler
    proposes."""
    broken = candidates.next_retry(context.engine, context.study_id)
    if broken:
        trial = optuna_ask.ask_again(context.study, broken)
        return trial, Architecture.parse(broken.architecture)
    reconciling.queue_again(context.study, context.engine, context.study_id, context.options.name or "")
    trial, drawn = optuna_ask.ask(context.study, context.config, describe)
    return trial, drawn.architecture


def has_waiting(context: WorkerContext) -> bool:
    """Whether a network is to be trained whatever the sampler proposes: that of a trial that another worker
    could not end, or one that is queued."""
    if candidates.next_retry(context.engine, context.study_id):
        return True
    return bool(context.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def describe(drawn: Drawn, differs: tuple[str, ...]) -> dict[str, Any]:
    """What everyone who reads the study with Optuna alone should see of a network; with the names of stored
    parameters that say something else than it is, where there are any."""
    network = drawn.architecture
    spent = cost.total(network)
    said = {
        "parameters": spent.parameters,
        "macs": spent.macs,
        "fingerprint": network.fingerprint,
        "network": short_form(network),
    }
    return said | ({DIFFERS: list(differs)} if differs else {})


def record(context: WorkerContext, claim: Claim, trial: Trial, architecture: Architecture) -> Candidate:
    """Judges a proposed network and writes its row in the ledger. It may be called again after an outage.

    Returns the row: RUNNING, OVER_BUDGET or REPEATED. Raises LeaseLostError.
    """
    config = context.config
    verdict = judge(architecture, config.budget)
    optuna_study.constrain(trial, verdict)
    fingerprint = architecture.fingerprint
    proposal = Proposal(
        number=trial.number,
        architecture=architecture.document(),
        fingerprint=fingerprint,
        parameters=verdict.parameters,
        macs=verdict.macs,
        depth=len(architecture.stages),
        seed=training_seed(config.seed, fingerprint),
        attempt=int(trial.user_attrs.get("attempt", 1)),
        over_budget=verdict.excess,
        device=context.device,
        versions=context.versions,
        baseline=trial.user_attrs.get("baseline"),
    )
    return candidates.propose(context.engine, claim, proposal)


def training_seed(study_seed: int, fingerprint: str) -> int:
    """The same network is trained from the same seed in every attempt, whoever does it: 31 bits."""
    digest = sha256(f"{study_seed}:{fingerprint}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def finish(context: WorkerContext, callbacks: AttemptCallbacks, candidate: Candidate, end: TrialEnd) -> None:
    """Records how a trial ended and removes the files that nobody needs any more. Raises as run() does."""
    attempt.close(callbacks, end)
    _remove_files(context, candidate)


def _keep_weights(
    context: WorkerContext, candidate: Candidate, outcome: Outcome, save: Callable[[Path], None]
) -> None:
    """Keeps the weights of a trained network that is among the best so far, as many as are kept."""
    if not context.files.best:
        return
    try:
        best = candidates.best(context.engine, context.study_id, context.files.best)
    except OUT_OF_REACH:
        best = []  # nobody can say: they are kept, and tidied away later
    score = scores.beside_accuracy(context.config.score, outcome)
    value = outcome.accuracy if score is None else score
    if len(best) < context.files.best or value >= (best[-1].value or 0.0):
        context.files.keep(candidate.number, save)


def _remove_files(context: WorkerContext, candidate: Candidate) -> None:
    """A trial has ended for good: removes its checkpoint, and the weights that are no longer of the best.

    Those of trials under way stay: they are kept a moment before the end is written, or long before it where
    the database is away. They are asked for first, for one that ends meanwhile is among the best then.
    """
    files = context.files
    files.done(candidate.fingerprint)
    with suppress(*OUT_OF_REACH):
        claims = leases.running(context.engine, context.study_id)
        running = {one.number for one in claims if one.number is not None}
        best = candidates.best(context.engine, context.study_id, files.best) if files.best else []
        files.tidy({row.number for row in best} | running)
