"""Formats a forecast of a search, as lines to read and as a JSON document; computes nothing.

Reads the records that space/forecast.py and search/study/duration.py return. Called by
search/commands/space.py and search/commands/plan.py.
"""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from search.study.text import counted, span

if TYPE_CHECKING:
    from search.study.compute_limit import ComputeLimit
    from search.study.duration import Estimate
    from space.forecast import Forecast, Share, Spread
    from space.traits import Traits

SCARCE_LINE = (
    "under 1% of plain draws fit; --sampling fit needs no luck, but proposals are shrunk to fit and alike"
)


def lines(found: "Forecast", trials: int, limit: "ComputeLimit | None" = None) -> Iterator[str]:
    """The forecast as a block to read, a fact a line; `limit` is the default of --max-macs, if it is one."""
    smallest, drawn, largest = found.smallest, found.largest_drawn, found.largest
    yield _line("budget", str(found.budget))
    if limit:
        yield _line("", limit.note)
    yield _line("draws that fit", f"{_share(found.fit)} of {found.fit.draws:,} plain draws")
    yield _line("over half of it", f"{_share(found.upper_half)}: they fit and use more than half of a limit")
    yield _line("smallest network", f"{smallest.parameters:,} parameters, {smallest.macs:,} MACs")
    yield _line("largest drawn", f"{drawn.parameters:,} parameters, {drawn.macs:,} MACs")
    yield _line("largest possible", f"{largest.parameters:,} parameters, {largest.macs:,} MACs")
    yield _line("different networks", f"{about(found.networks)}, in and out of the budget")
    proposals = found.proposals(trials)
    yield _line(
        f"for {trials:,} trials",
        f"{trials:,} proposals by fit, " + (f"about {_rounded(proposals)} by reject" if proposals else
        "by reject more than can be told: no draw fits"),
    )  # fmt: skip
    for whose, values in (("misses", found.causes), ("fits", found.helps)):
        for i, cause in enumerate(values):
            yield _line(
                "" if i else f"{whose} have",
                f"{cause.knob} = {cause.value}: in {100 * cause.of_misses:.0f}% of the {whose},"
                f" in {100 * cause.of_draws:.0f}% of the draws",
            )
    yield _line("MACs of proposals", f"{_spread(found.fit_macs)} (5%, 50%, 95%) by fit")
    if found.plain_macs:
        yield _line("", f"{_spread(found.plain_macs)} by reject")


def proposal_lines(seen: "Traits") -> Iterator[str]:
    """What proposals by fit look like, a share a line, and where their compute is."""
    for i, (name, share) in enumerate(seen.shares.items()):
        yield _line("" if i else "proposals by fit", f"{100 * share:.1f}% {name}")
    yield _line(
        "",
        f"MACs: median {_short(seen.macs_median)}, 90% under {_short(seen.macs_p90)}, largest"
        f" {_short(seen.macs_max)}; the dearest tenth has {100 * seen.dearest_tenth:.0f}% of all",
    )
    yield _line("", f"of {seen.draws} proposals")


def time_lines(found: "Estimate", trials: int) -> Iterator[str]:
    """The estimate of the time, and what it takes for granted."""
    yield _line(
        "time, estimated",
        f"about {in_minutes(found.minutes)} for {trials:,} trials of {span(found.trial_seconds)} in the"
        f" mean, {found.workers} worker{'s' if found.workers > 1 else ''}",
    )
    yield _line(
        "",
        f"{found.images:,} images, {found.epochs} epochs, none pruned or repeated; on {found.device}, from"
        f" steps on noise of {len(found.points)} proposals",
    )
    yield _line(
        "",
        f"in batches of {', '.join(str(point.batch) for point in found.points)}"
        " (small ones are slower by image), beside whatever else runs here",
    )


def document(found: "Forecast", trials: int, limit: "ComputeLimit | None" = None) -> dict[str, Any]:
    """The same as JSON values; `max_macs_default` is the reason of a default limit, None without it."""
    return {
        "max_params": found.budget.max_parameters,
        "max_macs": found.budget.max_macs,
        "max_macs_default": limit.reason if limit else None,
        "fit": _values(found.fit),
        "upper_half": _values(found.upper_half),
        "smallest": found.smallest._asdict(),
        "largest_drawn": found.largest_drawn._asdict(),
        "largest": found.largest._asdict(),
        "networks": found.networks,
        "trials": trials,
        "proposals_by_reject": found.proposals(trials),
        "helps": [
            {"knob": x.knob, "value": x.value, "of_fits": x.of_misses, "of_draws": x.of_draws, "lift": x.lift}
            for x in found.helps
        ],
        "causes": [asdict(cause) | {"lift": cause.lift} for cause in found.causes],
        "macs_by_fit": asdict(found.fit_macs),
        "macs_by_reject": asdict(found.plain_macs) if found.plain_macs else None,
        "warning": SCARCE_LINE if found.scarce else None,
    }


def about(count: int) -> str:
    """A count in a few characters, however large: 12,345, or about 4.1e31."""
    if count < 10**6:
        return f"{count:,}"
    exponent = int(math.log10(count))  # exact for integers of any size, but for the last power of ten
    return f"about {count // 10 ** (exponent - 1) / 10:g}e{exponent}"


def wrapped(line: str, width: int | None) -> str:
    """A line of the block, continued under its text where the terminal is narrower; as it is without one."""
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(line, max(width, 40), subsequent_indent=" " * 20, break_long_words=False)


def in_minutes(minutes: float) -> str:
    """A time in the unit that people would say it in, a second at least."""
    if minutes < 2:
        return counted(max(1, round(60 * minutes)), "second")
    if minutes < 120:
        return f"{_rounded(minutes)} minutes"
    if minutes < 2 * 24 * 60:
        return f"{_rounded(minutes / 60)} hours"
    return f"{_rounded(minutes / 60 / 24)} days"


def _line(name: str, text: str) -> str:
    return f"{name:19} {text}"


def _share(share: "Share") -> str:
    low, high = share.interval
    digits = 1 if share.value >= 0.01 else 2
    return f"{100 * share.value:.{digits}f}% (95% interval {100 * low:.{digits}f}-{100 * high:.{digits}f}%)"


def _values(share: "Share") -> dict[str, Any]:
    low, high = share.interval
    return {"share": share.value, "low": low, "high": high, "hits": share.hits, "draws": share.draws}


def _spread(spread: "Spread") -> str:
    return " / ".join(f"{_short(macs)}" for macs in (spread.low, spread.middle, spread.high))


def _short(macs: int) -> str:
    for scale, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if macs >= scale:
            return f"{macs / scale:.3g}{unit}" if macs < 10**12 else f"{macs // scale:,}{unit}"
    return str(macs)


def _rounded(number: float) -> str:
    """To two digits, as an estimate is."""
    return f"{float(f'{number:.2g}'):,.0f}" if number >= 10 else f"{number:.2g}"
