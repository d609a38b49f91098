"""A study as one self-contained HTML page: the best network, how it was found, what became of the rest.

Reads rows of the ledger; returns text. Called by `search report` and at the end of a launch.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from search.report.parts import draw, html
from search.study import second_stage
from search.study.config import StudyConfig
from search.study.second_stage import Finalist, SecondStage
from search.study.short_form import LEGEND, summary
from search.study.standing import Baselines, Standing, describe, standing
from search.study.statistics import Spread, wilson
from search.study.text import counts, percent
from space import cost
from space.architecture import Architecture
from storage.row_types import TRAINED, Candidate, Epoch, State
from storage.studies import Study

CURVES = 12  # learning curves drawn, the best ones
LEADERS = 10
HEIGHT = 420  # of a figure, pixels
COLOURS = {State.COMPLETED: "#2563eb", State.PRUNED: "#9ca3af"}


def page(
    record: Study,
    config: StudyConfig,
    rows: Sequence[Candidate],
    epochs: Mapping[int, list[Epoch]],
    differing: int = 0,
    second: SecondStage | None = None,
) -> str:
    """The page as text. `differing`: trials of which Optuna holds a parameter that is not the network's;
    `second`: halving and finals, where the search has them."""
    tally = {state: sum(row.state == state for row in rows) for state in State}
    trained = [row for row in rows if row.state in TRAINED and row.accuracy is not None]
    leaders = sorted(
        (row for row in trained if row.state == State.COMPLETED),
        key=lambda row: (-(row.accuracy or 0), row.parameters),
    )
    found = standing(rows, config.data.validation_images)
    parts = [
        f"<h1>{escape(record.name)}</h1>",
        f"<p class=note>{record.created_at:%Y-%m-%d %H:%M} UTC · {escape(config.data.name)},"
        f" {config.data.train_images:,} training and {config.data.validation_images:,} validation images ·"
        f" {config.recipe.epochs} epochs · {escape(config.sampler)} sampler, {escape(config.pruner)} pruner,"
        f" seed {config.seed} · budget {escape(str(config.budget))}</p>",
    ]
    if leaders:
        confirmed = next(iter(second.finalists), None) if second else None
        best = confirmed.candidate if confirmed else leaders[0]
        parts += [
            _winner(best, config, len(trained), confirmed),
            *_second_stage(second),
            *_against_baselines(found, rows, config),
            "<h2>The search</h2>",
            draw(_history(trained, found.standing), HEIGHT),
        ]
        parts += ["<h2>Accuracy against size</h2>", draw(_against(trained, config), HEIGHT)]
        parts += ["<h2>Learning curves of the best</h2>", draw(_curves(leaders[:CURVES], epochs), HEIGHT)]
        parts += [f"<h2>The best {min(LEADERS, len(leaders))}</h2>", _networks(leaders[:LEADERS], config)]
        parts.append(f"<p class=note>{escape(LEGEND)}</p>")
        parts += ["<h2>The best network, layer by layer</h2>", _layers(best)]
    else:
        parts.append("<p>No network was trained to the end yet.</p>")
    parts += ["<h2>Where every proposal went</h2>", f"<p>{escape(counts(tally))}</p>"]
    if differing:
        parts.append(
            f"<p class=note>Of {differing} of {len(rows)} proposals Optuna holds a parameter that says"
            " something else than the network is; their user attribute <code>differs</code> names it.</p>"
        )
    return html(escape(record.name), parts)


def _winner(best: Candidate, config: StudyConfig, trained: int, confirmed: Finalist | None) -> str:
    images, accuracy = config.data.validation_images, best.accuracy or 0.0
    brief = "brief " if confirmed else ""
    figures = {
        percent(accuracy): f"{brief}validation accuracy, 95% interval {wilson(accuracy, images)}",
        f"{best.parameters:,}": f"parameters of {config.budget.max_parameters:,}",
        f"{best.macs:,}": "multiply-accumulates an image",
        f"trial {best.number}": f"best of {trained} trained",
    }
    boxes = "".join(f"<div class=figure><b>{k}</b>{escape(v)}</div>" for k, v in figures.items())
    network = escape(summary(Architecture.parse(best.architecture)))
    shown = f"<div class=figures>{boxes}</div><p>{network}</p>"
    if confirmed:
        return f"{shown}<p class=note>The winner of the finals below, confirmed by full trainings.</p>"
    return (
        f"{shown}<p class=note>The interval holds the luck of these"
        f" {images:,} validation images only. The network was chosen among {trained} by this same score after"
        " a brief training, so expect somewhat less on new images; the test images were not read.</p>"
    )


def _second_stage(second: SecondStage | None) -> list[str]:
    """The finals in a table, or how far they are; nothing for a search that ends with its trials."""
    if second is None:
        return []
    said = [f"<p>{escape(line[0].upper() + line[1:])}.</p>" for line in second_stage.lines(second)]
    finalists = second.finalists if second.is_over else []
    if not finalists:
        return ["<h2>Halving and finals</h2>", *said]
    lines = [
        f"<tr><td>{one.candidate.number}<td>{percent(one.validation.mean)}<td>{_interval(one.validation)}"
        f"<td>{percent(one.test.mean) if one.test else '-'}<td>{_interval(one.test)}"
        f"<td>{one.seeds} of {one.of}<td>{percent(one.candidate.accuracy)}<td>{one.candidate.parameters:,}"
        f"<td class=text>{escape(_named(one.candidate))}"
        for one in finalists
    ]
    head = (
        "<tr><th>trial<th>validation<th>95% of the mean<th>test<th>95% of the mean<th>seeds<th>brief score"
        "<th>parameters<th class=text>network"
    )
    table = f"<div class=wide><table>{head}{''.join(lines)}</table></div>"
    return ["<h2>Halving and finals</h2>", *said[:1], table, *said[1:]]


def _interval(found: Spread | None) -> str:
    return str(found.interval) if found and found.interval else "-"


def _against_baselines(found: Baselines, rows: Sequence[Candidate], config: StudyConfig) -> list[str]:
    """The line, and the baselines in a table; nothing for a study without any."""
    line = describe(found)
    if line is None:
        return []
    guesses = sorted(
        (row for row in rows if row.baseline and row.state != State.REPEATED),
        key=lambda row: -(row.accuracy or 0),
    )
    return [
        "<h2>Against a first guess</h2>",
        f"<p>{escape(line[0].upper() + line[1:])}.</p>",
        _networks(guesses, config),
        "<p class=note>Baselines are plain networks that a person would try first, as wide as the budget lets"
        " them be; no pruner stops them. Both scores are of the same validation images; the interval takes"
        " them for independent (Newcombe 1998), which is on the safe side.</p>",
    ]


def _hover(rows: Iterable[Candidate]) -> list[str]:
    return [
        f"trial {row.number}, {row.state.value}<br>{percent(row.accuracy)} after {row.epochs} epochs<br>"
        f"{row.parameters:,} parameters, {row.macs:,} MACs<br>{_named(row)}"
        for row in rows
    ]


def _points(rows: Sequence[Candidate], x: Sequence[int], state: State) -> go.Scatter:
    chosen = [(row, at) for row, at in zip(rows, x, strict=True) if row.state == state]
    return go.Scatter(
        x=[at for _, at in chosen],
        y=[100 * (row.accuracy or 0) for row, _ in chosen],
        mode="markers",
        name="trained to the end" if state == State.COMPLETED else "pruned (accuracy when stopped)",
        marker={"color": COLOURS[state], "size": 7, "opacity": 0.75},
        text=_hover(row for row, _ in chosen),
        hoverinfo="text",
    )


def _history(trained: Sequence[Candidate], against: Standing | None) -> go.Figure:
    figure = go.Figure([_points(trained, [row.number for row in trained], state) for state in COLOURS])
    best, line = 0.0, list[float]()
    for row in trained:
        best = max(best, row.accuracy or 0) if row.state == State.COMPLETED else best
        line.append(best)
    figure.add_scatter(
        x=[row.number for row in trained],
        y=[100 * value if value else None for value in line],
        mode="lines",
        line={"color": "#dc2626", "shape": "hv"},
        name="best so far",
    )
    if against:
        best = against.baseline.accuracy or 0
        figure.add_hline(
            y=100 * best, line={"color": "#059669", "dash": "dash"},
            annotation_text=f"best baseline, {against.baseline.baseline}", annotation_position="bottom right",
        )  # fmt: skip
    return figure.update_xaxes(title="trial").update_yaxes(title="validation accuracy, %")


def _against(trained: Sequence[Candidate], config: StudyConfig) -> go.Figure:
    figure = go.Figure([_points(trained, [row.parameters for row in trained], state) for state in COLOURS])
    figure.add_vline(x=config.budget.max_parameters, line={"color": "#dc2626", "dash": "dash"})
    figure.update_xaxes(title="parameters (dashed: the budget)", type="log")
    return figure.update_yaxes(title="validation accuracy, %")


def _curves(leaders: Sequence[Candidate], epochs: Mapping[int, list[Epoch]]) -> go.Figure:
    figure = go.Figure()
    for row in leaders:
        curve = epochs.get(row.id, [])
        figure.add_scatter(
            x=[epoch.epoch for epoch in curve],
            y=[100 * epoch.validation_accuracy for epoch in curve],
            mode="lines+markers",
            name=f"trial {row.number}",
        )
    return figure.update_xaxes(title="epoch", dtick=1).update_yaxes(title="validation accuracy, %")


def _networks(rows: Sequence[Candidate], config: StudyConfig) -> str:
    lines = [
        f"<tr><td>{row.number}<td>{percent(row.accuracy)}"
        f"<td>{'-' if row.accuracy is None else wilson(row.accuracy, config.data.validation_images)}"
        f"<td>{row.parameters:,}<td>{row.macs:,}<td class=text>{escape(_named(row))}"
        for row in rows
    ]
    head = "<tr><th>trial<th>accuracy<th>95% interval<th>parameters<th>MACs<th class=text>network"
    return f"<div class=wide><table>{head}{''.join(lines)}</table></div>"


def _named(row: Candidate) -> str:
    """The network in one line, between the name of a baseline and what kept it from its end."""
    name = f"{row.baseline}: " if row.baseline else ""
    ended = "" if row.state in TRAINED else f" ({row.state.value.replace('_', ' ')})"
    return f"{name}{summary(Architecture.parse(row.architecture))}{ended}"


def _layers(best: Candidate) -> str:
    lines = [
        f"<tr><td>{escape(row.name)}<td class=text>{escape(row.kind)}<td>{row.channels}×{row.size}×{row.size}"
        f"<td>{row.parameters:,}<td>{row.macs:,}"
        for row in cost.layers(Architecture.parse(best.architecture))
    ]
    head = "<tr><th>layer<th class=text>kind<th>output<th>parameters<th>MACs"
    table = f"<div class=wide><table>{head}{''.join(lines)}</table></div>"
    return f"<details><summary>{len(lines)} layers</summary>{table}</details>"
