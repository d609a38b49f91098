"""The recipe of a network where it is trained otherwise than in a trial of its study: in the rungs and finals
of a second stage, by `search train` and `search confirm`, and in a study like another; and which full
trainings are of a network of a study.

Called by search/training/train.py, search/study/finish_plan.py, search/worker/rung_training.py and
search/launcher/prepare.py; the last also by search/study/export.py, search/commands/export.py and
search/report/stages.py. Reads and writes nothing.
"""

from collections.abc import Collection, Sequence

from search import settings
from search.study.config import DataConfig, StudyConfig
from storage.row_types import Candidate
from storage.studies import Study
from storage.trainings import Finished
from trainer.recipe import defaults
from trainer.recipe.document import Recipe


def default_recipe(data: DataConfig, epochs: int | None = None) -> Recipe:
    """That of a full training on these images, of a network that is of no study."""
    return defaults.default_recipe(
        data.spec, epochs or settings.FULL_EPOCHS, data.train_images, data.image_size, data.aligned
    )


def adapted(
    brief: Recipe,
    was: DataConfig,
    data: DataConfig,
    epochs: int | None = None,
    images: int | None = None,
    *,
    written: Collection[str] = (),
) -> Recipe:
    """That of a network of a study: `brief` is its recipe on the images `was`; what somebody chose of it,
    the fields that are `written` among it, stays, and the rest is the default for these epochs on `data`, or
    on so many images of them."""
    usual = defaults.default_recipe(was.spec, brief.epochs, was.train_images, was.image_size, was.aligned)
    epochs, images = epochs or settings.FULL_EPOCHS, images or data.train_images
    now = defaults.default_recipe(data.spec, epochs, images, data.image_size, data.aligned)
    return defaults.adapted(brief, usual, now, written)


def of_network(
    trainings: Sequence[Finished], candidate: Candidate, record: Study, config: StudyConfig
) -> list[Finished]:
    """Those of this network on the study's images, since the study was made (one of the same name may have
    been deleted), in their order."""
    return [
        one
        for one in trainings
        if one.fingerprint == candidate.fingerprint
        and one.finished_at >= record.created_at
        and one.data.get("digest") == config.data.digest
    ]
