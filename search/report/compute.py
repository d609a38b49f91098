"""Where parameters and multiply-accumulates sit in the best networks, and in the others.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import plotly.graph_objects as go

from search.report.choices import FEWEST
from search.report.data import ReportData
from search.report.network_parts import part_costs
from search.report.parts import AMBER, GREY, panel, section
from space.cost import Cost
from storage.row_types import Candidate

MOST = 500  # of the others, evenly from best to worst
HEIGHT = 320


def compute(data: ReportData) -> str:
    """The section; nothing where too few networks were trained to the end to compare."""
    if len(data.completed) < FEWEST:
        return ""
    tenth = max(1, len(data.completed) // 10)
    rest = data.completed[tenth:]
    rest = rest[:: max(1, len(rest) // MOST)]
    best, others = _costs(data.completed[:tenth], data), _costs(rest, data)
    names = _names([*best, *others])
    plots = []
    for title, i in (("Parameters", 0), ("Multiply-accumulates", 1)):
        figure = go.Figure()
        for costs, name, colour in (
            (best, f"the best {tenth:,}", AMBER),
            (others, "the others", GREY),
        ):
            figure.add_bar(
                x=names, y=[round(100 * _share(costs, part, i), 1) for part in names], name=name,
                marker={"color": colour}, hovertemplate="%{x}: %{y:.1f}%<extra></extra>",
            )  # fmt: skip
        figure.update_xaxes(type="category").update_yaxes(title="mean share, %", rangemode="tozero")
        figure.update_layout(bargap=0.3)
        reading = f"The share of a network's {title.lower()} that each part has, on average of each group."
        plots.append(panel(title, reading, figure, HEIGHT))
    return section("compute", "Where the size sits", [f"<div class=columns>{''.join(plots)}</div>"])


def _costs(rows: Sequence[Candidate], data: ReportData) -> list[dict[str, Cost]]:
    return [part_costs(data.networks[row.number]) for row in rows]


def _names(costs: Sequence[Mapping[str, Cost]]) -> list[str]:
    """The parts that any of them has, in the order of a network."""
    known = {name for found in costs for name in found}
    staged = sorted((name for name in known if name.startswith("stage ")), key=lambda name: int(name[6:]))
    return ["stem", *staged, *(name for name in ("tail", "head") if name in known)]


def _share(costs: Sequence[Mapping[str, Cost]], part: str, which: int) -> float:
    """The mean over networks; a part that one does not have has none of it."""
    totals = [max(1, sum(spent[which] for spent in found.values())) for found in costs]
    shares = [
        found[part][which] / total if part in found else 0.0
        for found, total in zip(costs, totals, strict=True)
    ]
    return fmean(shares) if shares else 0.0
