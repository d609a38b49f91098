"""What `search launch` does and prints around a launch: the opening lines, the result, the files it leaves.

Reads flags, writes stderr, stdout, --out and --report. Called by the commands launch and resume.
"""

import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from search import settings
from search.commands import at_end as telling, exit_codes, options, plan
from search.commands.at_end import NOBODY, AtEnd
from search.commands.output import say
from search.commands.printed import complete, completed
from search.formats import endings
from search.launcher import data_server, display, enqueue, launcher, prepare, workers_per_gpu
from search.launcher.data_server import DataServer
from search.launcher.display import Display, Snapshot
from search.launcher.enqueue import Starter, Starters
from search.launcher.launcher import End, PlacedBy
from search.launcher.prepare import Flags
from search.machine import devices
from search.machine.devices import Slot
from search.machine.signals import Interrupts
from search.optuna_adapter import differing, study as optuna_study
from search.recording.outage import OUT_OF_REACH, Outage, passes
from search.report import page as report_page
from search.study import (
    compute_limit,
    config as study_config,
    export as study_export,
    files,
    finish_plan,
    reader,
    second_stage,
    text,
    worker_logs,
)
from search.study.config import StudyConfig
from search.study.console import SteadyConsole, stderr_console
from search.study.finish_plan import FinishPlan
from search.study.score import WORDS
from search.study.second_stage import SecondStage
from search.study.short_form import summary
from search.study.standing import describe
from search.study.statistics import wilson
from space import cost, sampling
from space.architecture import Architecture
from space.errors import EnvironmentProblem, ParsimonyError, UsageError
from space.files import require_writable, write_whole
from storage import candidates, connections, database, studies, trainings
from storage.row_types import Candidate
from storage.studies import Control, Study
from trainer.data import survey_text
from trainer.recipe import augmentations, checks

Again = Callable[[int], str]  # the command that goes on to so many trials

LOG = "launcher.log"  # beside the logs of its workers

SETTLED = 50  # proposals at random that are looked at for what no parameter can say; a quarter of a second


def launch(
    flags: Flags,
    workers: str,
    gpus: str,
    out: Path | None,
    report: Path | None,
    dry_run: bool,
    at_end: AtEnd = NOBODY,
    cluster: str | None = None,
) -> int:
    """Runs a search to its end, and then tells whom `at_end` names. Returns the exit code.

    `cluster` is the address of a Dask scheduler that places the workers. Raises UsageError, ClusterError,
    EnvironmentProblem once all slots were closed for good, and as prepare.prepare() does.
    """
    _require_names(out, report)
    with data_server.bound(flags.serve_data) if flags.serve_data else nullcontext() as server:
        if cluster is None:
            slots = devices.slots(gpus, options.worker_count(workers))
            return _launch(flags, workers, gpus, slots, None, server, out, report, dry_run, at_end)
        from search.commands import on_cluster

        on_cluster.require_possible(cluster, flags.storage, workers, gpus)
        with on_cluster.places(cluster, workers, gpus, dry_run) as (slots, placed):
            return _launch(flags, workers, gpus, slots, placed, server, out, report, dry_run, at_end)


def _require_names(out: Path | None, report: Path | None) -> None:
    """Raises UsageError for a file that is named like one of another form, before there is a study."""
    if out:
        endings.require_json("--out", out, "`search export STUDY --format {form}` writes one afterwards")
    if report:
        endings.require_page("--report", report)
    endings.require_two(("--out", out), ("--report", report))


def _launch(
    flags: Flags,
    workers: str,
    gpus: str,
    slots: list[Slot],
    placed_by: PlacedBy | None,
    server: DataServer | None,
    out: Path | None,
    report: Path | None,
    dry_run: bool,
    at_end: AtEnd,
) -> int:
    if not dry_run:
        prepare.update_store(flags)
    flags = prepare.with_trials(flags)
    on_cpu = bool(slots) and all(slot.is_cpu for slot in slots)
    flags = replace(flags, on_cpu=on_cpu, workers=len(slots))
    for path in filter(None, (out, report)):
        require_writable(path)
    _require_limits_that_hold(flags)
    console = stderr_console(completed)
    prepare.require_room(flags, min(1, len(slots)) if workers == "auto" else len(slots))
    if dry_run:
        _say_plan(console, flags, slots)
        return 0
    interrupts = Interrupts()
    optuna_study.quiet()
    found = _to_start_from(flags)
    before = plan.gave_up_before(flags)
    is_new = prepare.existing(flags) is None
    engine, record, config = prepare.prepare(flags)
    _note_here(flags, record)
    console.kept.path = worker_logs.folder(flags.data_dir, record.name) / LOG
    address = placed_by.cluster.address if placed_by else None
    again = partial(
        plan.again, flags, record.name, workers=workers, gpus=gpus, cluster=address, spec=config.data.spec
    )
    how, code = "error", 1
    written = dict[str, Path]()
    try:
        if workers == "auto":  # while a Ctrl-C still ends the command at once
            if not placed_by:
                slots = _shared(console, config, record.trials, gpus, slots)
            slots = _connected(console, engine, slots)
        interrupts.listen()
        # A worker that follows whatever is launched may have proposed a network of a new study already.
        starters = first_trials(flags, config, None if is_new else record, found)
        _say_starters(console, starters)
        if before:
            console.print(before, style="yellow", markup=False, highlight=False)
        queue = partial(enqueue.enqueue, engine, flags.storage, record, config, starters.found)
        Outage(flags.database_timeout_seconds, lambda: interrupts.count > 0).insist(queue, passes)
        # What --trial-memory bounds is short in each worker by itself.
        make_room = workers == "auto" and flags.trial_memory is None
        end = _search(
            console,
            flags,
            engine,
            record,
            config,
            slots,
            interrupts,
            make_room,
            again,
            placed_by,
            server,
            is_new,
        )
        _say_end(console, flags, record, end, again)
        _leave(console, engine, record, config, end.snapshot, out, report, written)
        how, code = "done" if end.snapshot.is_done else "short", end.code
        _require_worker(record, end)
        return code
    except ParsimonyError as error:
        code = exit_codes.code_of(error)
        raise
    finally:
        if at_end.command or at_end.url:
            for line in _tell(at_end, engine, flags.storage, record, how, code, written):
                console.print(line, style="yellow", markup=False)
        engine.dispose()


def _require_limits_that_hold(flags: Flags) -> None:
    """Raises UsageError for a limit that nobody here can watch over: no worker's device is known then."""
    if flags.max_gpu_hours is not None and not flags.workers:
        raise UsageError(
            "--max-gpu-hours counts the devices of workers here, and --workers 0 starts none: give --timeout"
        )


def _tell(
    at_end: AtEnd,
    engine: Engine,
    storage: str,
    record: Study,
    how: str,
    code: int,
    written: Mapping[str, Path],
) -> list[str]:
    """Tells that the search has ended, and which files it wrote; returns a line for each that could not be
    told."""
    told = telling.facts(engine, record, how, code, written)
    said = [telling.run(at_end.command, telling.environment(told, storage)) if at_end.command else None]
    said.append(telling.notify(at_end.url, told) if at_end.url else None)
    return [line for line in said if line]


def _say_plan(console: Console, flags: Flags, slots: list[Slot]) -> None:
    """What a launch would do, after the checks that it makes."""
    record = prepare.existing(flags)
    config = prepare.make_config(flags, prepare.model_config(flags, record))
    plan.require_possible(flags, record, config)
    found = enqueue.starters(flags.start_from, config, flags.storage)
    for line in filter(None, (*plan.standing(flags, record), plan.gave_up_before(flags))):
        console.print(line)
    _say_config(console, flags, config, slots)
    trials = max(flags.trials, record.trials if record else 0)
    finish = prepare.plan_of(flags, record, config)
    _say_finish(console, flags, finish, config, trials, record)
    _say_starters(console, first_trials(flags, config, record, found))
    console.print(plan.minutes(config, plan.left(flags, record), len(slots), flags.on_cpu))


def _shared(console: Console, config: StudyConfig, trials: int, gpus: str, slots: list[Slot]) -> list[Slot]:
    """As many slots a GPU as pay, which is measured where that is worth it."""
    if not workers_per_gpu.is_worth_measuring(slots, trials):
        if workers_per_gpu.gpus_of(slots):
            few = f"fewer than {workers_per_gpu.WORTH_TRIALS} trials for each are not worth measuring more"
            console.print(f"workers  1 a GPU; {few}", highlight=False)
        return slots
    console.print("measures how many workers share a GPU (--workers N spares that)")
    found = workers_per_gpu.measured_on(config, slots)
    console.print(f"workers  {found}")
    return devices.slots(gpus, found.workers * len(slots))


def _connected(console: Console, engine: Engine, slots: list[Slot]) -> list[Slot]:
    """As many slots as the database server has connections for; one at least, which prepare asked for."""
    found = connections.room(engine)
    fit = len(slots) if found is None else max(1, found.free - connections.SPARE)
    if found is not None and fit < len(slots):
        console.print(f"workers  {fit}: the database server has connections for no more ({found.limit})")
    return slots[:fit]


def _to_start_from(flags: Flags) -> list[Starter]:
    """The networks of --start-from, before a study is made: one that cannot be is a mistake of the flags."""
    if not flags.start_from:
        return []
    config = prepare.make_config(flags, prepare.model_config(flags, prepare.existing(flags)))
    return enqueue.starters(flags.start_from, config, flags.storage)


def _note_here(flags: Flags, record: Study) -> None:
    """Notes on this machine whose the logs are, and how many weights are kept where that is said; workers do
    too, but there may be none here."""
    files.note_here(flags.data_dir, flags.storage, record)
    kept = files.study_folders(flags.data_dir, flags.storage, record).kept
    files.note_best(kept, flags.keep_weights)


def first_trials(flags: Flags, config: StudyConfig, record: Study | None, found: list[Starter]) -> Starters:
    """The networks of --start-from; after them, in a study that is new (None) or has no proposal yet, its
    baselines."""
    if not flags.baselines or (record and _has_proposals(flags.storage, record)):
        return Starters(found)
    return enqueue.with_baselines(found, config, flags.trials)


def _has_proposals(storage: str, record: Study) -> bool:
    with reader.open_store(storage) as engine:
        return any(candidates.tally(engine, record.id).values())


def _rows(flags: Flags, record: Study | None) -> list[Candidate]:
    """The trials of a study that may not be there yet."""
    if record is None:
        return []
    with reader.open_store(flags.storage) as engine:
        return candidates.candidates(engine, record.id)


def _say_finish(
    console: Console,
    flags: Flags,
    finish: FinishPlan | None,
    config: StudyConfig,
    trials: int,
    record: Study | None,
) -> None:
    if finish is None:
        return
    closed = finish_plan.describe_closing(finish, trials)
    more = ""
    if closed and finish.closed_from and finish.exhausted:
        more = f"; --trials {finish.closed_from + 1} trains networks that are enqueued"
    elif closed:
        more = f"; --trials {finish.closed_from} trains more once it is over"
    lines = (
        finish_plan.describe(finish),
        finish_plan.describe_cost(finish, config, trials, _rows(flags, record)),
        plan.in_time(flags, record, trials),
        f"{closed}{more}",
        _augmented_otherwise(finish, config),
    )
    for word, line in zip(("finish", "", "", "", ""), lines, strict=True):
        if line:
            console.print(f"{word:8} {line}", highlight=False, markup=False)


def _augmented_otherwise(finish: FinishPlan, config: StudyConfig) -> str:
    """What is done to the images in the finals, where it is not what trials do."""
    last = finish.finals.recipe
    if augmentations.augmentations(last) == augmentations.augmentations(config.recipe):
        return ""
    return f"images of the finals: {augmentations.described(last)}"


def _say_starters(console: Console, starters: Starters) -> None:
    for line in enqueue.summary_of(starters):
        console.print(f"start    {line}", highlight=False, markup=False)


def _search(
    console: SteadyConsole,
    flags: Flags,
    engine: Engine,
    record: Study,
    config: StudyConfig,
    slots: list[Slot],
    interrupts: Interrupts,
    make_room: bool,
    again: Again,
    placed_by: PlacedBy | None,
    server: DataServer | None,
    is_new: bool,
) -> End:
    with ExitStack() as stack:
        opened = Outage(flags.database_timeout_seconds, lambda: interrupts.count > 0).insist(
            lambda: stack.enter_context(optuna_study.open_study(flags.storage, record.name, config, engine)),
            passes,
        )
        if server:
            flags = replace(flags, data_from=stack.enter_context(_serving(server, flags, config)))
        run = launcher.Launch(flags, engine, record, config, opened, slots, make_room, placed_by, is_new)
        _say_start(console, flags, record, config, slots, run.logs, again)
        shown = WholeCommands(display.make_display(console))
        try:
            return run.run(shown, interrupts)
        except KeyError:  # what Optuna raises where a study is not there
            optuna_study.require_there(opened, engine, record.name)
            raise
        finally:
            shown.close()


class WholeCommands:
    """A display whose notes name commands that can be typed as they are shown."""

    def __init__(self, display: Display) -> None:
        self.display = display

    def show(self, snapshot: Snapshot) -> None:
        """Shows it with its note made whole."""
        self.display.show(replace(snapshot, note=completed(snapshot.note)))

    def close(self) -> None:
        """Closes the display."""
        self.display.close()


def _serving(server: DataServer, flags: Flags, config: StudyConfig) -> AbstractContextManager[str]:
    """Serves the images of the study while it lasts, at the address that it yields."""
    images = study_config.open_images(config.data, flags.data_dir, flags.data)
    return data_server.serving(server, images.dataset.cache, config.data.digest)


def _say_config(console: Console, flags: Flags, config: StudyConfig, slots: list[Slot]) -> None:
    data, recipe = config.data, config.recipe
    low = cost.total(sampling.smallest(config.space, config.task))
    console.print(
        f"data     {data.name}: {data.train_images:,} training and {data.validation_images:,} validation"
        f" images of {config.task.channels}x{config.task.image_size}x{config.task.image_size},"
        f" {config.task.classes} classes; test images stay sealed"
    )
    images = study_config.open_images(data, flags.data_dir, flags.data)
    if images.note:
        console.print(f"note     {images.note}", highlight=False, markup=False)
    for word, line in survey_text.lines(images.dataset, images.split, recipe):
        console.print(f"{word:8} {line}", highlight=False, markup=False)
    console.print(f"budget   {config.budget}; smallest network of the space {low.parameters:,}")
    weighed = "" if recipe.class_weights == "none" else ", class weights balanced"
    console.print(
        f"training {text.counted(recipe.epochs, 'epoch')}, batch {recipe.batch_size}, {recipe.optimizer},"
        f" {recipe.planned.name.replace('_', '-')} to {recipe.learning_rate:g}{weighed};"
        f" sampler {config.sampler}, pruner {config.pruner}, seed {config.seed}"
    )
    if config.score != settings.SCORE:
        sought = WORDS[config.score] + (f" {config.own_score}" if config.own_score else "")
        console.print(
            f"score    the search maximises {sought} of validation images, not accuracy", markup=False
        )
    console.print(f"augment  {augmentations.described(recipe)}", highlight=False, markup=False)
    for line in checks.of_images(recipe, data.train_images):
        console.print(f"note     {line}", highlight=False, markup=False)
    console.print(plan.limits(flags))
    for mistake in checks.of_recipe(recipe):
        console.print(f"warning  recipe: {mistake.reason}")
    if differ := config.expected_to_differ(SETTLED):
        names = ", ".join(f"{name} ({count} of {SETTLED})" for name, count in differ.most_common())
        console.print(
            f"note     no choice of the space says what some networks are: {names} proposals will show Optuna"
            " another value than was trained"
        )
    named = ", ".join(slot.name for slot in slots)
    console.print(f"slots    {named or 'none here: workers elsewhere do the work'}")
    for line in plan.precision(recipe, slots):
        console.print(f"note     {line}", highlight=False, markup=False)
    epochs, shorter = recipe.epochs, prepare.shorter_trials(flags, data, config.budget)
    if shorter and shorter.epochs == epochs:  # a study that exists may have others
        console.print(f"note     {shorter.note}")
        epochs = shorter.usual
    if flags.max_macs is None:
        seen = data.train_images * epochs
        limit = compute_limit.default(config.task.image_size, seen, flags.on_cpu, low.macs)
        if limit.macs == config.budget.max_macs:  # a study that exists may have another one
            console.print(f"note     {limit.note}")
    if config.budget.max_macs is None and flags.on_cpu:
        console.print("note     without a GPU and without --max-macs a large network takes minutes an epoch")


def _say_start(
    console: Console,
    flags: Flags,
    record: Study,
    config: StudyConfig,
    slots: list[Slot],
    logs: Path,
    again: Again,
) -> None:
    shown = database.redacted(database.normalise(flags.storage))
    if options.password_is_shown(flags.storage):
        console.print("note     the password stands in the list of processes: --storage-file keeps it out")
    console.print(f"study    {record.name}, to {record.trials} trained networks")
    console.print(f"stored   {shown}")
    _say_config(console, flags, config, slots)
    finish = FinishPlan.from_record(record.finish)
    _say_finish(console, flags, finish, config, record.trials, record)
    if flags.data_from:
        console.print(f"images   for workers elsewhere: --data-from {flags.data_from}", markup=False)
    console.print(f"logs     {logs}")
    name = shlex.quote(record.name)
    console.print(f"follow   {complete(f'search status {name}')}, or {complete('search dashboard')}")
    stop = "Ctrl-C lets running trials finish, twice ends at once"
    if not slots:
        stop = f"{complete(f'search stop {name}')}; Ctrl-C ends this launcher alone"
    console.print(f"stop     {stop}")
    console.print(f"resume   {again(record.trials)}\n")


def _say_end(console: Console, flags: Flags, record: Study, end: End, again: Again) -> None:
    snapshot = end.snapshot
    for slot, why in end.closed.items():
        console.print(f"{slot} was closed: {why}", style="yellow", markup=False)
    if end.exhausted:
        console.print(end.exhausted, style="yellow", markup=False)
    if end.gave_up:
        console.print(end.gave_up, style="yellow", markup=False, highlight=False)
    if end.closing:
        console.print(end.closing, markup=False, highlight=False)
    if end.spent:
        console.print(end.spent, style="yellow")
    if end.order not in (Control.RUN, Control.GAVE_UP) and not snapshot.is_done:
        onward = plan.resume(flags, record.name, StudyConfig.from_record(record.settings).data.spec)
        console.print(f"the order was {end.order}: `{onward}` goes on", style="yellow")
    console.print(f"\n{record.name}: {snapshot.trained} of {snapshot.target} trained")
    console.print(text.counts(snapshot.tally))
    if end.snapshot.second and not end.snapshot.second.is_over:
        console.print(second_stage.progress(end.snapshot.second))
        stage_plan = end.snapshot.second.plan
        closed = finish_plan.describe_closing(stage_plan, snapshot.target)
        if closed and (stage_plan.exhausted or not end.closing):
            console.print(closed, highlight=False)
    if not snapshot.is_done:
        console.print(f"go on with `{again(snapshot.target)}`")


def _require_worker(record: Study, end: End) -> None:
    """Raises EnvironmentProblem where the search ended as all slots were closed for good, with why."""
    if end.none_left and end.code == exit_codes.CODES[EnvironmentProblem]:
        reasons = "; ".join(dict.fromkeys(end.closed.values()))
        raise EnvironmentProblem(
            f"no worker is left: {reasons} (`search logs {shlex.quote(record.name)}` has all that they said)"
        )


def _result(console: SteadyConsole, line: str) -> None:
    console.kept.print(completed(line))
    say(line)


def _say_best(
    console: SteadyConsole, best: Candidate, config: StudyConfig, end: Snapshot, second: SecondStage | None
) -> None:
    images = config.data.validation_images
    accuracy = best.accuracy or 0.0
    network = Architecture.parse(best.architecture)
    scored = (
        []
        if best.score is None
        else [f"validation {WORDS[config.score]}, which the search maximised: {text.percent(best.score)}"]
    )
    lines = [
        f"best network: trial {best.number}, {summary(network)}",
        f"parameters: {best.parameters:,} of {config.budget.max_parameters:,}"
        f" ({100 * best.parameters / config.budget.max_parameters:.1f}%)",
        f"multiply-accumulates: {best.macs:,}"
        + (f" of {config.budget.max_macs:,}" if config.budget.max_macs else ""),
        f"validation accuracy: {text.percent(accuracy)} (95% interval {wilson(accuracy, images)},"
        f" {images:,} images of {config.data.name}, {text.counted(best.epochs or 0, 'epoch')})",
    ]
    lines[-1:-1] = scored
    confirmed = bool(second and second.confirmed)
    same = "score" if best.score is None else WORDS[config.score]
    if not confirmed:
        lines.append(f"the best of {end.trained} by this same {same}: expect somewhat less on new images")
    if against := describe(end.baselines, confirmed=confirmed, score=config.score):
        lines.append(against)
    if second and second.is_over:
        lines += second_stage.lines(second)
    elif second and (earlier := second_stage.describe_earlier(second)):
        lines.append(earlier)
    _result(console, "\n".join(lines))


def _owed_stage(engine: Engine, record: Study) -> SecondStage | None:
    """The second stage of a study whose trials are owed, which a snapshot does not have: finals of before may
    have confirmed a network. None without, and while the database is away."""
    with suppress(*OUT_OF_REACH):
        return second_stage.load(engine, studies.get(engine, record.id))
    return None


def _leave(
    console: SteadyConsole,
    engine: Engine,
    record: Study,
    config: StudyConfig,
    end: Snapshot,
    out: Path | None,
    report: Path | None,
    written: dict[str, Path],
) -> None:
    """Says what was found and leaves the files that were asked for; notes each in `written`, by its option,
    once it is there. A search without a network writes none: what lies at their places is of another one."""
    second = end.second or _owed_stage(engine, record)
    first = second.confirmed if second else None
    best = first.candidate if first else end.best
    if best is None:
        return
    _say_best(console, best, config, end, second)
    if out:
        confirmed = study_export.confirmation(
            trainings.of_study(engine, record.name), best, record, config, second
        )
        document = study_export.export(record, config, best, end.trained, confirmed, end.baselines)
        write_whole(document.model_dump_json(indent=1) + "\n", out)
        written["out"] = out
        _result(console, f"wrote {out}: check it with `search verify {shlex.quote(str(out))}`")
    else:
        _result(console, f"keep it with `search export {shlex.quote(record.name)}`")
    if report:
        record = studies.get(engine, record.id)  # trials may have been closed, and the second stage shortened
        write_whole(report_page.of_study(engine, record, differing.count(engine, record.name)), report)
        written["report"] = report
        _result(console, f"wrote {report}: open it in a browser")
