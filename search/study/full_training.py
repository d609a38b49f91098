"""How a network is trained for longer than a trial: in the rungs of a second stage, and to the end by `search
train`, `search confirm` and the finals.

Called by search/training/train.py, search/study/finish_plan.py and search/worker/rung_training.py. Reads and
writes nothing.
"""

from search import settings
from search.study.config import DataConfig
from trainer.recipe import defaults
from trainer.recipe.document import Recipe


def default_recipe(data_spec: str, images: int, epochs: int | None = None) -> Recipe:
    """That of a full training on so many images, of a network that is of no study."""
    return defaults.default_recipe(data_spec, epochs or settings.FULL_EPOCHS, images)


def longer(brief: Recipe, data: DataConfig, images: int, epochs: int | None = None) -> Recipe:
    """That of a network of a study: `brief` is its recipe on the images of `data`; what somebody chose of it
    stays, and the rest is the default for these epochs on so many images."""
    return defaults.adapted(brief, data.spec, data.train_images, images, epochs or settings.FULL_EPOCHS)
