"""What a launch tells others at its end: a command of the user's, by its environment (--on-end), and an
address, by one JSON document (--notify).

Reads the study as it ended; stores nothing. Neither changes the exit code of the launch: what fails is one
line. Called by search/commands/launch_session.py.
"""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from search import settings
from search.commands.output import plain
from search.study import second_stage
from space.errors import ParsimonyError
from storage import candidates, studies
from storage.row_types import TRAINED
from storage.studies import Study

NOTIFY_SECONDS = 5.0


@dataclass(frozen=True)
class AtEnd:
    """Whom to tell."""

    command: str | None = None
    url: str | None = None


NOBODY = AtEnd()


def facts(engine: Engine, record: Study, how: str, code: int, written: Mapping[str, Path]) -> dict[str, Any]:
    """How a search ended: the document of --notify, of which --on-end has the parts by environment.
    `written`: the files that it left by the names of their options.

    Where the database is away, which may be what ended the search, its figures are not known.
    """
    found: dict[str, Any] = {
        "format": "parsimony.end/1",
        "study": record.name,
        "end": how,
        "exit_code": code,
        "out": str(written["out"].resolve()) if "out" in written else None,
        "report": str(written["report"].resolve()) if "report" in written else None,
    }
    try:
        return found | _figures(engine, record)
    except (ParsimonyError, SQLAlchemyError):
        return found | dict.fromkeys(FIGURES)


FIGURES = ("trained", "trials", "best", "best_accuracy", "best_parameters", "best_macs", "confirmed_accuracy",
           "test_accuracy")  # fmt: skip


def _figures(engine: Engine, study: Study) -> dict[str, Any]:
    """Raises SQLAlchemy's errors, StorageError and StudyError."""
    record = studies.get(engine, study.id)
    tally = candidates.tally(engine, record.id)
    stage = second_stage.load(engine, record)
    first = stage.confirmed if stage else None
    best = first.candidate if first else next(iter(candidates.best(engine, record.id)), None)
    return {
        "trained": sum(tally[state] for state in TRAINED),
        "trials": record.trials,
        "best": f"{record.name}:{best.number}" if best else None,
        "best_accuracy": best.accuracy if best else None,
        "best_parameters": best.parameters if best else None,
        "best_macs": best.macs if best else None,
        "confirmed_accuracy": first.validation.mean if first else None,
        "test_accuracy": first.test.mean if first and first.test else None,
    }


def environment(told: Mapping[str, Any], storage: str) -> dict[str, str]:
    """What a command finds: SEARCH_STUDY, SEARCH_EXIT_CODE, SEARCH_BEST... Empty where there is nothing to
    say; SEARCH_END is done, short or error."""
    found = {
        f"SEARCH_{key.upper()}": "" if value is None else str(value)
        for key, value in plain(told).items()
        if key != "format"
    }
    return {**found, "SEARCH_STORAGE": storage}


def run(command: str, told: Mapping[str, str]) -> str | None:
    """Runs it in a shell, once. Returns a line where it failed; the search is over all the same."""
    try:
        code = subprocess.run(command, shell=True, env=settings.environment_with(told)).returncode
    except OSError as error:
        return f"--on-end {command}: {error.strerror or error}"
    return f"--on-end {command}: ended with code {code}" if code else None


def notify(url: str, told: Mapping[str, Any], seconds: float = NOTIFY_SECONDS) -> str | None:
    """Posts the document as JSON. Returns a line where that fails or takes longer; of the address it names
    the host alone, since many hold a secret."""
    body = json.dumps(plain(told), allow_nan=False).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    failed = [f"no answer within {seconds:g} s"]

    def post() -> None:
        try:
            # An opener of its own: urlopen keeps the proxies of when it was first used.
            with urllib.request.build_opener().open(request, timeout=seconds):
                failed[:] = []
        except urllib.error.HTTPError as error:
            failed[:] = [f"answers {error.code} {error.reason}"]
        except (OSError, ValueError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            if not isinstance(reason, TimeoutError):  # that is what is said already
                failed[:] = [str(getattr(reason, "strerror", None) or reason)]
        except HTTPException:
            failed[:] = ["what listens there is no web server"]

    poster = threading.Thread(target=post, daemon=True)  # a server may answer a byte at a time
    poster.start()
    poster.join(seconds)
    return f"--notify {host_of(url)}: {failed[0]}" if failed else None


def host_of(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
