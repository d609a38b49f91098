"""The command `search launch`: its options. What it does is in launch_session.py, loaded when it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from search import settings
from search.commands import options
from search.commands.help import Grouped, study_names
from trainer.data.catalogue import FOLDER_NOTE, SPECS


class Launch(Grouped):
    """The command, whose many options are in groups."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What to find": ("max_parameters", "max_macs", "space", "data", "image_size", "fit", "skip_damaged",
                         "trials"),
        "Training": ("epochs", "recipe", "train_images", "class_weights", "score"),
        "Second stage": ("finish", "finalists", "final_epochs", "final_seeds"),
        "Search": ("like", "score", "sampler", "sampling", "pruner", "seed", "start_from", "baselines"),
        "Machines": ("workers", "gpus", "cluster", "serve_data", "storage", "storage_file", "data_dir"),
        "Safety": ("timeout", "max_gpu_hours", "trial_seconds", "trial_memory", "stall_seconds",
                   "lease_seconds", "database_timeout_seconds", "grace_seconds"),
        "Output": ("study", "out", "report", "keep_weights", "on_end", "notify", "dry_run"),
    }  # fmt: skip


@click.command(cls=Launch)
@click.argument("name", required=False, type=options.StudyName(), metavar="[STUDY]",
                shell_complete=study_names)  # fmt: skip
@click.option("--trials", type=click.IntRange(1, options.MOST_TRIALS), envvar="SEARCH_TRIALS",
              show_envvar=True,
              help="Networks to train, to the end or until pruned; nothing else counts, and 20 in a row that"
              " diverge, time out or fail end the search.")  # fmt: skip
@click.option(
    "--study",
    type=options.StudyName(),
    metavar="NAME",
    shell_complete=study_names,
    help="Name of the study, as STUDY; goes on with it if it exists.",
)
@click.option("--like", metavar="STUDY", shell_complete=study_names,
              help="Begin a new study with the plan of this one: its data, budget, recipe, space, sampler,"
              " second stage and number of trials; options given here win.")  # fmt: skip
@options.storage
@options.data_dir
@click.option("--data", envvar="SEARCH_DATA", show_envvar=True, metavar="SPEC",
              help=f"{SPECS}. {FOLDER_NOTE}  [default: {settings.DATA}]")  # fmt: skip
@click.option(
    "--image-size",
    type=click.IntRange(4, 512),
    metavar="PIXELS",
    help="Side that images are scaled to.  [default: the data set's; of a folder of mixed sizes the median,"
    " rounded to 32, 48, 64, 96, 128...]",
)
@options.fit
@options.skip_damaged
@options.class_weights
@click.option("--train-images", type=options.Count(), metavar="N", help="Train on so many images only.")
@click.option(
    "--max-params",
    "max_parameters",
    type=options.Count(),
    metavar="N",
    help=f"Hard limit of trainable parameters.  [default: {settings.MAX_PARAMETERS:_}]",
)
@click.option(
    "--max-macs",
    type=options.CountOrNone(),
    metavar="N|none",
    help="Hard limit of multiply-accumulates of one image.  [default: 1G for 32 pixels on a GPU, by area;"
    " on a CPU what a core trains in about a minute a trial]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 10_000),
    help="Epochs of the brief training.  [default: by data set; on CPUs fewer where time is short]",
)
@click.option("--recipe", type=click.Path(path_type=Path), metavar="FILE", help="How to train, TOML or JSON.")
@click.option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The search space, TOML or JSON.  [default: space/default.toml]",
)
@click.option("--start-from", multiple=True, metavar="published|FILE|STUDY:TRIAL",
              help="Known networks to try first; may be given again.")  # fmt: skip
@click.option("--baselines/--no-baselines", default=True, show_default=True,
              help="Try the space's baselines first in a new study, and variants of them.")  # fmt: skip
@click.option("--finish", is_flag=True,
              help="After the trials train the best longer, by successive halving, and the last few to the"
              " end, with several seeds and the test images.")  # fmt: skip
@click.option("--finalists", type=click.IntRange(1, 100), metavar="K",
              help="In the finals, beside the best baseline.  [default: "
              f"{settings.FINALISTS}, or 1 in short finals, chosen by one seed of several]")  # fmt: skip
@click.option("--final-epochs", type=click.IntRange(2, 10_000), metavar="N",
              help=f"Epochs of the finals.  [default: {settings.FULL_EPOCHS}]")  # fmt: skip
@click.option("--final-seeds", type=click.IntRange(1, 100), metavar="N",
              help=f"Trainings of each finalist.  [default: {settings.FINAL_SEEDS}]")  # fmt: skip
@click.option("--score", metavar="NAME|FILE.py:FUNCTION",
              help="What is maximised, of validation images: accuracy, or, where classes are uneven,"
              " balanced-accuracy or macro-f1, the mean over classes of accuracy or F1; or a function of"
              f" (scores, labels) of your own, docs/python.md.  [default: {settings.SCORE}]")  # fmt: skip
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "random"]),
    help=f"Who proposes.  [default: {settings.SAMPLER}]",
)
@click.option("--sampling", type=click.Choice(["fit", "reject"]),
              help="Solve widths to fit, or draw them and prune what exceeds."
              f"  [default: {settings.SAMPLING}]")  # fmt: skip
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "asha", "none"]),
    help=f"Who stops the hopeless.  [default: {settings.PRUNER}]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help=f"Of split, sampler and trainings.  [default: {settings.SEED}]",
)
@click.option(
    "--workers",
    default="auto",
    show_default=True,
    envvar="SEARCH_WORKERS",
    show_envvar=True,
    help="Worker processes: auto is one a core, or as many a GPU as pay, which is measured; 0: others do it.",
)
@click.option(
    "--gpus",
    default="all",
    show_default=True,
    envvar="SEARCH_GPUS",
    show_envvar=True,
    help="0,1 or UUIDs, all or none.",
)
@click.option(
    "--cluster",
    envvar="SEARCH_CLUSTER",
    show_envvar=True,
    metavar="ADDRESS",
    help="Let a Dask cluster place the workers: its scheduler, as tcp://host:8786. docs/cluster.md",
)
@click.option(
    "--serve-data",
    metavar="HOST:PORT",
    help="Let workers elsewhere that have no images load them from here, prepared (--data-from); no login.",
)
@click.option(
    "--timeout",
    type=options.Duration(),
    metavar="TIME",
    help="End after 90s, 15m, 2h...; with --finish trials end in time for halving and finals."
    " With --workers 0 those elsewhere end too, as by search stop --now.",
)
@click.option(
    "--max-gpu-hours",
    type=options.Hours(),
    help="End when the workers here have used so many hours of their devices; a GPU that they share is one."
    " Not with --workers 0.",
)
@options.worker_limits
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Export the best network here at the end."
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML report here at the end."
)
@click.option("--on-end", metavar="CMD",
              help="Run this in a shell at the end, with SEARCH_STUDY, SEARCH_EXIT_CODE, SEARCH_END (done,"
              " short or error), SEARCH_BEST, SEARCH_BEST_ACCURACY... in its environment.")  # fmt: skip
@click.option("--notify", type=options.WebAddress(), metavar="URL",
              help="Post the same facts there at the end, as one JSON document.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Check all and show the plan; start and store nothing.")
@click.pass_context
def launch(
    context: click.Context,
    /,
    name: str | None,
    workers: str,
    gpus: str,
    out: Path | None,
    report: Path | None,
    dry_run: bool,
    on_end: str | None,
    notify: str | None,
    cluster: str | None,
    **given: Any,
) -> int:
    """Search: sample, train and prune networks until the trials asked for are done."""
    from search.commands import launch_session
    from search.commands.at_end import AtEnd
    from search.launcher.prepare import Flags

    if name is not None and given["study"] not in (None, name):
        raise click.UsageError(f"two studies: {name!r} and {given['study']!r}", context)
    given["study"] = name or given["study"]
    if given["like"] and context.get_parameter_source("trials") == ParameterSource.ENVIRONMENT:
        given["trials"] = None  # a command of --on-end has the variable; --like was typed
    # What was typed says which images are meant, the environment where they lie here.
    given["data_is_place"] = context.get_parameter_source("data") == ParameterSource.ENVIRONMENT
    if given["trials"] is None and given["like"] is None:
        raise click.UsageError("Missing option '--trials': how many networks to train", context)
    given["trials"] = given["trials"] or 0  # as many as --like has
    at_end = AtEnd(on_end, notify)
    return launch_session.launch(Flags(**given), workers, gpus, out, report, dry_run, at_end, cluster)
