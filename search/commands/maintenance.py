"""The commands that check and clean up: db check, db repair, replay, gc.

db check reads both sets of tables of a study; db repair writes those of Optuna anew; replay trains one trial
again and stores nothing; gc deletes files under DATA_DIR/kept. search/cli.py adds them.
"""

import shlex
import time
from pathlib import Path

import click

from search.commands import options
from search.commands.care import STUDY, require_idle
from search.commands.output import tell
from search.study import reader


@click.group()
def db() -> None:
    """Look after the database."""


@db.command("check")
@options.study
@options.storage
def check(study: str | None, storage: str) -> int:
    """Check a study's books: every proposal in one state, the number exact, Optuna's trials the same."""
    from search.optuna_adapter import stored, study as optuna_study
    from search.recording import reconcile as reconciling
    from space.errors import StudyError
    from storage import candidates, invariants

    with reader.open_study(storage, study, whole=True) as view:
        problems = invariants.check(view.engine, view.record.id)
        theirs = stored.ends(view.engine, view.record.name)
        if theirs is None:
            raise StudyError(optuna_study.gone(view.record.name))
        problems += reconciling.compare(theirs, candidates.ended(view.engine, view.record.id))
        trained, name = view.trained, view.record.name
    for problem in problems:
        click.echo(f"{name}: {problem}")
    if not problems:
        click.echo(f"{name}: the books agree, {trained} of {view.record.trials} trained")
    return 1 if problems else 0


@db.command("repair")
@STUDY
@options.storage
def repair(study: str, storage: str) -> None:
    """Make Optuna's part of a study again from the ledger, where it was deleted in the dashboard; give trials
    back that no worker holds."""
    from search.optuna_adapter import stored, study as optuna_study
    from search.recording import rebuild, recovery
    from search.study.text import counted
    from storage import leases

    with reader.open_study(storage, study, whole=True) as view:
        record = view.record
        lost = leases.take_unclaimed(view.engine, record.id)
        if lost:
            click.echo(
                f"{record.name}: {counted(len(lost), 'trial')} ran under no claim: lost, to be tried again"
            )
        if theirs := stored.names(view.engine).get(record.name):
            if lost:
                recovery.tell_lost(view.engine, storage, record, lost)
            renamed = f", under the name {theirs!r}" if theirs != record.name else ""
            named = shlex.quote(record.name)
            tell(f"{record.name}: Optuna has its part{renamed}; `search db check {named}` compares the two")
            return
        require_idle(view)
        optuna_study.quiet()
        rows = view.rows()
        bare = rebuild.rebuild(view.engine, storage, record, rows, view.epochs())
    without = f", {bare:,} of them without parameters" if bare else ""
    click.echo(f"{record.name}: Optuna has {counted(len(rows), 'trial')} again{without}")


@click.command()
@options.study
@options.storage
@options.data_dir
@options.elsewhere
def replay(study: str | None, storage: str, data_dir: Path, data: str | None) -> int:
    """Train the trial STUDY:137 (or the best) again from its stored seed, and compare."""
    from search.study import config as study_config, versions
    from search.worker import replay as worker_replay, training_function
    from space.architecture import Architecture

    with reader.open_study(storage, study) as view:
        candidate, config = view.candidate(), view.config
        stored = view.epochs().get(candidate.id, [])
    images = study_config.open_images(config.data, data_dir, data)
    if images.note:
        click.echo(images.note, err=True)
    _, train = training_function.make_training_function(config, images)
    recipe = config.recipe
    if candidate.batch_size not in (None, recipe.batch_size):
        recipe = recipe.halved()  # memory was short then
    network = Architecture.parse(candidate.architecture)
    curve = worker_replay.run(train, network, candidate.seed, len(stored), recipe)
    verdict = worker_replay.compare(
        [epoch.validation_accuracy for epoch in stored], curve, config.data.validation_images
    )
    here, there = versions.installed_versions(), candidate.versions or {}
    changed = [
        f"{name} {there[name]} then, {here.get(name)} now" for name in there if here.get(name) != there[name]
    ]
    click.echo(f"trial {candidate.number}: {verdict}")
    for line in changed:
        click.echo(line)
    return 0 if verdict.startswith(("same", "within")) else 1


@click.command()
@options.storage
@options.data_dir
@options.keep_weights
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--orphans", is_flag=True, help="Also what belongs to no study of this store, for a day.")
def gc(storage: str, data_dir: Path, keep_weights: int | None, dry_run: bool, orphans: bool) -> None:
    """Remove what nobody needs: checkpoints of trials that ended, weights that are not of the best."""
    from search.study import cleanup, files, places
    from search.study.text import counted
    from storage import studies

    with reader.open_store(storage) as engine:
        total = 0
        for record in studies.all_studies(engine):
            folder = files.study_folders(data_dir, storage, record).kept
            stale = cleanup.stale(engine, record, folder, files.kept_best(folder, keep_weights))
            size = cleanup.size_of(stale)
            total += size
            if stale:
                word = "would be removed" if dry_run else "removed"
                click.echo(f"{record.name}: {counted(len(stale), 'file')} {word}, {size / 1e6:.1f} MB")
            if not dry_run:
                cleanup.remove(stale)
        records = studies.all_studies(engine)
        known = {name for record in records for name in files.study_identities(data_dir, storage, record)}
    kept, noted = files.kept_folder(data_dir), places.noted(data_dir, records)
    foreign = cleanup.others(kept, known)
    copies = [folder for folder in foreign if folder.name in noted]
    others = [folder for folder in foreign if folder.name not in noted]
    going = [folder for folder in others if cleanup.is_quiet(folder, time.time())] if orphans else []
    if going:
        size = cleanup.size_of(going)
        total += size
        word = "would be removed" if dry_run else "removed"
        click.echo(f"orphans: {counted(len(going), 'folder')} {word}, {size / 1e6:.1f} MB")
        if not dry_run:
            cleanup.remove_folders(going)
            places.forget(data_dir, [folder.name for folder in going])
    if not total:
        click.echo("nothing to remove")
    if copies:
        click.echo(
            f"{counted(len(copies), 'folder')} of a store that was moved, or of a copy:"
            f" {cleanup.size_of(copies) / 1e6:.1f} MB in {kept}; gc leaves such alone",
            err=True,
        )
    if left := [folder for folder in others if folder not in going]:
        why = "written to today" if orphans else "--orphans removes those that nobody wrote to for a day"
        click.echo(
            f"{counted(len(left), 'folder')} of studies of other stores, or of deleted ones:"
            f" {cleanup.size_of(left) / 1e6:.1f} MB in {kept}; {why}",
            err=True,
        )
