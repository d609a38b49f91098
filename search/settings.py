"""Defaults and the environment. The only module that reads the environment; it knows no command.

A flag wins over `SEARCH_...`, that wins over the default: click sees to it, by the names given here.
"""

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

STORAGE = "sqlite:///parsimony.db"
LEASE_SECONDS = 60.0
STALL_SECONDS = 300.0
PATIENCE_SECONDS = 600.0
KEEP_WEIGHTS = 5
MAX_PARAMETERS = 5_000_000
VALIDATION_SHARE = 0.1
SMALL_VALIDATION_SHARE = 0.2  # below SMALL images, where a tenth would leave too wide an interval
SMALL = 10_000


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where data sets and their caches live unless --data-dir says otherwise."""
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "parsimony"


def child_environment(
    storage: str, device: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What a worker inherits: the database by environment (never by argv, which everyone can read), its
    device, and one thread a process, since two beside a busy neighbour run ten times slower."""
    own = {key: value for key, value in environment.items() if not key.startswith("SEARCH_")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**own, **threads, **device, "SEARCH_STORAGE": storage}


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str] | None:
    """The GPUs that this process may use, if someone has limited them."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    listed = [part.strip() for part in value.split(",") if part.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # as CUDA reads it


def study_name(now: datetime) -> str:
    """A name nobody had to think of, in the order of time."""
    return f"search-{now:%Y%m%d-%H%M%S}"


class StudyName(click.ParamType[str]):
    """A name that can stand in a path, in a message and before `:137`."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[\w.+@][\w.+@ -]{0,63}", text) or text.endswith(".json") or set(text) == {"."}:
            self.fail(
                f"{text[:80]!a} is no name for a study: up to 64 letters, digits, spaces and . _ + @ -,"
                " not starting with - and not ending in .json",
                param,
                ctx,
            )
        return text


class Count(click.ParamType[int]):
    """A whole number: 5000000, 5_000_000, 5,000,000, 5M or 2.5M."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).replace(",", "").replace("_", "").strip()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGbB]?)", text)
        if not match:
            self.fail(f"{value!r} is not a number like 5000000, 5_000_000 or 5M", param, ctx)
        scale = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}[match[2].lower()]
        number = int(match[1]) * scale if "." not in match[1] else round(float(match[1]) * scale)
        if number < 1:
            self.fail(f"{value!r} is not a positive number", param, ctx)
        return number


class Memory(click.ParamType[int]):
    """An amount of memory in bytes: 800M, 4G or 4GiB, 1.5G; multiples of 1,024."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        found = round(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
        if found < 1 << 20:
            self.fail(f"{value!r} is not an amount of memory like 800M or 4G", param, ctx)
        if found < 64 << 20:
            self.fail(f"{value!r} is less than any training takes; give 64M or more", param, ctx)
        return found


class Duration(click.ParamType[float]):
    """A time span in seconds: 90, 90s, 15m, 2h, 1h30m, 1d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
        if not parts or "".join(n + u for n, u in parts) != text:
            self.fail(f"{value!r} is not a time like 90s, 15m, 2h or 1h30m", param, ctx)
        seconds = sum(float(n) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[u] for n, u in parts)
        if seconds <= 0:
            self.fail(f"{value!r} is no time at all", param, ctx)
        return seconds
