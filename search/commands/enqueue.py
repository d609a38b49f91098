"""The command `search enqueue`: a known network for a search that was launched, which proposes it next.

Reads the network and the study; writes a waiting trial into Optuna's study, by search/launcher/enqueue.py.
search/cli.py adds it.
"""

import shlex

import click

from search.commands import options
from search.commands.help import study_names
from search.commands.output import tell
from search.study import reader
from search.study.network_reference import METAVAR


@click.command()
@click.argument("study", metavar="STUDY", shell_complete=study_names)
@click.argument("network", metavar=METAVAR)
@options.storage
def enqueue(study: str, network: str, storage: str) -> None:
    """Have a study propose a known network next, also while it runs."""
    from search.launcher import enqueue as queue
    from search.optuna_adapter import study as optuna_study
    from storage.row_types import DEDUPLICATED

    optuna_study.quiet()
    with reader.open_study(storage, study, whole=True) as view:
        name, config = view.record.name, view.config
        for starter in queue.starters([network], config, storage, flag=""):
            if queue.enqueue(view.engine, storage, view.record, config, [starter]):
                tell(f"{starter.name} is proposed next in {name}{_rest(view)}")
                continue
            twins = [row for row in view.rows() if row.fingerprint == starter.fingerprint]
            row = next((row for row in twins if row.state in DEDUPLICATED), twins[0] if twins else None)
            known = f"trial {row.number} of it, {row.state.value}" if row else "waiting in it"
            click.echo(f"{starter.name} is no news to {name}: {known}")


def _rest(view: reader.StudyView) -> str:
    """What is to be done for a network to be trained in a study that begins no more trials."""
    from search.launcher import prepare
    from storage import leases

    record, trained = view.record, view.trained
    running = leases.running(view.engine, record.id)
    begun = sum(one.number is not None and one.epochs is None for one in running)
    if trained + begun < record.trials:
        return ""
    has = f"which has its {record.trials}"
    if trained < record.trials:
        has = f"whose last of {record.trials} trials are under way"
    trials, is_later = prepare.one_more(record, view.second_stage())
    more = f"`search launch {shlex.quote(record.name)} --trials {trials}` trains it"
    return f", {has}: {more}{' once its second stage is over' if is_later else ''}"
