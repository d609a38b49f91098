"""The command compare: two or more studies, of one store or of several, beside each other.

Reads the ledger of each; prints tables and lines, or rows for programs, and writes an HTML page if asked.
search/cli.py adds it. What is compared is computed in search/comparison/studies.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import fields, options, output
from search.commands.help import study_names
from search.study import reader
from space.errors import UsageError

if TYPE_CHECKING:
    from search.comparison.studies import ComparedStudy, Comparison, FinalLead, Pair
    from search.study.statistics import Difference, Interval
    from storage.row_types import Candidate

MOST = 8  # studies: more lines than can be told apart
PAIRS_SHOWN = 3  # in lines; of more studies, only those with the first
SETTINGS_SHOWN = 15  # in a table; a page and JSON have all


@click.command()
@click.argument("names", nargs=-1, metavar="STUDY STUDY...", shell_complete=study_names)
@options.storages
@options.format_
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page with curves and all differences too: compare.html.",
)
def compare(names: tuple[str, ...], storages: tuple[str, ...], form: str, out: Path | None) -> None:
    """Compare two studies or more: the best at equal cost, with intervals, and what differs."""
    from search.comparison import studies as comparison
    from search.formats import endings
    from space.files import write_whole

    _require_names(names)
    if out:
        endings.require_page("--out", out)
    found = comparison.compare(_studies(names, _stores(names, storages)))
    if out:
        from search.report import compare as compare_page

        write_whole(compare_page.page(found), out)
        click.echo(f"wrote {out}", err=True)
    if form == "table":
        _show(found)
    else:
        output.emit(rows(found), form, fields.COMPARE)


def _require_names(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise UsageError("name two studies or more to compare; `search list` names those there are")
    if len(names) > MOST:
        raise UsageError(f"{len(names)} studies: compare {MOST} at most")


def _stores(names: Sequence[str], storages: Sequence[str]) -> Sequence[str]:
    """The store of each study."""
    if len(storages) == 1:
        return [storages[0]] * len(names)
    if len(storages) != len(names):
        raise UsageError(
            f"{len(storages)} stores for {len(names)} studies: give --storage once, or once for each study"
        )
    return storages


def _studies(names: Sequence[str], stores: Sequence[str]) -> "list[ComparedStudy]":
    """Each study as it is stored. Raises UsageError where two of them are one."""
    from search.comparison.studies import ComparedStudy, labels

    found, known = list["ComparedStudy"](), dict[tuple[str, object], str]()
    with ExitStack() as opened:
        for label, name, url in zip(labels(len(names)), names, stores, strict=True):
            view = opened.enter_context(reader.open_study(url, name, whole=True))
            identity = (view.record.name, view.record.created_at)
            if identity in known:
                raise UsageError(f"{known[identity]} and {label} are one study, {name!r}: name two")
            known[identity] = label
            study = ComparedStudy.from_rows(label, view.record, view.config, view.rows(), view.second_stage())
            found.append(study)
    return found


def rows(found: "Comparison") -> list[dict[str, Any]]:
    """A row for each study, under the keys of fields.COMPARE."""
    return [_row(found, study) for study in found.studies]


def _row(found: "Comparison", study: "ComparedStudy") -> dict[str, Any]:
    from search.comparison.studies import Axis

    total, place = study.total, found.studies.index(study)
    equal = {
        f"at_equal_{axis}": {
            "limit": found.limits[axis] if axis == Axis.SECONDS else int(found.limits[axis]),
            "best": _best(study, found.best(study, axis)),
        }
        for axis in Axis
    }
    return {
        "label": study.label,
        "study": study.name,
        "data": study.config.data.name,
        "validation_images": study.images,
        "trials": total.trials,
        "completed": len(study.completed),
        "networks": len(study.trained),
        "images": total.images,
        "device_seconds": total.seconds,
        "best": _best(study, total.best),
        **equal,
        "curve": [
            {
                "trials": step.trials,
                "images": step.images,
                "device_seconds": step.seconds,
                "trial": step.best.number,
                "accuracy": step.best.accuracy,
                "score": step.best.score,
            }
            for step in study.curve
            if step.best
        ],
        "winner": _winner(study),
        "against": [_against(pair) for pair in found.pairs if pair.one is study],
        "settings": {row.name: row.values[place] for row in found.differing},
    }


def _best(study: "ComparedStudy", best: "Candidate | None") -> dict[str, Any] | None:
    from search.commands.status import leader

    return leader(best, study.images) if best else None


def _ends(interval: "Interval | None", prefix: str = "") -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _winner(study: "ComparedStudy") -> dict[str, Any] | None:
    winner = study.winner
    if winner is None:
        return None
    return {
        "trial": winner.candidate.number,
        "seeds": winner.seeds,
        "tested_seeds": winner.tested_seeds,
        "epochs": study.settings["finals.recipe.epochs"],
        "accuracy": winner.validation.mean,
        **_ends(winner.validation.interval),
        "test_accuracy": winner.test.mean if winner.test else None,
        **_ends(winner.test.interval if winner.test else None, "test_"),
        "parameters": winner.candidate.parameters,
        "macs": winner.candidate.macs,
    }


def _against(pair: "Pair") -> dict[str, Any]:
    from search.comparison.studies import Axis

    shared = pair.shared
    return {
        "label": pair.other.label,
        "study": pair.other.name,
        "comparable": not pair.reasons,
        "reasons": list(pair.reasons),
        **{f"at_equal_{axis}": _difference(pair.leads.get(axis)) for axis in Axis},
        "final": _final(pair.finals),
        "final_test": _final(pair.tests),
        "shared": shared.trained,
        "shared_completed": len(shared.scores),
        "shared_difference": _difference(shared.difference, with_verdict=False),
        "tau": {"tau": shared.correlation.tau, **_ends(shared.correlation.interval)}
        if shared.correlation
        else None,
    }


def _difference(found: "Difference | None", with_verdict: bool = True) -> dict[str, Any] | None:
    from search.comparison.text import verdict

    if found is None:
        return None
    said = {"verdict": verdict(found)} if with_verdict else {}
    return {"points": found.points, "low": found.low, "high": found.high} | said


def _final(found: "FinalLead | None") -> dict[str, Any] | None:
    if found is None:
        return None
    interval = _difference(found.interval)
    reasons = {"reasons": list(found.reasons)}
    return (interval or {"points": found.points, "low": None, "high": None, "verdict": "not clear"}) | reasons


def _show(found: "Comparison") -> None:
    """Tables and lines for people."""
    from search.commands import table
    from search.comparison import text as words

    table.say(words.about(study) for study in found.studies)
    table.say([f"warning: {line}" for line in words.warnings(found)])
    table.show(output.plain(list(_bests(found))), "best by brief score", drop=("trial",))
    finals = [_final_row(study) for study in found.studies if study.winner]
    if finals:
        table.show(
            output.plain(finals),
            "winners of the finals, means over seeds",
            cut=("study",),
            drop=("parameters",),
        )
    for pair in _pairs_shown(found):
        table.say([f"{pair.one.label} and {pair.other.label}"])
        table.say(f"  {line}" for line in words.standing(found, pair))
    if len(found.pairs) > PAIRS_SHOWN:
        table.say([f"{len(found.pairs)} pairs: the others are in --out and in --format json"])
    _show_settings(found)
    table.say(words.notes(found))


def _pairs_shown(found: "Comparison") -> "Sequence[Pair]":
    if len(found.pairs) <= PAIRS_SHOWN:
        return found.pairs
    return [pair for pair in found.pairs if pair.one is found.studies[0]]


def _bests(found: "Comparison") -> Iterator[Mapping[str, Any]]:
    from search.comparison import text as words
    from search.comparison.studies import Axis

    for axis in Axis:
        for i, study in enumerate(found.studies):
            amount = words.amount(axis, found.limits[axis])
            yield _best_row(amount if i == 0 else "", study, found.best(study, axis))
    for i, study in enumerate(found.studies):
        yield _best_row("all there is" if i == 0 else "", study, study.total.best)


def _best_row(at: str, study: "ComparedStudy", best: "Candidate | None") -> Mapping[str, Any]:
    from search.study.statistics import wilson

    return {
        "at_equal": at,
        "study": study.label,
        "accuracy": best.accuracy if best else None,
        "95%": str(wilson(best.accuracy or 0.0, study.images)) if best else None,
        "trial": best.number if best else None,
        "parameters": best.parameters if best else None,
        "macs": best.macs if best else None,
    }


def _final_row(study: "ComparedStudy") -> dict[str, Any]:
    from search.study.text import interval_cell

    winner = study.winner
    assert winner is not None, study.name
    validation, test = winner.validation, winner.test
    return {
        "study": study.label,
        "trial": winner.candidate.number,
        "seeds": f"{winner.seeds}{winner.tested_of_them}" if winner.tested_of_them else winner.seeds,
        "accuracy": validation.mean,
        "95%": interval_cell(validation),
        "test_accuracy": test.mean if test else None,
        "test 95%": interval_cell(test),
        "parameters": winner.candidate.parameters,
    }


def _show_settings(found: "Comparison") -> None:
    """The settings that differ, the first of them, in a table."""
    from search.commands import table
    from search.comparison.comparability import shown

    if not found.differing:
        table.say(["settings, data, versions and devices are the same"])
        return
    named = [study.label for study in found.studies]
    lines = [
        {"differs": row.name, **dict(zip(named, map(shown, row.values), strict=True))}
        for row in found.differing[:SETTINGS_SHOWN]
    ]
    table.show(lines, cut=("differs", *named))
    if (more := len(found.differing) - SETTINGS_SHOWN) > 0:
        table.say([f"and {more} more settings: in --out and in --format json"])
