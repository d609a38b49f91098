"""The commands that look after a store and its files: db check, replay, gc."""

from pathlib import Path

import click

from search import options, views


@click.group()
def db() -> None:
    """Look after the database."""


@db.command("check")
@options.study
@options.storage
def check(study: str | None, storage: str) -> int:
    """Check a study's books: every proposal in one state, the number exact, Optuna's trials the same."""
    from search import study as optuna_studies
    from storage import invariants

    with views.opened(storage, study, whole=True) as view:
        problems = invariants.check(view.engine, view.record.id)
        optuna_studies.quiet()
        with optuna_studies.opened(storage, view.record.name, view.plan) as opened:
            problems += optuna_studies.disagreements(opened, view.rows())
        trained, name = view.trained, view.record.name
    for problem in problems:
        click.echo(f"{name}: {problem}")
    if not problems:
        click.echo(f"{name}: the books agree, {trained} of {view.record.trials} trained")
    return 1 if problems else 0


@click.command()
@options.study
@options.storage
@options.data_dir
@click.option("--data", metavar="SPEC", help="Where the study's images lie on this machine, if elsewhere.")
def replay(study: str | None, storage: str, data_dir: Path, data: str | None) -> int:
    """Train the trial STUDY:137 (or the best) again from its stored seed, and compare."""
    from search import bench, plan, replaying
    from space.architecture import Architecture

    with views.opened(storage, study) as view:
        candidate, its_plan = view.candidate(), view.plan
        stored = view.epochs().get(candidate.id, [])
    images = plan.open_images(its_plan.data, data_dir, data)
    _, train = bench.trainer(its_plan, images)
    curve = replaying.run(train, Architecture.parse(candidate.architecture), candidate.seed, len(stored))
    verdict = replaying.compare(
        [epoch.validation_accuracy for epoch in stored], curve, its_plan.data.validation_images
    )
    here, there = bench.versions(), candidate.versions or {}
    changed = [
        f"{name} {there[name]} then, {here.get(name)} now" for name in there if here.get(name) != there[name]
    ]
    click.echo(f"trial {candidate.number}: {verdict}")
    for line in changed:
        click.echo(line)
    return 0 if verdict.startswith(("same", "within")) else 1
