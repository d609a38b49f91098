"""Two or more searches beside each other as one self-contained HTML page: who is ahead at equal cost, the
best-so-far curves, the networks that both have trained, the settings that differ.

Reads a Comparison; returns text. Called by search/commands/compare.py.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape

import plotly.graph_objects as go

from search.comparison import comparability, text as words
from search.comparison.studies import Axis, ComparedStudy, Comparison, Pair, Step
from search.report.parts import draw, html, panel, switch
from search.study.short_form import LEGEND, summary
from search.study.statistics import Interval, wilson
from search.study.text import IN_ITS_PLACE, counted, interval_cell, percent
from space.architecture import Architecture
from storage.row_types import Candidate

HEIGHT = 440  # of a figure, pixels
# Seen on white and on black alike.
COLOURS = ("#3b82f6", "#ef4444", "#10b981", "#f59e0b", "#a78bfa", "#06b6d4", "#ec4899", "#84cc16")
GREY = "#9ca3af"
LONGEST = 24  # characters of a name in a legend
POINTS = 3_000  # networks drawn that two studies share, of all pairs
UNITS = ((7_200.0, 3_600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))  # of device time

STYLE = """<style>
.warning { border-left: .3rem solid #f59e0b; padding: .1rem .8rem; margin: .8rem 0 }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .4rem }
h1, td.any, .figure { overflow-wrap: anywhere } .figures > .figure { flex: 0 1 22rem }
.wide td.any.text { white-space: normal; min-width: 8rem }
ul.plain { padding-left: 1.2rem; margin: .5rem 0 } ul.plain li { margin: .2rem 0 }
</style>"""


def page(found: Comparison) -> str:
    """The page as text."""
    names = [escape(study.name) for study in found.studies]
    title = f"{', '.join(names[:-1])} and {names[-1]}"
    parts = [
        STYLE,
        f"<h1>{title}</h1>",
        *(f"<p class=warning>{escape(_sentence(line))}</p>" for line in words.warnings(found)),
        _figures(found),
        _verdicts(found),
        "<h2>The searches</h2>",
        _studies(found),
        "<h2>The best at equal cost</h2>",
        _bests(found),
        _networks(found),
        *_curves_part(found),
        *_finals(found),
        "<h2>Networks that more than one has trained</h2>",
        *_shared(found),
        "<h2>What differs</h2>",
        _settings(found),
        "<h2>How to read this</h2>",
        *(f"<p class=note>{escape(line)}</p>" for line in words.notes(found)),
    ]
    return html(title, parts)


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def _figures(found: Comparison) -> str:
    """A box for each study: the winner of its finals, where any of them has one, and below it the best brief
    score at as many trials. Figures of two kinds stand in two rows, as beside each other they would be
    read as a difference."""
    rows = (
        [_brief_figure]
        if not any(study.winner for study in found.studies)
        else [_final_figure, _brief_figure]
    )
    return "".join(
        "<div class=figures>"
        + "".join(_box(i, study, *figure(found, study)) for i, study in enumerate(found.studies))
        + "</div>"
        for figure in rows
    )


def _box(place: int, study: ComparedStudy, figure: str, detail: str) -> str:
    name = f"{_key(place)}{study.label} {escape(study.name)}"
    return f"<div class=figure>{name}<b>{figure}</b><span class=note>{detail}</span></div>"


def _brief_figure(found: Comparison, study: ComparedStudy) -> tuple[str, str]:
    """The best at as many trials: its accuracy, and what that is."""
    at = words.amount(Axis.TRIALS, found.limits[Axis.TRIALS])
    best = found.best(study, Axis.TRIALS)
    if best is None:
        return "-", f"best of {at}: no network trained to the end"
    interval = wilson(best.accuracy or 0.0, study.images)
    return percent(best.accuracy), f"best brief score of {at}, 95% {interval}, {best.parameters:,} parameters"


def _final_figure(_: Comparison, study: ComparedStudy) -> tuple[str, str]:
    """The winner of the finals: its mean on test images, without these on validation images."""
    winner = study.winner
    if winner is None:
        return "-", "trained to the end: no network yet" if study.has_finals else "no finals"
    spread, images, seeds = winner.validation, "validation", winner.seeds
    if winner.test:
        spread, images, seeds = winner.test, "test", winner.tested_seeds
    said = f"trained to the end: {counted(seeds, 'seed')}, {images} images"
    if (around := interval_cell(spread)) != "-":
        said += f", 95% {around}" if spread.interval else f", {around}"
    return percent(spread.mean), f"{said}, {winner.candidate.parameters:,} parameters"


def _verdicts(found: Comparison) -> str:
    return "".join(_verdict(found, pair) for pair in found.pairs)


def _verdict(found: Comparison, pair: Pair) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in words.standing(found, pair))
    heading = f"<b>{pair.one.label} and {pair.other.label}</b>" if len(found.pairs) > 1 else ""
    return f"{heading}<ul class=plain>{items}</ul>"


def _key(place: int) -> str:
    return f'<span class=key style="background:{COLOURS[place]}"></span>'


def _label(found: Comparison, study: ComparedStudy) -> str:
    return f"{_key(found.studies.index(study))}{study.label}"


def _table(head: Sequence[str], rows: Iterator[str]) -> str:
    return f"<div class=wide><table><tr>{''.join(head)}{''.join(rows)}</table></div>"


def _studies(found: Comparison) -> str:
    """What each of them is and has cost, a study a column."""

    def row(name: str, value: Callable[[ComparedStudy], str]) -> str:
        values = "".join(f'<td class="any text">{escape(value(study))}' for study in found.studies)
        return f"<tr><td>{name}{values}"

    rows = (
        row("study", lambda study: study.name),
        row("data", lambda study: study.config.data.name),
        row("training images", lambda study: f"{study.config.data.train_images:,}"),
        row("validation images", lambda study: f"{study.images:,}"),
        row("epochs of a trial", lambda study: f"{study.config.recipe.epochs}"),
        row("budget", lambda study: str(study.config.budget)),
        row("sampler, pruner", lambda study: f"{study.config.sampler}, {study.config.pruner}"),
        row("trials", lambda study: f"{study.total.trials:,}"),
        row("trained to the end", lambda study: f"{len(study.completed):,}"),
        row("distinct networks", lambda study: f"{len(study.trained):,}"),
        row("images trained on", lambda study: f"{study.total.images:,}"),
        row("device time", lambda study: words.amount(Axis.SECONDS, study.total.seconds)),
        row("devices", lambda study: comparability.shown(study.settings["devices"])),
    )
    head = ["<th>", *(f"<th class=text>{_label(found, study)}" for study in found.studies)]
    return _table(head, iter(rows))


def _bests(found: Comparison) -> str:
    def rows() -> Iterator[str]:
        for axis in Axis:
            for i, study in enumerate(found.studies):
                at = words.amount(axis, found.limits[axis]) if i == 0 else ""
                yield _best(at, found, study, found.best(study, axis))
        for i, study in enumerate(found.studies):
            yield _best("all there is" if i == 0 else "", found, study, study.total.best)

    head = ("<th>at equal", "<th>study", "<th>accuracy", "<th>95%", "<th>trial", "<th>parameters",
            "<th>MACs")  # fmt: skip
    return _table(head, rows())


def _best(at: str, found: Comparison, study: ComparedStudy, best: Candidate | None) -> str:
    begin = f"<tr><td>{at}<td>{_label(found, study)}"
    if best is None:
        return f"{begin}<td colspan=5 class=text>no network trained to the end"
    return (
        f"{begin}<td>{percent(best.accuracy)}<td>{wilson(best.accuracy or 0.0, study.images)}"
        f"<td>{best.number}<td>{best.parameters:,}<td>{best.macs:,}"
    )


def _networks(found: Comparison) -> str:
    """Those of the table before, each once."""

    def rows() -> Iterator[str]:
        for study in found.studies:
            bests = [*(found.best(study, axis) for axis in Axis), study.total.best]
            for best in {best.number: best for best in bests if best}.values():
                named = f"baseline {best.baseline}: " if best.baseline else ""
                network = escape(named + summary(Architecture.parse(best.architecture)))
                yield f"<tr><td>{_label(found, study)}<td>{best.number}<td class=text>{network}"

    head = ("<th>", "<th>trial", "<th class=text>network")
    return f"{_table(head, rows())}<p class=note>{escape(LEGEND)}</p>"


def _curves_part(found: Comparison) -> list[str]:
    if not any(study.curve for study in found.studies):
        return []
    figure = _curves(found)
    axes = {
        name: (
            {"visible": [trace.meta == axis for trace in figure.data]},
            {"xaxis.title.text": _title(found, axis), "xaxis.autorange": True, "yaxis.autorange": True},
        )
        for axis, name in zip(Axis, ("trials", "images trained on", "device time"), strict=True)
    }
    return [
        "<h2>The best so far</h2>",
        f"<div id=curves>{panel('', '', figure, HEIGHT, [switch(axes)])}</div>",
        "<p class=note>Shaded: 95% over validation images. Dotted: the smallest total, where the bests are"
        " compared. A search has a curve from its first network that was trained to the end.</p>",
    ]


def _title(found: Comparison, axis: Axis) -> str:
    if axis == Axis.SECONDS:
        return f"device time, {_unit(found)[1]}"
    return "trials" if axis == Axis.TRIALS else "images trained on"


def _unit(found: Comparison) -> tuple[float, str]:
    """Of device time: seconds in one, and its name."""
    most = max(study.total.seconds for study in found.studies)
    return next((scale, name) for least, scale, name in UNITS if most >= least)


def _curves(found: Comparison) -> go.Figure:
    """A line and a band for each study on each axis; those of the first axis are seen."""
    figure = go.Figure()
    for axis in Axis:
        scale = _unit(found)[0] if axis == Axis.SECONDS else 1.0
        for i, study in enumerate(found.studies):
            if study.curve:
                _add_curve(figure, study, axis, scale, COLOURS[i])
        best = [step.best.accuracy or 0.0 for study in found.studies for step in study.curve if step.best]
        figure.add_scatter(
            x=[found.limits[axis] / scale] * 2, y=[_point(min(best)), _point(max(best))],
            mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip", meta=axis.value,
            visible=axis == Axis.TRIALS, name=f"equal: {words.amount(axis, found.limits[axis])}",
        )  # fmt: skip
    figure.update_xaxes(title=_title(found, Axis.TRIALS), rangemode="tozero")
    figure.update_yaxes(title="validation accuracy, %")
    return figure.update_layout(legend=BELOW, hovermode="closest")


BELOW = {"orientation": "h", "yanchor": "top", "y": -0.18, "xanchor": "left", "x": 0}


def _point(accuracy: float) -> float:
    """In percent, of as many digits as can be seen."""
    return round(100 * accuracy, 3)


def _add_curve(figure: go.Figure, study: ComparedStudy, axis: Axis, scale: float, colour: str) -> None:
    steps = [*study.curve, study.total]
    x = [float(f"{step.cost(axis) / scale:.6g}") for step in steps]
    accuracies = [step.best.accuracy or 0.0 for step in steps if step.best]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    seen = {"legendgroup": study.label, "meta": axis.value, "visible": axis == Axis.TRIALS}
    bands = [wilson(accuracy, study.images) for accuracy in accuracies]
    figure.add_scatter(
        x=[*_stairs(x), *reversed(_stairs(x))],
        y=_outline(bands), mode="lines", line={"width": 0}, fill="toself", hoverinfo="skip",
        fillcolor=f"rgba({red},{green},{blue},0.13)", showlegend=False, **seen,
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=[_point(accuracy) for accuracy in accuracies],
        mode="lines+markers", line={"color": colour, "shape": "hv"}, marker={"size": 5},
        name=escape(_short(study)), text=[_hover(study, step) for step in steps], hoverinfo="text", **seen,
    )  # fmt: skip


def _stairs(x: Sequence[float]) -> list[float]:
    """Each point but the first twice: where a stair ends and where the next begins."""
    return [x[0], *(value for value in x[1:] for _ in range(2))]


def _outline(bands: Sequence[Interval]) -> list[float]:
    """The upper ends along the stairs, and the lower ones back."""

    def along(ends: Sequence[float]) -> list[float]:
        return [*(_point(value) for value in ends[:-1] for _ in range(2)), _point(ends[-1])]

    return along([band.high for band in bands]) + along([band.low for band in bands])[::-1]


def _short(study: ComparedStudy) -> str:
    name = study.name if len(study.name) <= LONGEST else f"{study.name[: LONGEST - 1]}…"
    return f"{study.label} {name}"


def _hover(study: ComparedStudy, step: Step) -> str:
    best = step.best
    assert best is not None, step
    cost = ", ".join(words.amount(axis, step.cost(axis)) for axis in Axis)
    return (
        f"{study.label}, trial {best.number}: {percent(best.accuracy)}"
        f" (95% {wilson(best.accuracy or 0.0, study.images)})<br>{best.parameters:,} parameters,"
        f" {best.macs:,} MACs<br>after {cost}"
    )


def _finals(found: Comparison) -> list[str]:
    """The winners in a table; nothing where no search has finals."""
    having = [study for study in found.studies if study.has_finals]
    if not having:
        return []

    def rows() -> Iterator[str]:
        for study in having:
            winner, begin = study.winner, f"<tr><td>{_label(found, study)}"
            if winner is None:
                yield f"{begin}<td colspan=9 class=text>not over, or none came through"
                continue
            epochs = comparability.shown(study.settings.get("finals.recipe.epochs"))
            yield (
                f"{begin}<td>{winner.candidate.number}<td>{epochs}<td>{winner.seeds_cell}"
                f"<td>{percent(winner.validation.mean)}<td>{interval_cell(winner.validation)}"
                f"<td>{percent(winner.test.mean) if winner.test else '-'}<td>{interval_cell(winner.test)}"
                f"<td>{winner.candidate.parameters:,}<td>{winner.candidate.macs:,}"
            )

    head = ("<th>", "<th>trial", "<th>epochs", "<th>seeds", "<th>validation", "<th>95% of the mean",
            "<th>test", "<th>95% of the mean", "<th>parameters", "<th>MACs")  # fmt: skip
    two = any(study.winner and study.winner.has_two_values for study in having)
    note = [f"<p class=note>{IN_ITS_PLACE[:1].upper()}{IN_ITS_PLACE[1:]}.</p>"] if two else []
    return ["<h2>Winners of the finals</h2>", _table(head, rows()), *note]


def _shared(found: Comparison) -> list[str]:
    """What pairs have in common, in a table, and a scatter of the two scores."""

    def rows() -> Iterator[str]:
        for pair in found.pairs:
            shared, labels = pair.shared, f"{pair.one.label} and {pair.other.label}"
            apart, tau = shared.difference, shared.correlation
            mean = f"{100 * apart.points:+.2f} points" if apart else "-"
            yield (
                f"<tr><td>{labels}<td>{shared.trained:,}<td>{len(shared.scores):,}"
                f"<td>{mean}<td>{apart or '-'}<td>{f'{tau.tau:.2f}' if tau else '-'}"
                f"<td>{f'{tau.interval.low:.2f} to {tau.interval.high:.2f}' if tau else '-'}"
            )

    head = ("<th>", "<th>trained in both", "<th>to the end in both", "<th>mean of first less second",
            "<th>95%", "<th>Kendall's tau", "<th>95%")  # fmt: skip
    pairs = [pair for pair in found.pairs if pair.shared.scores]
    parts = [_table(head, rows())]
    if pairs:
        parts.append(draw(_scatter(pairs), HEIGHT))
        points, shown = sum(len(pair.shared.scores) for pair in pairs), sum(map(len, _drawn(pairs)))
        drawn = f" {shown:,} of {points:,} are drawn." if shown < points else ""
        parts.append(
            "<p class=note>Each point is a network that was trained to the end in both, by its two brief"
            f" scores. On the dotted line they are equal.{drawn}</p>"
        )
    return parts


def _drawn(pairs: Sequence[Pair]) -> list[list[tuple[Candidate, Candidate]]]:
    """The scores of each pair that are drawn: POINTS of all pairs at most, evenly."""
    total = sum(len(pair.shared.scores) for pair in pairs)
    drawn = min(total, POINTS)
    kept, before = {i * total // drawn for i in range(drawn)}, 0
    found = list[list[tuple[Candidate, Candidate]]]()
    for pair in pairs:
        scores = pair.shared.scores
        found.append([both for i, both in enumerate(scores, before) if i in kept])
        before += len(scores)
    return found


def _scatter(pairs: Sequence[Pair]) -> go.Figure:
    figure = go.Figure()
    ends = [_point(row.accuracy or 0.0) for pair in pairs for both in pair.shared.scores for row in both]
    figure.add_scatter(
        x=[min(ends), max(ends)], y=[min(ends), max(ends)], mode="lines", hoverinfo="skip",
        line={"color": GREY, "dash": "dot"}, showlegend=False,
    )  # fmt: skip
    for i, (pair, scores) in enumerate(zip(pairs, _drawn(pairs), strict=True)):
        one, other = pair.one.label, pair.other.label
        figure.add_scatter(
            x=[_point(first.accuracy or 0.0) for first, _ in scores],
            y=[_point(second.accuracy or 0.0) for _, second in scores],
            mode="markers", marker={"size": 7, "opacity": 0.75, "color": COLOURS[i % len(COLOURS)],
                                    "symbol": i // len(COLOURS)},
            name=f"{one} and {other}", showlegend=len(pairs) > 1, hoverinfo="text",
            text=[f"{escape(first.fingerprint)}<br>{one}, trial {first.number}: {percent(first.accuracy)}<br>"
                  f"{other}, trial {second.number}: {percent(second.accuracy)}" for first, second in scores],
        )  # fmt: skip
    only = pairs[0] if len(pairs) == 1 else None
    figure.update_xaxes(title=f"score in {only.one.label if only else 'the first'}, %")
    figure.update_yaxes(title=f"score in {only.other.label if only else 'the second'}, %")
    return figure.update_layout(legend=BELOW)


def _settings(found: Comparison) -> str:
    if not found.differing:
        return "<p>Settings, data, versions and devices are the same.</p>"

    def rows() -> Iterator[str]:
        for row in found.differing:
            values = "".join(f'<td class="any text">{escape(comparability.shown(v))}' for v in row.values)
            yield f"<tr><td>{escape(row.name)}{values}"

    head = ["<th>setting", *(f"<th class=text>{_label(found, study)}" for study in found.studies)]
    return _table(head, rows())
