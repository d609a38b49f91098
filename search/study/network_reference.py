"""Resolves an argument that names a network: a FILE, a trial STUDY:137, the best of a STUDY, published:NAME.

Reads the file, the store or the packaged systems; returns the network with recipe and data where they are
known. Called by every command that takes a network.
"""

import errno
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.study.reader import split_reference

if TYPE_CHECKING:
    from search.study.config import DataConfig
    from space.architecture import Architecture
    from trainer.recipe.document import Recipe


PUBLISHED = "published:"


METAVAR = "FILE|STUDY[:TRIAL]|published:NAME"


@dataclass(frozen=True)
class ResolvedNetwork:
    """A network, and what it was trained with where that is known; `name` is what people call it."""

    name: str
    architecture: "Architecture"
    recipe: "Recipe | None" = None
    data: "DataConfig | None" = None
    recipe_written: tuple[str, ...] = ()  # fields of the recipe that somebody chose
    study: str | None = None
    trial: int | None = None


def resolve(reference: str | None, storage: str) -> ResolvedNetwork:
    """The network of a reference; of none, the best of the newest study.

    Raises ArchitectureError for a bad file or published name, StudyError and StorageError for a bad trial.
    """
    if reference and is_published(reference):
        return _published(reference.removeprefix(PUBLISHED))
    if reference and is_file(reference):
        from space import architecture

        return ResolvedNetwork(Path(reference).stem, architecture.load(Path(reference)))
    return _trial(reference, storage)


def like(found: ResolvedNetwork, study: str, storage: str) -> ResolvedNetwork:
    """The same network with recipe and data of a study. Raises StudyError and StorageError."""
    from search.study import reader

    with reader.open_study(storage, study, whole=True) as view:
        config = view.config
        return replace(found, recipe=config.recipe, data=config.data, recipe_written=config.recipe_written)


def with_export(found: ResolvedNetwork, path: Path) -> ResolvedNetwork:
    """The same network with the recipe and data that a file of `search export` names; any other as it is."""
    from pydantic import ValidationError

    from search.study import export
    from space import parser
    from space.errors import ArchitectureError

    given = parser.read(path, parser.form_of(path), ArchitectureError)
    try:
        document = export.Export.model_validate_json(json.dumps(given))
    except ValidationError:
        return found
    return replace(found, recipe=document.recipe, data=document.data, recipe_written=document.recipe_written)


def written(source: str | None) -> object:
    """What a recipe FILE says; nothing for none, and for a published recipe, which was written for other
    images."""
    from trainer.recipe.document import read_document

    return read_document(Path(source)) if source and not is_published(source) else {}


def written_fields(source: str | None) -> frozenset[str]:
    """The fields that a recipe FILE says; none of none, and of a published recipe."""
    said = written(source)
    return frozenset(said) if isinstance(said, dict) else frozenset()


def said_epochs(document: object) -> int | None:
    """The epochs that a recipe's document says; None where it says none, or what no recipe may say."""
    from trainer.recipe.document import MOST_EPOCHS

    said = document.get("epochs") if isinstance(document, dict) else None
    return said if type(said) is int and 1 <= said <= MOST_EPOCHS else None


def is_published(reference: str) -> bool:
    """Whether it begins as a published name does; `published:7` is a trial of a study of that name."""
    return reference.startswith(PUBLISHED) and split_reference(reference)[1] is None


def is_file(reference: str) -> bool:
    """Whether it is to be read as a file; whoever reads one that cannot be looked at says why."""
    if reference.endswith(".json"):
        return True
    try:
        return Path(reference).is_file()
    except OSError:
        return can_be_file(reference)


def can_be_file(reference: str) -> bool:
    """Whether it is no longer than the name of a file may be."""
    try:
        Path(reference).is_file()
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def _published(name: str) -> ResolvedNetwork:
    from space import published
    from trainer.recipe.document import Recipe

    entry = published.find(name)
    recipe = Recipe.parse(dict(entry.recipe), f"{PUBLISHED}{name}")
    return ResolvedNetwork(f"{PUBLISHED}{name}", entry.architecture, recipe)


def _trial(reference: str | None, storage: str) -> ResolvedNetwork:
    from search.study import reader
    from space.architecture import Architecture

    with reader.open_study(storage, reference) as view:
        candidate, config = view.candidate(), view.config
        name = f"{view.record.name}:{candidate.number}"
        network = Architecture.parse(candidate.architecture)
        return ResolvedNetwork(
            name=name,
            architecture=network,
            recipe=config.recipe,
            data=config.data,
            recipe_written=config.recipe_written,
            study=view.record.name,
            trial=candidate.number,
        )


def load_recipe(source: str, base: "Recipe | None" = None) -> "Recipe":
    """The recipe of a file, over what base says, or that of a published system, which needs no base.

    Raises RecipeError, or ArchitectureError for a name that is not published.
    """
    from space import published as systems
    from trainer.recipe.document import Recipe

    if is_published(source):
        return Recipe.parse(dict(systems.find(source.removeprefix(PUBLISHED)).recipe), source)
    return Recipe.load(Path(source), base)
