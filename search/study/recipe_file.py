"""The recipe that a recipe file means for a network of no study: what the file leaves out is the default for
the images and for how long a training is, as `search launch` and `search train` fill it in.

Reads the file, or a published recipe. Called by the commands recipe check and data.
"""

from collections.abc import Callable

from search import settings
from search.study import network_reference
from space.errors import RecipeError
from trainer.recipe.document import Recipe


def recipe_of(
    source: str, default: Callable[[int], Recipe], length: int, epochs: int | None = None
) -> Recipe:
    """The recipe of a FILE or published:NAME for trainings of `epochs`, else of as many as it says, else of
    `length`: those of a trial, or of a full training. `default` makes the default recipe for so many epochs.

    Raises RecipeError for one that is refused, ArchitectureError for a name that is not published.
    """
    said = network_reference.said_epochs(network_reference.written(source))
    base = default(epochs or said or length).for_epochs(said or length)  # its schedule is of its own epochs
    found = network_reference.load_recipe(source, base)
    if epochs is None:
        return found
    return Recipe.parse(found.for_epochs(epochs).model_dump(), source)  # another length may be a mistake


def of_full_training(source: str, default: Callable[[int], Recipe], epochs: int | None = None) -> Recipe:
    """The same for a full training. Raises RecipeError with what to add to one that is refused, and
    ArchitectureError."""
    try:
        return recipe_of(source, default, settings.FULL_EPOCHS, epochs)
    except RecipeError as error:
        raise RecipeError(
            f"{error}; it says no epochs, and search train takes it for one of {settings.FULL_EPOCHS}:"
            " add epochs"
        ) from None


def differences(recipe: Recipe, other: Recipe) -> dict[str, object]:
    """The fields that are not the same in another recipe, with what they are there, as JSON values."""
    here, there = recipe.model_dump(mode="json"), other.model_dump(mode="json")
    return {name: there[name] for name in there if there[name] != here[name]}
