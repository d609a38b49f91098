"""What a launch is going to do, in lines: which study, where, within which limits, for about how long.

Reads the store for how far a study is; stores nothing. Called by search/commands/launch_session.py, before a
launch and in place of one (--dry-run), which makes the same checks.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields

from search import settings
from search.commands.forecast_text import in_minutes
from search.commands.options import in_words, is_typed, size_in_words
from search.commands.printed import complete
from search.launcher import prepare
from search.launcher.closing import Begun
from search.launcher.prepare import Flags
from search.machine import nvidia
from search.machine.devices import Slot
from search.study import config as study_config, reader
from search.study.config import StudyConfig
from search.study.text import counted
from search.study.worker_options import WorkerLimits
from storage import database
from storage.row_types import GIVE_UP_AFTER
from storage.studies import Study
from trainer.data import sources
from trainer.recipe.document import Recipe

LIMITS = {  # those whose default goes without saying are said where they differ
    "stall_seconds": "a trial without a batch for {} is ended",
    "lease_seconds": "a worker silent for {} is taken for dead",
    "database_timeout_seconds": "the database may be away for {}",
    "grace_seconds": "once told to end, trials run for {} at most",
}


def require_possible(flags: Flags, record: Study | None, config: StudyConfig) -> None:
    """What a launch checks of its store. Raises StudyError where a flag is not the study's, StorageError for
    a database that cannot be made."""
    if record:
        study_config.require_same(record.name, StudyConfig.from_record(record.settings), config)
    database.require_place(flags.storage)


def standing(flags: Flags, record: Study | None) -> Iterator[str]:
    """Which study it is, how far it is, and where it is stored."""
    if record:
        with reader.open_study(flags.storage, record.name, whole=True) as view:
            trained = view.trained
        yield (
            f"study    {record.name} exists: {trained} of {record.trials} trained,"
            f" to be {max(flags.trials, trained)}"
        )
    else:
        yield f"study    {flags.study or 'named by its time'}, new: to be {flags.trials} trained"
    new = ", to be made" if database.absent(flags.storage) else ""
    yield f"stored   {database.redacted(database.normalise(flags.storage))}{new}"


def gave_up_before(flags: Flags) -> str:
    """What ended the search of this study so far, if too many networks in a row came to nothing."""
    record = prepare.existing(flags)
    if record is None:
        return ""
    with reader.open_study(flags.storage, record.name, whole=True) as view:
        reason = view.gave_up()
    return f"note     {reason}; goes on for {GIVE_UP_AFTER} more at most" if reason else ""


def left(flags: Flags, record: Study | None) -> int:
    """Trials that are still to be trained."""
    if record is None:
        return flags.trials
    with reader.open_study(flags.storage, record.name, whole=True) as view:
        return max(0, flags.trials - view.trained)


def precision(recipe: Recipe, slots: Sequence[Slot]) -> Iterator[str]:
    """A line for each model of GPU among the slots that has no bfloat16, where the recipe would have it."""
    gpus = [name for slot in slots if (name := slot.environment.get("CUDA_VISIBLE_DEVICES"))]
    if recipe.precision == "float32" or not gpus:
        return
    for model in nvidia.without_bfloat16(gpus):
        if recipe.precision == "auto":
            yield f"{model} has no bfloat16: trials there compute in float32, and float16 is not offered"
        else:
            yield f"{model} has no bfloat16, which the recipe asks for: leave its precision at auto"


def limits(flags: Flags) -> str:
    """Every time with its unit: 10 is ten seconds, which who gave it may not have meant."""
    usual = {one.name: one.default for one in fields(WorkerLimits)}
    elsewhere = "" if flags.workers else ", and so do the workers elsewhere, but those of another launch"
    said = [f"the search ends after {in_words(flags.timeout)}{elsewhere}"] if flags.timeout else []
    if flags.max_gpu_hours:
        said.append(f"after {flags.max_gpu_hours:g} hours of its devices")
    said.append(f"a trial takes {in_words(flags.trial_seconds)} at most" if flags.trial_seconds else "")
    said.append(f"a trial has {flags.trial_memory / 2**30:.3g} GiB" if flags.trial_memory else "")
    said += [text.format(in_words(getattr(flags, name))) for name, text in LIMITS.items()
             if getattr(flags, name) != usual[name]]  # fmt: skip
    return f"limits   {'; '.join(filter(None, said)) or 'none of time'}"


def in_time(flags: Flags, record: Study | None, trials: int) -> str:
    """What a limit of time does to the second stage; empty where it does nothing."""
    end = "trials end in time for it, after a third to a half of it at the earliest"
    usual = f"{end}; what does not fit is shortened"
    if not flags.is_limited or record is None:
        return usual if flags.is_limited else ""
    with reader.open_study(flags.storage, record.name, whole=True) as view:
        is_due, stage = view.trained >= trials, view.second_stage()
    if stage and Begun(stage.rows, stage.trainings).is_under_way(stage.plan):
        kept = "it is under way and keeps its plan, but for finals to come that would not end in time"
        return kept if is_due else f"{kept}; {end}"
    if is_due:
        return "" if stage and stage.is_over else "what does not fit the time is shortened before it begins"
    return usual


def minutes(config: StudyConfig, left: int, workers: int, on_cpu: bool = False) -> str:
    """About how long, from steps on noise of a few proposals; takes some seconds. Raises NothingFitsError.

    on_cpu: the workers are cores, whether there is a GPU or not.
    """
    from search.study import duration

    if not (left and workers):
        return "time     " + ("nothing is left to train" if not left else "by the workers elsewhere")
    work = duration.Workload(config.recipe, config.data.train_images, config.data.validation_images)
    parts = (config.space, config.budget, config.task, work)
    found = duration.estimate(*parts, left, workers, config.seed, on_cpu=on_cpu)
    return (
        f"time     about {in_minutes(found.minutes)} for {counted(left, 'trial')} with"
        f" {counted(workers, 'worker')} on {found.device}, none pruned"
    )


def resume(flags: Flags, name: str, spec: str | None = None) -> str:
    """The command that gives a study that was told to end the order to go on, and goes on with it here.
    `spec`: where the study's images lie, by the study."""
    return complete(f"search resume {shlex.quote(name)}") + _workers_here(flags, spec)


def _workers_here(flags: Flags, spec: str | None) -> str:
    """The flags of the images, where this machine has them elsewhere, and of the workers' limits that were
    typed, or are not the default."""
    said = [f" --data {shlex.quote(flags.data)}"] if flags.data and _is_elsewhere(flags.data, spec) else []
    typed = {flag: value for name, flag, value in flags.flagged() if is_typed(name)}
    limits = flags.changed() | typed
    return "".join([*said, *(f" {flag} {_as_typed(flag, value)}" for flag, value in limits.items())])


def _is_elsewhere(data: str, spec: str | None) -> bool:
    """Whether --data was typed, and leaving it out would mean other images than these."""
    place = settings.data_here() or spec
    return is_typed("data") and not (place and sources.is_at(data, place))


def _as_typed(flag: str, limit: float | int) -> str:
    """A limit as its option reads it."""
    if flag == "--trial-memory":
        return size_in_words(int(limit))
    return in_words(limit) if isinstance(limit, float) else str(limit)


def again(
    flags: Flags,
    name: str,
    trials: int,
    workers: str,
    gpus: str,
    cluster: str | None = None,
    spec: str | None = None,
) -> str:
    """The whole command that goes on with a study here; `spec` as in resume(). Where that was resumed with
    its images elsewhere it is resumed again: a launch asks whether those of a --data are the study's."""
    if flags.data_is_place and flags.data and _is_elsewhere(flags.data, spec):
        command = resume(flags, name, spec)
    else:
        command = complete(f"search launch {shlex.quote(name)} --trials {trials}")
        command += _workers_here(flags, spec)
    command += f" --cluster {shlex.quote(cluster)}" if cluster else ""
    command += f" --serve-data {shlex.quote(flags.serve_data)}" if flags.serve_data else ""
    command += f" --timeout {in_words(flags.timeout)}" if flags.timeout is not None else ""
    command += f" --max-gpu-hours {flags.max_gpu_hours:g}" if flags.max_gpu_hours is not None else ""
    command += f" --workers {shlex.quote(workers)}" if workers != "auto" or is_typed("workers") else ""
    return command + (f" --gpus {shlex.quote(gpus)}" if gpus != "all" or is_typed("gpus") else "")
