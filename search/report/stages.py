"""Brief scores against full ones: the rungs of the second stage, its finals, and full trainings beside it.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.report.data import ReportData, axis_range
from search.report.parts import AMBER, BLUE, GREEN, GREY, RED, VIOLET, panel, paragraph, section, table
from search.report.winner import named
from search.study import full_training, second_stage
from search.study.halving import ReachedRung
from search.study.score import WORDS
from search.study.second_stage import SecondStage
from search.study.statistics import Spread, correlation, spread
from search.study.text import IN_ITS_PLACE, counted, interval_cell, percent
from storage.row_types import OF_FINALS, Candidate, Stage
from storage.trainings import Finished, by_length

COLOURS = (RED, GREEN, AMBER, VIOLET, BLUE)
HEIGHT = 440


@dataclass(frozen=True)
class Column:
    """A length of training: accuracies by trial, 0..1, means over the seeds where there are several."""

    name: str
    accuracies: Mapping[int, float]


def stages(data: ReportData) -> str:
    """The section; nothing for a search without a second stage and without full trainings."""
    said = [*_halving(data), *_confirmed(data)]
    return section("stages", "Brief scores against full ones", said) if said else ""


def _halving(data: ReportData) -> list[str]:
    if data.second is None:
        return []
    lines = [paragraph(line) for line in second_stage.lines(data.second)]
    reached = [rung for rung in data.second.rungs if rung.scores]
    columns = [
        Column(_epochs(data.config.recipe.epochs), _brief(data, {n for r in reached for n in r.scores}))
    ]
    columns += [Column(_length(rung, data.second), rung.accuracies) for rung in reached]
    reading = (
        "Each line is a network, from its brief score through longer and longer trainings; those in colour"
        " came to the last one, grey ones were dropped where they end. Lines that cross changed places."
    )
    drawn = [panel("Halving and finals", reading, _slopes(columns, data), HEIGHT)] if reached else []
    heading = [] if drawn else ["<h3>Halving and finals</h3>"]
    finals = [_finals(data.second)] if data.second.is_over and data.second.finalists else []
    return [*heading, *drawn, *lines[:1], *finals, *lines[1:]]


def _length(rung: ReachedRung, second: SecondStage) -> str:
    """Of its trainings, and of finals of two turns, which are as long, the seeds."""
    seeds = "first seed" if rung.is_first_turn else counted(len(rung.seeds), "seed")
    in_turns = rung.stage == Stage.FINALS and second.plan.finals.contenders
    return _epochs(rung.epochs) + (f", {seeds}" if in_turns else "")


def _epochs(number: int) -> str:
    return counted(number, "epoch")


def _brief(data: ReportData, numbers: set[int]) -> dict[int, float]:
    return {row.number: row.accuracy or 0.0 for row in data.completed if row.number in numbers}


def _slopes(columns: Sequence[Column], data: ReportData) -> go.Figure:
    """Columns may share a name (a final as long as a rung): they are told apart by their place."""
    last = columns[-1].accuracies
    order = sorted(columns[0].accuracies, key=lambda number: (number in last, last.get(number, 0.0)))
    winners = [number for number in reversed(order) if number in last]
    baselines = {row.number for row in data.completed if row.baseline}
    figure = go.Figure()
    for number in order:
        at = [
            (i, column.accuracies[number]) for i, column in enumerate(columns) if number in column.accuracies
        ]
        is_last = number in last
        colour = COLOURS[winners.index(number) % len(COLOURS)] if is_last else GREY
        figure.add_scatter(
            x=[i for i, _ in at], y=[round(100 * value, 2) for _, value in at], customdata=[number] * len(at),
            mode="lines+markers", line={"color": colour, "width": 2.5 if is_last else 1.2},
            marker={"size": 7 if is_last else 5}, opacity=1 if is_last else 0.7,
            name=f"trial {number}{' (baseline)' * (number in baselines)}", showlegend=is_last,
            hovertemplate="trial %{customdata}: %{y:.2f}%<extra></extra>",
        )  # fmt: skip
    names = [f"{column.name}<br>{counted(len(column.accuracies), 'network')}" for column in columns]
    figure.update_xaxes(
        tickvals=list(range(len(columns))), ticktext=names, range=[-0.25, len(columns) - 0.75], title=""
    )
    values = [value for column in columns for value in column.accuracies.values()]
    return figure.update_yaxes(title="validation accuracy, %", range=axis_range(values))


def _finals(second: SecondStage) -> str:
    scored = second.score != "accuracy"  # then the order follows another figure than accuracy
    head = (
        "trial", *([WORDS[second.score]] if scored else []), "validation", "95% of the mean", "test",
        "95% of the mean ", "seeds", "brief accuracy", "parameters", "network",
    )  # fmt: skip
    lines = [
        (
            one.candidate.number,
            *([percent(one.score.mean) if one.score else "-"] if scored else []),
            percent(one.validation.mean),
            interval_cell(one.validation),
            percent(one.test.mean) if one.test else "-",
            interval_cell(one.test),
            one.seeds_cell,
            percent(one.candidate.accuracy),
            f"{one.candidate.parameters:,}",
            named(one.candidate),
        )
        for one in second.finalists
    ]
    return table(head, lines, text=("network",)) + _of_two(one.has_two_values for one in second.finalists)


def _of_two(have: Iterable[bool]) -> str:
    """Why some have both values where others have an interval; nothing where none has."""
    return paragraph(IN_ITS_PLACE, note=True) if any(have) else ""


def _confirmed(data: ReportData) -> list[str]:
    """Full trainings that were asked for by hand, `search train` and `search confirm`, and validated on the
    images that the brief ones were."""
    rows = {row.number: row for row in data.completed}
    asked = [
        one
        for one in data.full
        if one.trial in rows
        and not one.run.startswith(OF_FINALS)
        and full_training.validated_alike(one.data, data.config.data)
    ]
    runs = {n: full_training.of_network(asked, row, data.record, data.config) for n, row in rows.items()}
    most = max((_most(run) for run in runs.values() if run), key=_extent, default=None)
    if most is None:
        return []
    alike = {n: [one for one in run if _extent(one) == _extent(most)] for n, run in runs.items()}
    full = {n: spread(_by_seed(run)) for n, run in alike.items() if run}
    columns = [
        Column(_epochs(data.config.recipe.epochs), _brief(data, set(full))),
        Column(_epochs(most.epochs), {number: found.mean for number, found in full.items()}),
    ]
    reading = (
        "Each line is a network that was trained to the end, from its brief score to the mean of its seeds;"
        " lines that cross changed places."
    )
    said = [panel("Full trainings", reading, _slopes(columns, data), HEIGHT)]
    said.append(_full_table(full, rows))
    order = sorted(full)
    agreed = correlation([rows[n].accuracy or 0.0 for n in order], [full[n].mean for n in order])
    if agreed:
        said.append(
            paragraph(
                f"Kendall's tau-b of brief and full scores of {agreed.networks} networks: {agreed.tau:.2f},"
                f" 95% interval {agreed.interval.low:.2f} to {agreed.interval.high:.2f} (1: the same order)"
            )
        )
    return said


def _most(trainings: Sequence[Finished]) -> Finished:
    """The newest of the run that saw most images, as export.confirmation() chooses it: not one on a part of
    them, nor one of a single seed after several."""
    return by_length(trainings)[0][-1]


def _extent(one: Finished) -> tuple[int, int]:
    """Images of an epoch, and epochs: trainings that differ in either share no mean and no column. Of two
    networks one that was trained for very long on a part of the images does not hide the other."""
    return one.seen_images // one.epochs, one.epochs


def _by_seed(trainings: Sequence[Finished]) -> list[float]:
    """The accuracy of each seed, the newest where it was trained again, by the recipe of the run of most
    seeds, of equals the newest; all of one extent. The same seed twice says nothing of how much seeds
    matter."""
    recipe = _most(trainings).recipe
    alike = [one for one in trainings if one.recipe == recipe]
    return list({one.seed: one.accuracy for one in alike}.values())


def _full_table(full: Mapping[int, Spread], rows: Mapping[int, Candidate]) -> str:
    order = sorted(full, key=lambda number: -full[number].mean)
    lines = [
        (
            n,
            percent(full[n].mean),
            interval_cell(full[n]),
            len(full[n].values),
            percent(rows[n].accuracy),
            named(rows[n]),
        )
        for n in order
    ]
    head = ("trial", "validation", "95% of the mean", "seeds", "brief accuracy", "network")
    return table(head, lines, text=("network",)) + _of_two(len(found.values) == 2 for found in full.values())
