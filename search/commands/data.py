"""The command `search data`: what would be trained, before any search.

Options in, a row for each class and a page out; the page is made in search/report/data_page.py, which loads
torch to augment as a training does. search/cli.py adds it.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search import settings
from search.commands import fields, options, output

if TYPE_CHECKING:
    from search.study.config import DataConfig
    from trainer.data.dataset import Dataset, Split
    from trainer.recipe.document import Recipe


@click.command()
@click.argument("spec", metavar="SPEC")
@options.data_dir
@click.option("--image-size", type=click.IntRange(4, 512), metavar="PIXELS",
              help="Side that images are scaled to.  [default: as search launch has it]")  # fmt: skip
@options.fit
@options.skip_damaged
@click.option("--train-images", type=options.Count(), metavar="N", help="Train on so many images only.")
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE",
              help="How to train: the augmented images follow it.  [default: a full training]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=settings.SEED, show_default=True,
              help="Of the split, and of the images shown.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("data.html"), show_default=True,
              metavar="FILE", help="The page to write.")  # fmt: skip
@options.format_
def data(
    spec: str,
    data_dir: Path,
    image_size: int | None,
    fit: str | None,
    skip_damaged: bool,
    train_images: int | None,
    recipe: Path | None,
    seed: int,
    out: Path,
    form: str,
) -> None:
    """Show what would be trained: images by class, what may mislead, and a page with the images themselves.

    SPEC is as for search launch --data. The page has images of each class as the network sees them, plain and
    as a full training augments them (a trial, where a full training refuses the recipe), and the mean image
    of each class. Damaged pictures are named, and left out here.
    """
    from search.formats import endings
    from search.report import data_page
    from search.study import config as study_config, full_training, recipe_file
    from search.study.text import counted
    from space.errors import RecipeError
    from space.files import require_writable, write_whole
    from trainer.data import dataset as datasets
    from trainer.data.images import FITS
    from trainer.recipe.defaults import brief_epochs

    endings.require_page("--out", out)
    require_writable(out)
    chosen = next((one for one in FITS if one == (fit or settings.FIT)), FITS[0])
    dataset = datasets.load(spec, data_dir, image_size, chosen, skip_damaged=True)
    config, images = study_config.split_images(dataset, train_images, None, seed)
    default = partial(full_training.default_recipe, config)
    length = brief_epochs(dataset.spec)
    brief = recipe_file.recipe_of(str(recipe), default, length) if recipe else default(length)
    trial, trained, refused = f"a trial of {counted(brief.epochs, 'epoch')}", "a full training", ""
    try:
        full = recipe_file.of_full_training(str(recipe), default) if recipe else default(settings.FULL_EPOCHS)
    except RecipeError as error:  # a launch takes it
        full, trained = brief, trial
        refused = f"augmented as in {trial}: a full training refuses the recipe ({error})"
    for how in (brief, full):
        how.require_fit(dataset.image_size)
    told = _lines(dataset, images.split, config, brief, full, skip_damaged)
    told += [("note", refused)] if refused else []
    for word, line in told:
        click.echo(f"{word:8} {line}", err=True)
    rows = data_page.class_rows(dataset, images.split)
    output.emit(rows, form, fields.DATA)
    write_whole(data_page.page(dataset, images.split, full, trained, told, rows, seed), out)
    click.echo(f"wrote {out}: open it in a browser", err=True)


def _lines(
    dataset: "Dataset",
    split: "Split",
    config: "DataConfig",
    brief: "Recipe",
    full: "Recipe",
    skip_damaged: bool,
) -> list[tuple[str, str]]:
    """What the plan of a launch says of the images, a word and a line each."""
    from search.study.text import counted
    from trainer.data import survey_text
    from trainer.recipe import augmentations, defaults as recipe_defaults

    side, classes = dataset.image_size, len(dataset.classes)
    counts = f"{config.train_images:,} training and {config.validation_images:,} validation images"
    found = [
        ("data", f"{config.name}: {counts} of {dataset.channels}x{side}x{side}, {classes} classes"),
        *survey_text.lines(dataset, split, full),
        ("augment", augmentations.described(brief)),
    ]
    if augmentations.described(full) != augmentations.described(brief):
        trials = f"in trials of {counted(brief.epochs, 'epoch')}: {augmentations.in_words(brief)}"
        long = f"in a full training of {full.epochs} epochs: {augmentations.described(full)}"
        found[-1:] = [("augment", trials), ("", long)]
    if config.aligned and dataset.survey:
        found.append(("note", f"the pictures fill their frame in one way: {recipe_defaults.OF_ALIGNED}"))
    if dataset.survey:
        modes = ", ".join(f"{mode} {count:,}" for mode, count in dataset.survey.modes.items())
        found.insert(1, ("modes", f"{modes} training pictures, as Pillow calls them"))
    if dataset.survey and dataset.survey.damaged and not skip_damaged:
        found.append(("warning", "a launch refuses damaged pictures; with --skip-damaged it goes on without"))
    return found
