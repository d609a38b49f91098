"""How commands present themselves: options in groups, two examples in each, study names that complete.

Reads the store, for names alone and only where a shell asks; writes nothing. search/cli.py gives the examples
to the commands that it gathers.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from search import settings
from space.errors import ParsimonyError

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "data": ("search data folder:pictures", "search data fashion-mnist --out data.html"),
    "launch": ("search launch --trials 200 --max-params 1M",
               "search launch monday --like night --max-params 500k"),
    "status": ("search status night --watch", "search status night --format json"),
    "wait": ("search wait night", "search wait night --idle 1h"),
    "list": ("search list", "search list --columns study,state,best_accuracy"),
    "trials": ("search trials --sort accuracy --limit 20", "search trials night --state failed --format csv"),
    "best": ("search best --top 5", "search best night --format json"),
    "ps": ("search ps", "search ps night --format json"),
    "logs": ("search logs night --follow", "search logs night:137"),
    "pause": ("search pause", "search pause night"),
    "resume": ("search resume night", "search resume night --workers 2"),
    "stop": ("search stop night", "search stop night --now"),
    "worker": ("search worker night --workers 4 --storage postgresql://me@db/search",
               "search worker --follow --storage postgresql://me@db/search"),
    "enqueue": ("search enqueue night mine.json", "search enqueue night monday:12"),
    "show": ("search show night:137", "search show published:001-final"),
    "explain": ("search explain best.json --max-params 4M", "search explain night:137 --format json"),
    "export": ("search export night --out best.json", "search export night:137 --format onnx"),
    "verify": ("search verify best.json", "search verify best.onnx"),
    "report": ("search report night --out night.html", "search report night --serve --host 0.0.0.0"),
    "compare": ("search compare night monday --out compare.html",
                "search compare night night --storage sqlite:///mine.db --storage postgresql://me@db/search"),
    "dashboard": ("search dashboard night --open", "search dashboard --port 8081"),
    "train": ("search train night:137 --seeds 3", "search train best.json --out final --resume"),
    "confirm": ("search confirm night", "search confirm night --top 3 --seeds 5 --epochs 100"),
    "trainings": ("search trainings", "search trainings night --format csv"),
    "predict": ("search predict seed-0.safetensors cat.png",
                "search predict seed-0.safetensors cat.png dog.png --top 3"),
    "published": ("search published", "search published --notes"),
    "recipe check": ("search recipe check recipe.toml --data digits",
                     "search recipe check published:001-final"),
    "recipe schema": ("search recipe schema", "search recipe schema > recipe.schema.json"),
    "space show": ("search space show", "search space show my.toml --format json"),
    "space check": ("search space check my.toml --max-params 2M",
                    "search space check --data digits --no-minutes"),
    "space sample": ("search space sample -n 20", "search space sample my.toml --out networks"),
    "space schema": ("search space schema", "search space schema > space.schema.json"),
    "rename": ("search rename night monday", "search rename search-20261125-232929 night"),
    "delete": ("search delete night", "search delete night --yes"),
    "replay": ("search replay night", "search replay night:137"),
    "gc": ("search gc --dry-run", "search gc --orphans"),
    "db check": ("search db check", "search db check night"),
    "db repair": ("search db repair night", "search db repair night --storage sqlite:///team.db"),
    "completion": ('eval "$(search completion bash)"',
                   "search completion fish > ~/.config/fish/completions/search.fish"),
}  # fmt: skip


class Grouped(click.Command):
    """A command whose help has its options in groups, by their names; what is in none comes last."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for each group."""
        records = {
            param.name or "": record
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None
        }
        for title, names in self.groups.items():
            found = [records.pop(name) for name in names if name in records]
            with formatter.section(title):
                formatter.write_dl(found)
        if records:
            with formatter.section("Other options"):
                formatter.write_dl(list(records.values()))


def with_examples(command: click.Command, path: str) -> None:
    """Ends the help of a command, and of those below it, with its examples."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            with_examples(below, f"{path} {name}")
    elif path in EXAMPLES:
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[path])


def study_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The studies of the store, or of all stores, that begin so, for a shell; none where there is none."""
    from search.study.reader import open_store
    from storage import studies

    stores: Any = ctx.params.get("storages") or [ctx.params.get("storage")]
    names = list[str]()
    for storage in stores:
        with (
            suppress(ParsimonyError),
            open_store(str(storage or settings.storage())) as engine,
        ):  # a shell has no place for complaints
            names += [record.name for record in reversed(studies.all_studies(engine))]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options and study names."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(ctx.find_root().command, {}, "search", "_SEARCH_COMPLETE").source())
