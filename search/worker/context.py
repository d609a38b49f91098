"""Everything a worker opens once and uses for every trial.

Built by open_context, of what the worker was told and the study's stored configuration; passed to trial.py,
rung_training.py, attempt.py and callbacks.py beside it. Opens the images, Optuna's study and, through
training_function, torch and the device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Engine

from search.machine import gpu_choice
from search.machine.device_lock import DeviceLock
from search.machine.processes import abandon
from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.recording.outage import Outage
from search.study.config import DataConfig, StudyConfig, open_images_from, split_images
from search.study.files import StudyFiles, kept_best, note_best, note_here, study_folders
from search.study.versions import installed_versions
from search.study.worker_options import WorkerOptions
from search.worker.training_function import TrainingFunction, make_training_function
from space.errors import ExhaustedError
from storage.studies import Study
from storage.workers import Doing


@dataclass
class WorkerContext:
    """One worker at one study. All but the last two stays as it was opened."""

    options: WorkerOptions  # what the worker was told: its limits are read here
    study: optuna.Study  # the study in Optuna's tables; its sampler is replaced for each proposal
    engine: Engine  # connections to the database of the ledger, which is Optuna's too
    study_id: int  # the study in the ledger
    config: StudyConfig  # the study's stored configuration: space, budget, recipe, data, sampler
    final_data: DataConfig  # of the finals, which train on all images where trials have fewer
    train_network: TrainingFunction  # trains one network on this process's device
    spool: Path  # folder of what was owed to this study while its database was away
    files: StudyFiles  # checkpoints and weights of this study on this machine
    device_lock: DeviceLock  # who trains on the device: everybody, or a trial that needs all its memory
    outage: Outage  # how long the database has been away; all waiting for it goes through here
    device: str  # the device's name, as it is stored with each trial
    versions: dict[str, Any]  # of Python and packages, stored with each trial
    cancelled: Callable[[], bool]  # whether the trial under way is to end at its next batch
    abandon: Callable[[], None]  # ends this process, whose training hangs
    say: Callable[[Doing], None] = lambda _: None  # tells the ledger what the worker does between trials
    shares_gpu: bool = False  # whether the device is a GPU, which other workers may have too
    out_of_memory_beside_others: int = 0  # trials so far that had enough memory only once they were alone
    exhausted: ExhaustedError | None = None  # that no network was left to propose, while trials are owed


@contextmanager
def open_context(
    options: WorkerOptions,
    engine: Engine,
    record: Study,
    shutdown: ShutdownRequest,
    say: Callable[[Doing], None],
) -> Iterator[WorkerContext]:
    """Opens what the study's configuration names, and closes Optuna's study at the end. Notes on this machine
    how many weights are kept, where that is said, and whose the logs are.

    Raises DataError for images that are not there or not the study's, DeviceError for a GPU that is not
    there or cannot train, StorageError for a database out of reach.
    """
    optuna_study.quiet()
    folders = study_folders(options.data_dir, options.storage, record)
    note_best(folders.kept, options.keep_weights)
    note_here(options.data_dir, options.storage, record)
    config = StudyConfig.from_record(record.settings)
    images = open_images_from(config.data, options.data_dir, options.data, options.data_from)
    data, name = config.data, gpu_choice.device_name()
    final_data, _ = split_images(images.dataset, None, data.validation_share, data.split_seed)
    device, train_network = make_training_function(config, images, memory=options.trial_memory)
    with optuna_study.open_study(options.storage, record.name, config, engine) as study:
        optuna_study.identify(study, record.id)
        yield WorkerContext(
            options=options,
            study=study,
            engine=engine,
            study_id=record.id,
            config=config,
            final_data=final_data.seen_as(data),
            train_network=train_network,
            spool=folders.spool,
            files=StudyFiles(folders.kept, kept_best(folders.kept, options.keep_weights)),
            device_lock=DeviceLock(options.data_dir / "slots", name),
            outage=Outage(options.database_timeout_seconds, shutdown.cancelled),
            device=device,
            shares_gpu=gpu_choice.is_of_gpu(name),
            versions=installed_versions(),
            cancelled=shutdown.cancelled,
            abandon=abandon,
            say=say,
        )
