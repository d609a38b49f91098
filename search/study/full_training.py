"""How a network is trained to the end unless a recipe is named: by `search train`, `search confirm` and the
finals of a search.

Called by search/training/train.py and search/study/finish_plan.py. Reads and writes nothing.
"""

from search import settings
from trainer.recipe.document import Recipe, full_recipe


def default_recipe(data_spec: str, of_study: Recipe | None) -> Recipe:
    """The study's own over 200 epochs where the network is one of a study, else that of the data set."""
    return of_study.for_epochs(settings.FULL_EPOCHS) if of_study else full_recipe(data_spec)
