"""What `search confirm` came to as one self-contained HTML page: the ranking, brief scores beside full ones,
the learning curves, and each network.

Reads what the trainings left, in memory; returns text. Called by search/training/confirm.py. The frame of the
page, its style and its plots are those of search/report/.
"""

from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from search.report.data import axis_range
from search.report.parts import (
    BLUE,
    COLOURS,
    GREY,
    VIOLET,
    boxes,
    contents,
    facts,
    html,
    panel,
    paragraph,
    range_switch,
    section,
    table,
)
from search.study.score import WORDS
from search.study.short_form import LEGEND, summary
from search.study.statistics import LEAST_RUNS
from search.study.text import IN_ITS_PLACE, counted, interval_cell, over_seeds, percent, span
from search.training.confirm_board import named
from search.training.contenders import ConfirmedNetwork
from search.training.curve_sections import epoch_axis

HEIGHT = 420  # of figures, pixels
ROW = 34  # pixels of a network in the ranking
LONGEST = 400  # points of a learning curve


def page(
    study: str,
    confirmed: Sequence[ConfirmedNetwork],
    finished: Sequence[ConfirmedNetwork],
    agreement: Sequence[str],
) -> str:
    """The page as text. `confirmed`: the best first; `finished`: these and the sample for the order;
    `agreement`: what is said of brief and full scores."""
    if not confirmed:
        said = ["<p>No training of the best networks came to its end.</p>"]
        return html(escape(study), [f"<h1>{escape(study)}, confirmed</h1>", *said], figures=False)
    data = confirmed[0].result["data"]
    title = escape(f"{study} on {data['name']}: the best, trained to the end")
    parts = [
        section("ranking", "Ranking", _ranking(confirmed)),
        *_order(finished, agreement),
        section("curves", "Learning curves", _curves(confirmed)),
        section("networks", "Networks", _networks(confirmed)),
        section("made", "How it was made", [_made(study, confirmed, finished)]),
    ]
    head = [f"<h1>{title}</h1>", _about(confirmed, data), boxes(_figures(confirmed))]
    return html(title, [*head, contents(parts), *parts])


def _about(confirmed: Sequence[ConfirmedNetwork], data: dict[str, Any]) -> str:
    tested = any(one.test for one in confirmed)
    said = (
        f"{counted(len(confirmed), 'network')} trained for {counted(_epochs(confirmed), 'epoch')} with"
        f" {counted(_seeds(confirmed), 'seed')} each on {data['train_images']:,} images; ranked by the mean"
        f" {_ranked_by(confirmed)} on {data['validation_images']:,} validation images"
    )
    return paragraph(
        said + ("; test images were read once for each seed, and chose nothing" if tested else ""), note=True
    )


def _epochs(found: Sequence[ConfirmedNetwork]) -> int:
    return int(found[0].result["recipe"]["epochs"])


def _ranked_by(found: Sequence[ConfirmedNetwork]) -> str:
    return WORDS[found[0].contender.score]


def _is_scored(found: Sequence[ConfirmedNetwork]) -> bool:
    """Whether they are ranked by another score than the accuracy that stands beside it."""
    return found[0].contender.score != "accuracy"


def _seeds(found: Sequence[ConfirmedNetwork]) -> int:
    return max(len(one.validation.values) for one in found)


def _figures(confirmed: Sequence[ConfirmedNetwork]) -> list[tuple[str, str]]:
    best = confirmed[0]
    found = [(named(best.contender), f"the best by its mean validation {_ranked_by(confirmed)}")]
    if _is_scored(confirmed):
        found.append((percent(best.scored.mean), f"{_ranked_by(confirmed)} on validation images"))
    for spread, images in ((best.validation, "validation"), (best.test, "test")):
        if spread:
            known = over_seeds(spread, "95% interval of the mean")
            found.append((percent(spread.mean), f"accuracy on {images} images{known and f', {known}'}"))
    found.append((f"{best.result['parameters']:,}", "parameters"))
    return [*found, (f"{best.result['macs']:,}", "multiply-accumulates an image")]


def _label(one: ConfirmedNetwork) -> str:
    """Its name in a figure, whose texts Plotly reads as HTML."""
    return escape(named(one.contender), quote=False)


def _ranking(confirmed: Sequence[ConfirmedNetwork]) -> list[str]:
    """The networks by rank, every seed a point; and in a table."""
    figure, places = go.Figure(), list(range(len(confirmed), 0, -1))
    marks: list[float] = []

    def points(name: str, found: Sequence[tuple[int, float]], marker: dict[str, Any], what: str) -> None:
        marks.extend(value for _, value in found)
        figure.add_scatter(
            x=[round(100 * value, 2) for _, value in found], y=[place for place, _ in found], mode="markers",
            marker=marker, name=name, hovertemplate=f"%{{x:.2f}}% {what}<extra></extra>",
        )  # fmt: skip

    ranked = list(zip(places, confirmed, strict=True))
    brief = [(place, one.contender.brief) for place, one in ranked]
    points(_brief(confirmed), [(place, value) for place, value in brief if value is not None],
           {"color": GREY, "symbol": "x", "size": 8}, "in the search")  # fmt: skip
    points("seeds, validation", [(p, value) for p, one in ranked for value in one.validation.values],
           {"color": BLUE, "size": 6, "opacity": 0.45}, "on validation images, one seed")  # fmt: skip
    points("mean, validation", [(place, one.validation.mean) for place, one in ranked],
           {"color": BLUE, "symbol": "diamond", "size": 11}, "on validation images, mean")  # fmt: skip
    points("mean, test", [(place, one.test.mean) for place, one in ranked if one.test],
           {"color": VIOLET, "symbol": "diamond-open", "size": 11}, "on test images, mean")  # fmt: skip
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_label(one) for one in confirmed],
        range=[0.4, len(confirmed) + 0.6],
    )
    full = [value for one in confirmed for value in one.validation.values]
    full += [one.test.mean for one in confirmed if one.test]
    part, everything = axis_range(full), axis_range(marks)
    figure.update_xaxes(title="accuracy, %", range=part)
    reading = (
        "The best is at the top. Points are seeds, diamonds their means, crosses what the search scored each"
        " network by; where points of two networks overlap, their order may be luck."
    )
    if _is_scored(confirmed):
        reading = f"In the order of their {_ranked_by(confirmed)}; points are accuracies, crosses brief ones."
    switches = [range_switch("full trainings", part, everything).replace("yaxis.range", "xaxis.range")]
    two = [paragraph(IN_ITS_PLACE, note=True)] if _seeds(confirmed) == LEAST_RUNS - 1 else []
    height = max(250, ROW * len(confirmed) + 150)
    return [panel("", reading, figure, height, switches), _table(confirmed), *two]


def _brief(confirmed: Sequence[ConfirmedNetwork]) -> str:
    """What the accuracy of a trial is called."""
    return "brief accuracy" if _is_scored(confirmed) else "brief score"


def _table(confirmed: Sequence[ConfirmedNetwork]) -> str:
    tested, briefs = any(one.test for one in confirmed), any(one.contender.brief for one in confirmed)
    scored = _is_scored(confirmed)
    head = ["rank", "network", *([_ranked_by(confirmed)] if scored else []), "validation", "95% of the mean"]
    head += ["test", "95% of the mean "] if tested else []
    head += [*([f"brief {_ranked_by(confirmed)}"] if scored else []), _brief(confirmed)] if briefs else []
    rows = []
    for rank, one in enumerate(confirmed, 1):
        row = [rank, named(one.contender), *([percent(one.scored.mean)] if scored else [])]
        row += [percent(one.validation.mean), interval_cell(one.validation)]
        row += [percent(one.test.mean) if one.test else "-", interval_cell(one.test)] if tested else []
        row += [percent(one.contender.brief_score)] if briefs and scored else []
        row += [percent(one.contender.brief)] if briefs else []
        rows.append([*row, f"{one.result['parameters']:,}", f"{one.result['macs']:,}"])
    return table([*head, "parameters", "MACs"], rows)


def _order(finished: Sequence[ConfirmedNetwork], agreement: Sequence[str]) -> list[str]:
    """Brief against full scores of the first seed; nothing where fewer than two networks have both."""
    both = [one for one in finished if one.contender.brief is not None]
    if len(both) < 2:
        return []
    figure = go.Figure()
    for sealed, name, colour in ((True, "of the sample", GREY), (False, "the best by brief score", BLUE)):
        mine = [one for one in both if one.contender.sealed == sealed]
        if mine:
            figure.add_scatter(
                x=[round(100 * (one.contender.brief_value or 0.0), 2) for one in mine],
                y=[round(100 * one.scored.values[0], 2) for one in mine],
                text=[_label(one) for one in mine], mode="markers", name=name,
                marker={"color": colour, "size": 9},
                hovertemplate="%{text}: %{x:.2f}% in the search, %{y:.2f}% at the end<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(title="brief score, %").update_yaxes(title="full training, first seed, %")
    reading = (
        "Each point is a network. Where brief scores order networks as full trainings do, the points rise"
        " from left to right; the sample reaches from the best of the search to the worst."
    )
    said = [panel("", reading, figure, HEIGHT), *(paragraph(line) for line in agreement)]
    return [section("order", "Brief scores against full ones", said)]


def _curves(confirmed: Sequence[ConfirmedNetwork]) -> list[str]:
    """Validation accuracy of every seed by epoch, a colour for each network."""
    figure, every = go.Figure(), list[float]()
    late = list[float]()
    for i, one in enumerate(confirmed):
        for j, seed in enumerate(one.result["seeds"]):
            epochs = seed["epochs"]
            every += [epoch["validation_accuracy"] for epoch in epochs]
            late += [epoch["validation_accuracy"] for epoch in epochs[len(epochs) // 3 :]]
            shown = _thinned(epochs)
            figure.add_scatter(
                x=[epoch["epoch"] for epoch in shown],
                y=[round(100 * epoch["validation_accuracy"], 2) for epoch in shown],
                mode="lines+markers" if len(shown) < 3 else "lines", legendgroup=str(i), showlegend=j == 0,
                line={"color": COLOURS[i % len(COLOURS)], "width": 1.4}, name=_label(one),
                opacity=0.8,
                hovertemplate=f"epoch %{{x}}: %{{y:.2f}}%, seed {seed['seed']}<extra></extra>",
            )  # fmt: skip
    part, everything = axis_range(late), axis_range(every)
    figure.update_xaxes(title="epoch", tick0=0, **epoch_axis(_epochs(confirmed)))
    figure.update_yaxes(title="validation accuracy, %", range=part)
    figure.update_layout(showlegend=len(confirmed) > 1)
    reading = "A line is a seed, a colour a network; a click on a name in the legend hides its lines."
    return [panel("", reading, figure, HEIGHT, [range_switch("after the first third", part, everything)])]


def _thinned(epochs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most LONGEST epochs, evenly, the last among them."""
    if len(epochs) <= LONGEST:
        return list(epochs)
    return [epochs[(i + 1) * len(epochs) // LONGEST - 1] for i in range(LONGEST)]


def _networks(confirmed: Sequence[ConfirmedNetwork]) -> list[str]:
    """Each in its short form, with a link to its own report."""
    rows = "".join(
        f"<tr><td><a href='{escape(quote(one.contender.folder.name))}/report.html'>"
        f"{escape(named(one.contender))}</a>"
        f"<td class=text><code>{escape(summary(one.architecture))}</code>"
        f"<td>{one.result['parameters']:,}<td>{span(_seconds(one))}"
        for one in confirmed
    )
    head = "<tr><th>network<th class=text>in short<th>parameters<th>training time"
    return [
        f"<div class=wide><table>{head}{rows}</table></div>",
        "<p class=note>A name opens the network's own report, with its classes and what it mixes up, where"
        f" this page lies in its folder. {escape(LEGEND)}</p>",
    ]


def _seconds(found: ConfirmedNetwork) -> float:
    return sum(float(seed["validation"]["seconds"]) for seed in found.result["seeds"])


def _made(study: str, confirmed: Sequence[ConfirmedNetwork], finished: Sequence[ConfirmedNetwork]) -> str:
    data, recipe = confirmed[0].result["data"], confirmed[0].result["recipe"]
    others = [one for one in finished if one not in confirmed]
    have_more = any(len(one.result["seeds"]) > 1 for one in others)
    how = "one seed each or all that they have" if have_more else "one seed each and without test images"
    return facts(
        {
            "study": study,
            "images": f"{data['name']} ({data['spec']})",
            "digest": data["digest"],
            "training": f"{counted(recipe['epochs'], 'epoch')}, batches of {recipe['batch_size']},"
            f" {recipe['optimizer']}, up to {recipe['learning_rate']:g}",
            "networks": f"{len(confirmed)} to confirm, {len(others)} more for the order, {how}",
            "time": f"{span(sum(map(_seconds, finished)))} of training in all",
        }
    )
