"""A study of digits with one trained network, its weights kept, as `search export` finds it; no training."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.optuna_adapter import study as optuna_study
from search.study import config as study_config, export as study_export
from search.study.config import Images
from search.study.export import Export
from search.study.files import StudyFiles, study_folders
from search.worker import trial as worker_trial
from space.architecture import Architecture
from space.space import Task
from storage import candidates, leases
from storage.leases import Claim
from storage.row_types import Candidate
from trainer import model, weights
from trainer.data import dataset as datasets
from trainer.data.batches import measure


@dataclass(frozen=True)
class Sample:
    """A store with the study "bench", whose trial 0 has weights in `weights`."""

    url: str
    data_dir: Path
    weights: Path
    document: Export
    images: Images
    candidate: Candidate


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight and statistic other than where it began, so that none can be left out unseen."""
    random = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.dim() == 1:
            low = 0.5 if name.endswith(("running_var", "weight")) else -0.2
            value.copy_(low + torch.rand(value.shape, generator=random))
    return network.eval()


def make_sample(url: str, data_dir: Path) -> Sample:
    data, images = study_config.split_images(datasets.load("digits", data_dir), None, None, 0)
    config = make_config(max_parameters=20_000).model_copy(
        update={"data": data, "task": Task(channels=1, image_size=8, classes=10)}
    )
    config = config.model_copy(update={"space": config.space.for_images(8)})
    engine, record = make_study(url, config, 1)
    with optuna_study.open_study(url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, data_dir)
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
    best = candidates.best(engine, record.id)[0]
    document = study_export.export(record, config, best, 1)
    engine.dispose()
    path = StudyFiles(study_folders(data_dir, url, record).kept, 0).weights(best.number)
    save_weights(path, document.architecture, images)
    return Sample(url, data_dir, path, document, images, best)


def save_weights(path: Path, architecture: Architecture, images: Images, **about: object) -> None:
    """Weights that nobody trained, with the normalisation of the images."""
    torch.manual_seed(0)
    network = randomised(model.build(architecture))
    dataset = images.dataset
    normalisation = measure(dataset.images, images.split.train)
    scaling = replace(dataset.scaling, fit="pad")
    weights.save(path, network, architecture, dataset.classes, normalisation, about, scaling)
