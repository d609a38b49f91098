"""The study as people see it: optuna-dashboard, served by our command, in a real browser."""

import http.client
import json
import re
import socket
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import optuna
import pytest
from browser import open_page
from command import run, start
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna_dashboard._note import get_note_from_system_attrs, save_note_with_version, version_is_incremented
from optuna_dashboard.artifact._backend import list_study_artifacts
from worker_samples import FakeTraining, make_config, make_context, make_study

from search.commands import files_of_study
from search.optuna_adapter import ledger_view, storage as optuna_storage, study as optuna_study
from search.optuna_adapter.dashboard import Files
from search.optuna_adapter.plain_storage import PlainStorage
from search.worker import trial as worker_trial
from storage import database, leases
from storage.candidates import Measured
from storage.leases import Claim
from storage.row_types import State

TRIALS = 6

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def study(sqlite_url: str, tmp_path: Path) -> str:
    """A store with a study of six trained networks."""
    config = make_config()
    engine, record = make_study(sqlite_url, config, TRIALS, name="shown")
    with optuna_study.open_study(sqlite_url, record.name, config) as opened:
        context = make_context(opened, engine, record, FakeTraining(), config, tmp_path)
        while isinstance(claim := leases.claim(engine, record.id, "one", 60.0), Claim):
            worker_trial.run(context, claim)
    engine.dispose()
    return sqlite_url


@pytest.fixture
def address(study: str, tmp_path: Path) -> Iterator[str]:
    """A dashboard of it."""
    server = start("dashboard", "--port", 0, "--storage", study, cwd=tmp_path)
    try:
        assert server.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())
        assert found, "the dashboard did not say where it is"
        yield found[0]
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.browser
def test_the_dashboard_shows_every_trial_with_its_cost(address: str) -> None:
    with open_page() as (page, failed):
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{address}/dashboard/", wait_until="domcontentloaded")
        page.get_by_text(re.compile(r"^\d+\. shown$")).click()
        # A plot's frame is drawn before its data: wait for the points.
        page.wait_for_function(
            "n => document.querySelectorAll('.scatterlayer .point').length >= n", arg=TRIALS
        )
        page.locator("a[href$='/trials']").first.click()
        page.get_by_text(f"Trial {TRIALS - 1}", exact=True).click()
        page.get_by_text(re.compile(r"^Trial 5 \(trial_id=")).wait_for()
        shown = page.locator("body").inner_text()
        page.locator("a[href$='/note']").first.click()
        page.get_by_text("6 of 6 trained on digits").wait_for()
    assert failed == []
    for attribute in (r"parameters \d+", r"macs \d+", r"interval \d", "device fake", "images_per_second 100"):
        assert re.search(attribute, shown), shown
    assert "search replay shown:5" in shown


def optuna_rows(url: str) -> list[list[tuple[object, ...]]]:
    """What Optuna's tables hold of attributes."""
    engine = database.connect(url)
    with database.reading(engine) as connection:
        found = [
            [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
            for table in ("trial_user_attributes", "trial_system_attributes", "study_system_attributes")
        ]
    engine.dispose()
    return found


@contextmanager
def viewed(url: str) -> Iterator[PlainStorage]:
    """The storage that the dashboard is given."""
    with optuna_storage.open_storage(url, ledger_view.over) as storage:
        yield storage


def note_of(storage: PlainStorage, trial_id: int | None = None) -> str:
    """As the dashboard reads it."""
    (study,) = storage.get_all_studies()
    return str(get_note_from_system_attrs(study.system_attrs, trial_id)["body"])


def test_the_dashboard_is_given_what_the_ledger_knows_and_nothing_of_it_is_stored(study: str) -> None:
    before = optuna_rows(study)
    with viewed(study) as storage:
        study_id = storage.get_study_id_from_name("shown")
        for trial in [*storage.get_all_trials(study_id), storage.get_best_trial(study_id)]:
            said = trial.user_attrs
            assert {"parameters", "macs", "fingerprint", "network"} <= said.keys()
            assert re.fullmatch(r"\d+\.\d-\d+\.\d%", said["interval"]) and said["images_per_second"] == 100
            assert said["device"] == "fake"
        note = note_of(storage, storage.get_best_trial(study_id)._trial_id)
        for command in ("show", "train", "export", "replay"):
            assert f"search {command} shown:" in note
        whole = note_of(storage)
    assert "6 of 6 trained on digits" in whole and "best so far:" in whole and "sampler random" in whole
    assert optuna_rows(study) == before


def test_a_trial_that_runs_has_its_device_and_one_that_came_to_nothing_no_interval(study: str) -> None:
    engine = database.connect(study)
    with database.writing(engine) as connection:
        connection.exec_driver_sql(
            "UPDATE search_candidates SET state = 'failed', accuracy = NULL WHERE number = 0"
        )
    engine.dispose()
    with viewed(study) as storage:
        trial = storage.get_all_trials(storage.get_study_id_from_name("shown"))[0]
        assert "interval" not in trial.user_attrs and trial.user_attrs["device"] == "fake"
        note = note_of(storage, trial._trial_id)
    assert "failed" in note and "search show shown:0" in note and "search export" not in note


def test_a_note_that_somebody_wrote_in_the_dashboard_goes_before(study: str) -> None:
    with viewed(study) as storage:
        study_id = storage.get_study_id_from_name("shown")
        first, second = storage.get_all_trials(study_id)[:2]
        assert version_is_incremented(storage.get_study_system_attrs(study_id), None, 2)
        save_note_with_version(storage, study_id, None, 2, "mine")
        save_note_with_version(storage, study_id, first._trial_id, 2, "")
        assert (note_of(storage), note_of(storage, first._trial_id)) == ("mine", "")
        assert "search show" in note_of(storage, second._trial_id)


def test_a_study_of_others_in_the_same_tables_is_shown_as_it_is(study: str) -> None:
    with viewed(study) as storage:
        other = optuna.create_study(storage=storage, study_name="foreign")
        other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert other.get_trials()[0].user_attrs == {}
        assert storage.get_study_system_attrs(other._study_id) == {}


def test_report_and_best_are_made_as_they_are_opened_and_uploads_are_kept(study: str, tmp_path: Path) -> None:
    with viewed(study) as storage:
        attributes = storage.get_study_system_attrs(storage.get_study_id_from_name("shown"))
        metas = {meta["filename"]: meta["artifact_id"] for meta in list_study_artifacts(attributes)}
        files = Files(storage.engine, files_of_study.make, tmp_path / "uploads")
        assert sorted(metas) == ["best.json", "report.html"]
        assert files.open_reader(metas["report.html"]).read().startswith(b"<!doctype html>")
        assert json.loads(files.open_reader(metas["best.json"]).read())["format"] == "parsimony.export/1"
        assert not (tmp_path / "uploads").exists()
        files.write("0a", BytesIO(b"theirs"))
        files.remove(metas["best.json"])
        with files.open_reader("0a") as file:
            assert file.read() == b"theirs"
        files.remove("0a")
        with pytest.raises(ArtifactNotFound):
            files.open_reader("0a")


def test_of_very_many_trials_the_best_and_the_newest_have_a_note() -> None:
    rows = [Measured(i, State.COMPLETED, 1 - i / 10_000, 1.0, "cpu") for i in range(2_000)]
    kept = sorted(row.number for row in ledger_view.noted(rows))
    assert kept == [*range(50), *range(1_950, 2_000)]
    assert len(ledger_view.noted(rows[:400])) == 400


def test_the_dashboard_of_a_study_that_is_not_there_is_refused(study: str, capsys: Capture) -> None:
    result = run(capsys, "dashboard", "show", "--port", 0, "--storage", study)
    assert result.code == 2 and "did you mean 'shown'?" in result.one_line


def test_open_shows_the_study_in_a_browser_or_says_where_it_is(
    study: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    monkeypatch.setattr(WSGIServer, "serve_forever", lambda *_: None)
    result = run(capsys, "dashboard", "shown", "--port", 0, "--open", "--storage", study)
    assert result.code == 0 and re.fullmatch(r"http://127\.0\.0\.1:\d+/dashboard/studies/\d+", opened[0])
    assert result.err.splitlines() == [
        f"dashboard at {opened[0]}", "no browser was found here: open that address yourself",
    ]  # fmt: skip


def answered(server: WSGIServer, host: str) -> int:
    """The status of an answer to a browser that names this host."""
    address, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(address), int(port), timeout=60)
    connection.request("GET", "/api/meta", headers={"Host": host.format(port=port)})
    server.handle_request()
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("flags", "from_elsewhere"), [((), 403), (("--allow-remote",), 200)], ids=["alone", "behind a proxy"]
)
def test_a_page_of_elsewhere_that_leads_here_is_refused(
    flags: tuple[str, ...], from_elsewhere: int, study: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ("evil.example", "[", "localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}")
    seen = list[int]()

    def ask(server: WSGIServer) -> None:
        seen.extend(answered(server, host) for host in hosts)

    monkeypatch.setattr(WSGIServer, "serve_forever", ask)
    assert run(capsys, "dashboard", *flags, "--port", 0, "--storage", study).code == 0
    assert seen == [from_elsewhere, from_elsewhere, 200, 200, 200]


def test_the_dashboard_listens_on_ipv6_too(
    study: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    seen = list[int]()
    monkeypatch.setattr(WSGIServer, "serve_forever", lambda server: seen.append(answered(server, "[::1]")))
    result = run(capsys, "dashboard", "--host", "::1", "--port", 0, "--storage", study)
    assert result.code == 0 and seen == [200]
    assert re.fullmatch(r"dashboard at http://\[::1\]:\d+/dashboard/", result.one_line)


def test_an_address_of_the_dashboard_that_cannot_be_had_is_said_with_what_is_wrong(
    study: str, capsys: Capture
) -> None:
    result = run(capsys, "dashboard", "--host", "203.0.113.9", "--allow-remote", "--storage", study)
    assert result.code == 2 and result.one_line.startswith("search: --host 203.0.113.9: ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(capsys, "dashboard", "--port", taken.getsockname()[1], "--storage", study)
    assert result.code == 5 and "choose another --port" in result.one_line
