"""What `search launch` does first: from flags to a configuration, and to a study that is made or gone on
with.

Reads the files that the flags name, the images and the store; writes the study into the ledger and into
Optuna's tables. Nothing is written before space, budget, recipe, data and database are known to be good, but
for the tables of an older store, which are brought to this version first.
Called by search/commands/launch_session.py, and for the plan of a launch by search/commands/plan.py.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from search import settings
from search.launcher import closing
from search.optuna_adapter import privileges as optuna_privileges, study as optuna_study
from search.recording.outage import Outage, passes
from search.study import (
    compute_limit,
    config as study_config,
    finish_plan,
    full_training,
    network_reference,
    own_score,
    second_stage,
    trial_length,
    worker_rows,
)
from search.study.config import Images, StudyConfig
from search.study.finish_plan import FinishPlan
from search.study.score import NAMES, ScoreName
from search.study.second_stage import SecondStage
from search.study.trial_length import TrialLength
from search.study.worker_options import WorkerLimits, WorkerOptions
from space import cost, forecast, sampling, space as spaces
from space.budget import Budget
from space.errors import RecipeError, StudyError, UsageError
from space.space import Task
from storage import candidates, connections, database, leases, studies, workers as worker_presence
from storage.row_types import TRAINED, State
from storage.studies import Study
from storage.url import is_sqlite, parse
from trainer.data import dataset as datasets
from trainer.data.images import Fit
from trainer.recipe.defaults import brief_epochs, brief_recipe
from trainer.recipe.document import ClassWeights, Recipe


@dataclass(frozen=True)
class Flags(WorkerLimits):
    """What `search launch` was given, the limits of its workers among it; None where nothing was said."""

    storage: str
    data_dir: Path
    trials: int
    study: str | None = None
    like: str | None = None  # a study whose plan is copied into a new one
    data: str | None = None
    data_is_place: bool = False  # of a study that is there `data` says no more than where its images lie
    serve_data: str | None = None  # HOST:PORT on which workers elsewhere find the images
    data_from: str | None = None  # the same as an address, while they are served
    image_size: int | None = None
    train_images: int | None = None
    fit: Fit | None = None
    skip_damaged: bool = False
    class_weights: ClassWeights | None = None
    score: str | None = None  # a name, or FILE.py:FUNCTION
    max_parameters: int | None = None
    max_macs: int | None = None  # compute_limit.UNLIMITED: none, where None is the default
    on_cpu: bool = False  # every worker here: the default of max_macs is then what a core trains
    workers: int = 0  # here, when the launch begins
    epochs: int | None = None
    recipe: Path | None = None
    space: Path | None = None
    sampler: study_config.SamplerName | None = None
    sampling: study_config.SamplingName | None = None
    pruner: study_config.PrunerName | None = None
    seed: int | None = None
    timeout: float | None = None
    max_gpu_hours: float | None = None
    start_from: tuple[str, ...] = ()
    baselines: bool = True  # those of the space come first in a new study
    finish: bool = False  # halving and finals follow the trials
    finalists: int | None = None
    final_epochs: int | None = None
    final_seeds: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether this launch has a limit of time."""
        return self.timeout is not None or self.max_gpu_hours is not None

    @property
    def seconds_of_trials(self) -> float | None:
        """Of one worker, that all trials have at least, by the limits of time; None without any."""
        limits = []
        if self.timeout is not None:
            limits.append(self.timeout * self.workers)
        if self.max_gpu_hours is not None:
            limits.append(3600 * self.max_gpu_hours)
        return min(limits) * (closing.SHARE if self.finish else 1) if limits else None

    @property
    def worker(self) -> WorkerOptions:
        """What every worker of this launch is told."""
        return WorkerOptions(
            storage=self.storage,
            data_dir=self.data_dir,
            data=self.data,
            data_from=self.data_from,
            **self.limits(),
        )


def update_store(flags: Flags) -> None:
    """Brings a store that has our tables to this version, so that its studies can be read; an empty one is
    left to prepare(). Raises StorageError as database.prepare() does, and for a store out of reach."""
    if database.absent(flags.storage):
        return
    engine = database.connect(flags.storage)
    try:
        if database.has_tables(engine):
            database.prepare(engine)
    finally:
        engine.dispose()


def existing(flags: Flags) -> Study | None:
    """The study that these flags name, if the store has it. Raises StorageError for a store out of reach, and
    for one of another version, which may have it."""
    if database.absent(flags.storage):
        return None
    engine = database.connect(flags.storage)
    try:
        if not flags.study or not database.has_tables(engine):
            return None
        database.check(engine)
        return studies.find(engine, flags.study)
    except StudyError:  # a new name
        return None
    finally:
        engine.dispose()


def require_room(flags: Flags, workers: int) -> None:
    """Raises StorageError where the server has no connections for so many workers, or is out of reach.

    A SQLite file is not looked at.
    """
    if not is_sqlite(parse(flags.storage)):
        engine = database.connect(flags.storage, few=True)
        try:
            with database.translated(engine):
                connections.require_room(engine, workers)
        finally:
            engine.dispose()


def with_trials(flags: Flags) -> Flags:
    """The flags with a number of trials: where none (0) was said, that of --like; that of the study where its
    trials were closed, by a launch to as many as now or more, and its second stage is not over.

    Raises UsageError, StudyError and StorageError as model_of() does.
    """
    record = existing(flags)
    if not flags.trials:
        model = model_of(flags, record)
        return replace(flags, trials=_asked_for(model)) if model else flags
    if record is None or not record.trials < flags.trials <= _asked_for(record):
        return flags
    stage = _second_stage(flags, record)
    return flags if stage and stage.is_over else replace(flags, trials=record.trials)


def _asked_for(record: Study) -> int:
    """Trials of a study, those included that were given up so that its second stage fits the time, or that
    there were no networks for."""
    plan = FinishPlan.from_record(record.finish)
    return (plan.closed_from if plan else None) or record.trials


def one_more(record: Study, stage: SecondStage | None) -> tuple[int, bool]:
    """The number of trials with which a launch trains one network more than the study asks for, and whether
    it does so only once the second stage is over: until then with_trials() takes what is no more than was
    asked for before trials ended as going on with that stage. One more than that trains it at once. In an
    exhausted space it is the only one; where trials were closed in time all that were given up would come
    with it. Called by the command enqueue."""
    asked = _asked_for(record)
    if stage is None or stage.is_over or asked <= record.trials:
        return record.trials + 1, False
    return (asked + 1, False) if stage.plan.exhausted else (record.trials + 1, True)


def _second_stage(flags: Flags, record: Study) -> SecondStage | None:
    """As it stands. Raises StorageError for a store out of reach."""
    engine = database.connect(flags.storage, few=True)
    try:
        with database.translated(engine):
            return second_stage.load(engine, record)
    finally:
        engine.dispose()


def model_of(flags: Flags, record: Study | None) -> Study | None:
    """The study whose plan holds where the flags say nothing: the one that they go on with, or --like.

    Raises UsageError for a study that exists and --like, StudyError where --like is not there, StorageError
    for a store out of reach.
    """
    if flags.like is None:
        return record
    if record:
        raise UsageError(
            f"study {record.name!r} exists: leave --like out to go on with it, or name a new --study"
        )
    engine = database.connect(flags.storage, create=False)
    try:
        database.check(engine)
        return studies.find(engine, flags.like)
    finally:
        engine.dispose()


def model_config(flags: Flags, record: Study | None) -> StudyConfig | None:
    """The configuration of that study, if there is one.

    Raises UsageError, StudyError and StorageError as model_of() does.
    """
    model = model_of(flags, record)
    return StudyConfig.from_record(model.settings) if model else None


def make_config(flags: Flags, stored: StudyConfig | None) -> StudyConfig:
    """The configuration that the flags mean; what they leave open comes from the `stored` one, of the study
    itself or of --like, else from the defaults of search/settings.py. What followed there from the images,
    and was not said, follows from these.

    Raises UsageError for a file or a budget that is wrong, NothingFitsError for one that no network fits,
    DataError for images.
    """
    given = spaces.load(flags.space) if flags.space else None
    data, images = _data(flags, stored)
    task = Task(
        channels=images.dataset.channels,
        image_size=images.dataset.image_size,
        classes=len(images.dataset.classes),
    )
    written = given or _written_space(stored, task.image_size)
    space = written.for_images(task.image_size)
    space.require_geometry(task.image_size)
    recipe = _recipe(flags, stored, data)
    budget = Budget(
        flags.max_parameters or (stored.budget.max_parameters if stored else settings.MAX_PARAMETERS),
        _max_macs(flags, stored, task, data.train_images * recipe.epochs, space),
    )
    if not stored and (shorter := shorter_trials(flags, data, budget)):
        recipe = _recipe(replace(flags, epochs=shorter.epochs), stored, data)
    sampling.require_smallest(space, budget, task)
    scored, own = _score(flags, stored)
    chosen = flags.sampling or (stored.sampling if stored else settings.SAMPLING)
    if chosen == "reject" and not stored:
        forecast.require_luck(forecast.forecast(space, budget, task))
    return StudyConfig(
        space=space,
        space_written=written if written != space else None,
        budget=budget,
        max_macs_written=_max_macs_written(flags, stored, task),
        task=task,
        recipe=recipe,
        recipe_written=_recipe_written(flags, stored),
        data=data,
        sampler=flags.sampler or (stored.sampler if stored else settings.SAMPLER),
        sampling=chosen,
        pruner=flags.pruner or (stored.pruner if stored else settings.PRUNER),
        seed=flags.seed if flags.seed is not None else stored.seed if stored else settings.SEED,
        score=scored,
        own_score=own,
    )


def _score(flags: Flags, stored: StudyConfig | None) -> tuple[ScoreName, own_score.OwnScore | None]:
    """The score of the flags, else of the stored configuration; a file of the user's must be what it was.

    Raises UsageError for a score that is neither a name nor a function in a file.
    """
    if flags.score is None and stored:
        if stored.own_score:
            own_score.load(stored.own_score)
        return stored.score, stored.own_score
    wanted = flags.score or settings.SCORE
    named = next((name for name in NAMES if name == wanted), None)
    return (named, None) if named else ("own", own_score.find(wanted))


def _written_space(stored: StudyConfig | None, image_size: int) -> spaces.SearchSpace:
    """The space of the stored configuration, without one the default, as it was written: with what it says of
    images of other sizes, if that is known. Of a study of before it is where it had the default space."""
    default = spaces.default()
    if stored is None:
        return default
    was = stored.task.image_size
    if stored.space_written is None and image_size != was and stored.space == default.for_images(was):
        return default
    return stored.space_written or stored.space


def _max_macs(
    flags: Flags, stored: StudyConfig | None, task: Task, images: int, space: spaces.SearchSpace
) -> int | None:
    """What was said; else the study's own limit, none included, but for a default for images of another size;
    else the default for these images."""
    if flags.max_macs is not None:
        return None if flags.max_macs == compute_limit.UNLIMITED else flags.max_macs
    if stored and _keeps_max_macs(stored, task):
        return stored.budget.max_macs
    least = cost.total(sampling.smallest(space, task)).macs
    return compute_limit.default(task.image_size, images, flags.on_cpu, least).macs


def _keeps_max_macs(stored: StudyConfig, task: Task) -> bool:
    """Whether the limit of a stored configuration holds for these images, where nothing is said: somebody
    said it, or they are of the size that it is the default for."""
    size, limit = stored.task.image_size, stored.budget.max_macs
    if size == task.image_size or limit is None or stored.max_macs_written:
        return True
    if stored.max_macs_written is not None:
        return False
    least = cost.total(sampling.smallest(stored.space, stored.task)).macs  # a study that does not say it
    lengths = {stored.recipe.epochs, brief_epochs(stored.data.spec)}  # of trials, shortened or not
    defaults = {
        compute_limit.default(size, stored.data.train_images * epochs, on_cpu, least).macs
        for epochs in lengths
        for on_cpu in (False, True)
    }
    return limit not in defaults


def _max_macs_written(flags: Flags, stored: StudyConfig | None, task: Task) -> bool | None:
    """Whether somebody said the limit, here or where the stored configuration was made; None: that is not
    known."""
    if flags.max_macs is not None:
        return True
    return stored.max_macs_written if stored and _keeps_max_macs(stored, task) else False


def shorter_trials(flags: Flags, data: study_config.DataConfig, budget: Budget) -> TrialLength | None:
    """How long trials are where the flags leave it open and their limit of time is short, on cores here; None
    where they are as long as usual. Raises UsageError for a file of --recipe that cannot be read."""
    seconds = flags.seconds_of_trials
    if flags.epochs or not (flags.on_cpu and seconds and budget.max_macs):
        return None
    if network_reference.said_epochs(network_reference.written(str(flags.recipe) if flags.recipe else None)):
        return None
    usual = brief_epochs(data.spec)
    return trial_length.in_time(usual, data.train_images, budget.max_macs, seconds, flags.trials)


def _recipe(flags: Flags, stored: StudyConfig | None, data: study_config.DataConfig) -> Recipe:
    """The recipe of the trials. A schedule in a file of --recipe that says no epochs is one of those that are
    usual, whatever trials here have, or of those of the study that this one is like; which of these a study
    was made by, its stored recipe says."""
    written = network_reference.written(str(flags.recipe) if flags.recipe else None)
    said = network_reference.said_epochs(written)
    brief = brief_epochs(data.spec)
    usual = stored.recipe.epochs if stored else brief
    of_schedule = partial(_recipe_of, flags, stored, data, written, flags.epochs or said or usual)
    is_scheduled = isinstance(written, dict) and isinstance(written.get("schedule"), dict)
    if said or flags.like or not (is_scheduled and stored):
        return of_schedule(said or usual)
    with suppress(RecipeError):
        like_another = of_schedule(usual)
        if like_another == stored.recipe:
            return like_another
    return of_schedule(brief)


def _recipe_of(
    flags: Flags,
    stored: StudyConfig | None,
    data: study_config.DataConfig,
    written: Any,
    epochs: int,
    own: int,
) -> Recipe:
    """The same for so many epochs, where the schedule in the file, `written`, is one of `own`."""
    if stored:
        recipe = full_training.adapted(
            stored.recipe, stored.data, data, epochs, written=stored.recipe_written
        )
    else:
        recipe = brief_recipe(data.spec, data.train_images, epochs, data.image_size, data.aligned)
    if flags.recipe:
        recipe = Recipe.parse(written, str(flags.recipe), recipe.for_epochs(own))
        if "batch_size" in network_reference.written_fields(str(flags.recipe)):  # else it is cut to them
            recipe.require_batch(data.train_images)
    if recipe.epochs != epochs:
        recipe = recipe.for_epochs(epochs)
    recipe = recipe.weighing(flags.class_weights)
    recipe.require_fit(data.image_size)
    return recipe


def _recipe_written(flags: Flags, stored: StudyConfig | None) -> tuple[str, ...]:
    """The fields of the recipe that somebody chose: here, or where the stored configuration was made."""
    found = network_reference.written_fields(str(flags.recipe) if flags.recipe else None) - {"epochs"}
    found |= {"class_weights"} if flags.class_weights else frozenset()
    return tuple(sorted(found.union(stored.recipe_written if stored else ())))


def _data(flags: Flags, stored: StudyConfig | None) -> tuple[study_config.DataConfig, Images]:
    """The images, and the configuration's words for them: those of the stored study where they are the
    same images, wherever they lie, and no other seed was said. What has changed since is of a study like it
    alone: a study goes on with its images of before."""
    was = stored.data if stored else None
    seed = flags.seed if flags.seed is not None else stored.seed if stored else settings.SEED
    is_split_anew = stored is not None and seed != stored.seed
    said_data = None if flags.data_is_place else flags.data
    said = (said_data, flags.image_size, flags.train_images, flags.fit, flags.skip_damaged or None)
    if was and not flags.like and said == (None,) * 5 and not is_split_anew:
        images = study_config.open_images(was, flags.data_dir, flags.data)
        return _with_tests(flags, was, images.dataset), images
    spec = flags.data or (was.spec if was else settings.DATA)
    limit = flags.train_images or (was.limit if was else None)
    dataset = datasets.load(
        spec,
        flags.data_dir,
        flags.image_size or (was.image_size if was else None),
        flags.fit or (was.fit if was else settings.FIT),
        flags.skip_damaged or bool(was and was.skip_damaged),
    )
    share = None
    if was and was.digest == dataset.digest:
        share, seed = was.validation_share, seed if is_split_anew else was.split_seed
    found, images = study_config.split_images(dataset, limit, share, seed)
    if was and (found.digest, found.split_digest) == (was.digest, was.split_digest):
        before = None if flags.like else study_config.tests_of_before(was, dataset, flags.data_dir)
        if before:
            images = replace(images, dataset=before, note=study_config.goes_on(spec, study_config.TESTS))
        return _with_tests(flags, was, images.dataset), images
    return found.seen_as(was), images


def _with_tests(
    flags: Flags, was: study_config.DataConfig, dataset: datasets.Dataset
) -> study_config.DataConfig:
    """With the test images that there are, for a study of --like, and where they are others than they were. A
    study of before, which does not know its own, goes on without."""
    if flags.like or was.has_other_tests(dataset):
        return was.model_copy(update={"test_digest": dataset.test_digest})
    return was


def plan_of(flags: Flags, record: Study | None, config: StudyConfig) -> FinishPlan | None:
    """The plan of the second stage: what the flags say, over that of a study which has one; None for none.

    Raises UsageError for flags that make no plan, RecipeError for a recipe that does not fit, and as
    model_of() does.
    """
    model = model_of(flags, record)
    stored = FinishPlan.from_record(model.finish) if model else None
    whole = stored.whole if stored else None
    said = (flags.finalists, flags.final_epochs, flags.final_seeds)
    wanted = whole
    if whole and record is None:
        wanted = _plan_like(whole, config, *said)
    elif flags.finish:
        wanted = finish_plan.make_plan(config, whole, *said)
    elif any(said):
        raise UsageError("--finalists, --final-epochs and --final-seeds go with --finish")
    if wanted is None or stored is None or record is None:
        return wanted
    is_limited = stored.wanted or stored.limit
    is_kept = is_limited and wanted == whole and _goes_on_shortened(flags, record)
    closed_from = None if flags.trials > record.trials else stored.closed_from
    limit = stored.limit if is_kept and (flags.is_limited or _is_worked_on(flags, record)) else None
    plan = stored if is_kept else wanted
    return plan.with_wanted(wanted, closed_from, limit, exhausted=stored.exhausted)


def _plan_like(
    model: FinishPlan, config: StudyConfig, finalists: int | None, epochs: int | None, seeds: int | None
) -> FinishPlan:
    """That of another study for a new one of this configuration: so many networks, epochs and seeds where
    nothing was said. Their recipe is the new study's own: it may have other images, or another recipe.

    Raises as finish_plan.make_plan() does.
    """
    was = model.finals
    return finish_plan.make_plan(
        config, None, finalists or was.networks, epochs or was.recipe.epochs, seeds or was.seeds
    )


def _goes_on_shortened(flags: Flags, record: Study) -> bool:
    """Whether a second stage that was shortened in time keeps its plan: its trials were closed for it, or it
    has begun, or it is over and no more is asked for. Where trials are owed only what runs of it goes on."""
    stage = _second_stage(flags, record)
    if stage is None:
        return False
    no_more = flags.trials <= record.trials
    if not stage.trainings:
        is_whole = flags.finish and not flags.is_limited
        return no_more and stage.plan.closed_from is not None and not is_whole
    if stage.is_over:
        return no_more and not (flags.finish and not flags.is_limited)
    return (stage.has_its_trials and no_more) or any(one.state == State.RUNNING for one in stage.trainings)


def _is_worked_on(flags: Flags, record: Study) -> bool:
    """Whether workers of another launch are there, to whose limit the second stage was fitted. Raises
    StorageError for a store out of reach."""
    engine = database.connect(flags.storage, few=True)
    try:
        with database.translated(engine):
            present = worker_presence.of_study(engine, record.id)
            return bool(worker_rows.of_launches(present, leases.running(engine, record.id)))
    finally:
        engine.dispose()


def prepare(flags: Flags) -> tuple[Engine, Study, StudyConfig]:
    """Everything checked, then the study made, or the one that is there given its new target.

    Raises as make_config() does, UsageError and RecipeError for a second stage that cannot be, StudyError
    where the study is another's, StorageError for a store out of reach.
    """
    record = existing(flags)
    stored = model_config(flags, record)
    config = make_config(flags, stored)
    if record and stored:
        study_config.require_same(record.name, stored, config)
    plan = plan_of(flags, record, config)
    # Says at once that there is none; one that breaks is waited for.
    engine = database.connect(flags.storage, few=True)
    outage = Outage(flags.database_timeout_seconds)
    try:
        outage.insist(partial(_open_tables, engine), passes)
        if record:
            plan = outage.insist(partial(_plan_by_now, engine, record, flags, config), passes)
            outage.insist(partial(_go_on, engine, record, flags), passes)
        else:
            record = _create(flags, engine, config, outage)
        return engine, outage.insist(partial(_planned, engine, record, plan), passes), config
    except StudyError:
        engine.dispose()
        return prepare(flags)  # another launch came first: go on with its study, or take a later name
    except BaseException:
        engine.dispose()
        raise


def _open_tables(engine: Engine) -> None:
    database.prepare(engine)
    optuna_privileges.require_to_launch(engine)


def _go_on(engine: Engine, record: Study, flags: Flags) -> None:
    """Gives a study its new target, and lets its workers work. Trainings of its second stage that wait are
    asked for again once all trials are done, if these choose the same networks."""
    tally = candidates.tally(engine, record.id)
    trials = with_trials(flags).trials  # another launch may have closed it while images were read
    studies.set_trials(engine, record.id, max(trials, sum(tally[state] for state in TRAINED)), anew=True)
    studies.set_control(engine, record.id, studies.Control.RUN)


def _create(flags: Flags, engine: Engine, config: StudyConfig, outage: Outage) -> Study:
    """Makes the study in both sets of tables. Raises StudyError where another launch has made it, UsageError
    where Optuna has a study of this name with trials of its own, which no search has made.

    One that is there after a connection broke is its own: the answer was lost.
    """
    from search.study.versions import of_launch

    name = flags.study or settings.study_name(datetime.now())
    versions, broken = of_launch(), list[BaseException]()

    def create() -> Study:
        try:
            _require_free(engine, flags.storage, name)
            optuna_study.create(flags.storage, name, config)
            return studies.create(
                engine,
                name,
                trials=flags.trials,
                max_parameters=config.budget.max_parameters,
                max_macs=config.budget.max_macs,
                seed=config.seed,
                settings=config.document(),
                versions=versions,
            )
        except StudyError:
            if broken and StudyConfig.from_record((own := studies.find(engine, name)).settings) == config:
                return own
            raise

    def passed(error: BaseException) -> bool:
        broken.append(error)
        return passes(error)

    return outage.insist(create, passed)


def _require_free(engine: Engine, url: str, name: str) -> None:
    """Another launch makes its study in the ledger before that has a trial: so this looks there last."""
    if optuna_study.has_trials(url, name) and name not in {one.name for one in studies.all_studies(engine)}:
        raise UsageError(
            f"Optuna has a study {name!r} in this store that no search has made; choose another --study"
        )


def _plan_by_now(engine: Engine, record: Study, flags: Flags, config: StudyConfig) -> FinishPlan | None:
    """What plan_of() says by now: another launch may have closed the trials, or begun the second stage, while
    images were read."""
    return plan_of(with_trials(flags), studies.get(engine, record.id), config)


def _planned(engine: Engine, record: Study, plan: FinishPlan | None) -> Study:
    """The study as it is now, with this plan. Trainings that wait are those of another limit too."""
    finish = studies.get(engine, record.id).finish
    if plan is not None and plan.document() != finish:
        stored = FinishPlan.from_record(finish)
        same = stored is not None and stored.model_copy(update={"limit": plan.limit}) == plan
        studies.set_finish(engine, record.id, plan.document(), anew=not same)
    return studies.find(engine, record.name)
