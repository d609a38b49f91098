"""The report of a search that runs, served: what can be asked for, and what a reader keeps as it changes."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from browser import open_page
from command import run
from comparison_samples import Trial, add_study, add_trials
from report_samples import BEGAN, config, report_data, trial
from rung_samples import trained
from sqlalchemy import update

from search.report import live as live_report, serve
from search.report.serve import LivePage, Server
from search.study import finish_plan
from search.study.follower import StudyFollower
from search.study.run_state import RunState
from search.study.second_stage import SecondStage
from search.study.worker_rows import WorkerRow
from storage import database, tables
from storage.leases import Running
from storage.row_types import Candidate, RungEntry, Stage, State

Capture = pytest.CaptureFixture[str]
EVIL = "<script>alert('x')</script>"


@pytest.fixture
def live(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LivePage]:
    """The live page of a study of 40 trials, which looks at the database at each request."""
    monkeypatch.setattr(serve, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(serve, "WORK_SHARE", 0.0)
    trials = [Trial(0.5 + i / 100, State.PRUNED if i % 3 == 1 else State.COMPLETED) for i in range(40)]
    add_study(sqlite_url, "night", trials)
    follower = StudyFollower(sqlite_url, "night")
    yield LivePage(follower, lambda *_: True, lambda *_: 0)
    follower.close()


@contextmanager
def served(live: LivePage) -> Iterator[int]:
    """The port on which it is served."""
    with Server("127.0.0.1", 0, live) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and text of an answer; the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def change(url: str, number: int, **values: object) -> None:
    """Another value in the row of a trial."""
    engine = database.connect(url)
    with database.writing(engine) as connection:
        table = tables.candidates
        connection.execute(update(table).where(table.c.number == number).values(values))
    engine.dispose()


def stamp_of(text: str) -> str:
    return text.partition("data-stamp=")[2].partition(">")[0]


def test_the_live_page_is_the_report_with_what_the_workers_do(live: LivePage) -> None:
    with served(live) as port:
        status, text = ask(port)
    assert status == 200
    for section in ("now", "winner", "search", "trials", "made"):
        assert f"<section id={section} data-digest=" in text
    assert "no worker is there".capitalize() in text
    assert len(text) < 1_000_000, "Plotly comes by itself, once"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../../etc/passwd",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/search.db",
        "/.",
        "/page.js",
    ],
)
def test_no_file_of_the_machine_can_be_asked_for(live: LivePage, path: str) -> None:
    with served(live) as port:
        assert ask(port, path) == (404, "there is one page here: /")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed_by_a_request(live: LivePage, method: str) -> None:
    with served(live) as port:
        assert ask(port, method=method)[0] == 501


def test_a_page_of_elsewhere_that_leads_here_is_refused(live: LivePage) -> None:
    with served(live) as port:
        assert ask(port, Host="evil.example")[0] == ask(port, Host="[")[0] == 403
        assert ask(port, Host=f"localhost:{port}")[0] == ask(port, Host=f"[::1]:{port}")[0] == 200


def test_plotly_is_sent_once_and_compressed_for_whoever_takes_that(live: LivePage) -> None:
    with served(live) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("HEAD", "/plotly.js", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        connection.close()
    assert answer.getheader("Content-Encoding") == "gzip" and "max-age" in str(
        answer.getheader("Cache-Control")
    )
    assert int(answer.getheader("Content-Length") or 0) < 2_000_000


def test_only_a_page_that_changed_is_sent_again(live: LivePage, sqlite_url: str) -> None:
    with served(live) as port:
        stamp = stamp_of(ask(port)[1])
        assert ask(port, f"/?since={stamp}") == (204, "")
        change(sqlite_url, 39, state=State.FAILED, accuracy=None, reason="no memory")
        status, text = ask(port, f"/?since={stamp}")
    assert status == 200 and stamp_of(text) != stamp and "no memory" in text


@pytest.fixture
def newest(live: LivePage, sqlite_url: str) -> Iterator[LivePage]:
    """That of whichever study is the newest."""
    follower = StudyFollower(sqlite_url, None, goes_on=True)
    yield LivePage(follower, lambda *_: True, lambda *_: 0)
    follower.close()


def test_the_page_of_no_named_study_is_that_of_the_newest_as_it_appears(
    live: LivePage, newest: LivePage, sqlite_url: str
) -> None:
    with served(newest) as port:
        first = ask(port)[1]
        assert "<title>night</title>" in first and newest.name == "night"
        add_study(sqlite_url, "noon", [0.5, 0.6])
        status, text = ask(port, f"/?since={stamp_of(first)}")
    assert status == 200 and "<title>noon</title>" in text and newest.name == "noon"
    with served(live) as port:
        assert "<title>night</title>" in ask(port)[1], "that of a named study stays"


def test_a_report_that_is_served_without_a_name_goes_on_with_the_newest_study(
    sqlite_url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()

    def look_twice(live: LivePage, _host: str, _port: int, ready: Callable[[str], None]) -> None:
        ready("http://here/")
        for name in ("night", "noon"):
            add_study(sqlite_url, name, [0.5])
            with live.follower.look() as (_, record):
                seen.append(record.name)

    monkeypatch.setattr(serve, "serve", look_twice)
    add_study(sqlite_url, "evening", [0.5])
    assert run(capsys, "report", "--serve", "--storage", sqlite_url).code == 0
    assert seen == ["night", "noon"]


def test_the_database_is_read_every_ten_seconds_at_most(sqlite_url: str) -> None:
    add_study(sqlite_url, "night", [0.5, 0.6])
    follower, moment = StudyFollower(sqlite_url, "night"), [0.0]
    live = LivePage(follower, lambda *_: True, lambda *_: 0, clock=lambda: moment[0])
    live.refresh()
    first = live.page
    change(sqlite_url, 1, state=State.PRUNED)
    for moment[0], is_new in ((9.9, False), (10.1, True)):
        live.refresh()
        assert (live.page is not first) == is_new
    follower.close()


def test_names_and_reasons_cannot_write_into_the_live_page(live: LivePage, sqlite_url: str) -> None:
    change(sqlite_url, 3, state=State.FAILED, reason=EVIL, worker=EVIL, device=EVIL)
    with served(live) as port:
        text = ask(port)[1]
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_database_that_is_away_is_one_line_and_the_page_comes_back(
    live: LivePage, sqlite_url: str, tmp_path: Path
) -> None:
    file, aside = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "aside"
    with served(live) as port:
        stamp = stamp_of(ask(port)[1])
        live.follower.close()  # as after an error; SQLite goes on reading a file that was moved away
        file.rename(aside)
        status, line = ask(port, f"/?since={stamp}")
        assert (status, line.count("\n")) == (503, 0) and line.startswith("no database")
        assert ask(port)[0] == 200, "who opens the page meanwhile has the last one"
        aside.rename(file)
        assert ask(port, f"/?since={stamp}")[0] == 204


def test_a_page_opened_while_the_database_is_away_is_one_line(live: LivePage, sqlite_url: str) -> None:
    Path(sqlite_url.removeprefix("sqlite:///")).rename(Path(sqlite_url.removeprefix("sqlite:///") + ".aside"))
    with served(live) as port:
        status, text = ask(port)
    assert status == 200 and "class='live away' role=status>no database" in text and "<section" not in text


def of_a_minute(number: int, start: float, state: State = State.COMPLETED, **more: Any) -> Candidate:
    """A trial that began so many minutes after the study."""
    begun = BEGAN + timedelta(minutes=start)
    return trial(number, state, **{"proposed_at": begun, "finished_at": begun + timedelta(minutes=1)} | more)


@pytest.mark.parametrize("fate", ["stopped", "power cut", "second stage", "short"])
def test_what_is_left_is_reckoned_without_the_time_in_which_no_trial_ran(fate: str) -> None:
    """A minute a trial, 20 in the evening and 5 after a break; 75 more take an hour and a quarter."""
    away = 4 if fate == "short" else 12 * 60
    rows = [of_a_minute(i, i + (away if i >= 20 else 0)) for i in range(25)]
    found = report_data(rows)
    if fate == "power cut":  # noticed by who goes on
        end = BEGAN + timedelta(minutes=20 + away)
        found = replace(found, rows=[*rows, of_a_minute(25, 20, State.LOST, finished_at=end)])
    if fate == "second stage":
        entry = RungEntry(rows[0].id, Stage.FINALS, 64, 0)
        final = replace(
            trained(entry, 0.9), seconds=43_000.0, finished_at=BEGAN + timedelta(minutes=19 + away)
        )
        plan = finish_plan.make_plan(config(), None, epochs=64)
        found = replace(found, second=SecondStage(plan, rows, [final], [], 100))
    busy = WorkerRow("one", None, Running("one", "cpu", 26, 1_000, 1_000, 1, 0.5, 10.0))
    tally = dict.fromkeys(State, 0) | {State.COMPLETED: 25}
    state = RunState(replace(found.record, trials=100), tally, [busy], None, True, "")
    assert ">about 1 h 15 min</b>" in live_report.now(found, state)


def test_serving_a_study_that_is_not_there_is_refused_before_anything_is_served(
    sqlite_url: str, capsys: Capture
) -> None:
    add_study(sqlite_url, "night", [0.5])
    result = run(capsys, "report", "nigth", "--serve", "--storage", sqlite_url)
    assert result.code == 2 and "did you mean 'night'" in result.one_line


@pytest.mark.parametrize(
    ("flags", "says"),
    [(("--port", "1"), "are of --serve"), (("--serve", "--out", "x.html"), "one of the two"),
     (("--serve", "--host", "203.0.113.9", "--port", "0"), "--host 203.0.113.9: ")],
)  # fmt: skip
def test_flags_of_a_served_report_that_do_not_go_together_are_refused(
    sqlite_url: str, capsys: Capture, flags: tuple[str, ...], says: str
) -> None:
    add_study(sqlite_url, "night", [0.5])
    result = run(capsys, "report", "night", *flags, "--storage", sqlite_url)
    assert result.code == 2 and says in result.one_line


def test_a_port_in_use_is_said_with_what_to_do(live: LivePage, sqlite_url: str, capsys: Capture) -> None:
    with served(live) as port:
        result = run(capsys, "report", "night", "--serve", "--port", port, "--storage", sqlite_url)
    assert result.code == 5 and "choose another --port" in result.one_line


@pytest.mark.browser
def test_the_live_page_renews_itself_on_a_phone_and_keeps_the_readers_place(
    live: LivePage, sqlite_url: str, tmp_path: Path
) -> None:
    file, aside = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "aside"
    top = "document.querySelector('tr.opened').getBoundingClientRect().top"
    change(sqlite_url, 39, state=State.RUNNING, accuracy=None)
    with served(live) as port, open_page(390, 800) as (page, failed):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.locator("html[data-drawn]").wait_for(state="attached")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "the page scrolls sideways"
        page.locator("#search .switch button", has_text="wall time").click()
        page.locator("#trials-state").select_option(label="completed")
        page.locator("#trials-table tr.trial").nth(3).click()
        page.locator("tr.opened").scroll_into_view_if_needed()
        page.evaluate("document.activeElement.blur()")
        before = page.evaluate(top)
        change(sqlite_url, 39, state=State.COMPLETED, accuracy=0.95, worker=EVIL)
        page.evaluate("window.live()")
        page.locator("#live", has_text="best 95.00% (trial 39)").wait_for()
        assert page.locator("#winner h2").inner_text() == "The winner: trial 39"
        assert abs(page.evaluate(top) - before) < 2, "the reader's place moved"
        assert page.locator("#trials-state option:checked").inner_text() == "completed"
        assert page.locator("tr.opened").count() == 1
        pressed = page.locator("#search .switch button[aria-pressed=true]").all_inner_texts()
        assert "wall time" in pressed
        title = "document.querySelector('#search .plot').layout.xaxis.title.text"
        assert "wall" in page.evaluate(title)
        assert page.evaluate("document.querySelectorAll('#search .plot .point').length") > 0
        assert failed == []
        live.follower.close()
        file.rename(aside)
        page.evaluate("window.live()")
        page.locator("#live.away", has_text="no database").wait_for()
        aside.rename(file)
        page.evaluate("window.live()")
        page.locator("#live:not(.away)", has_text="best 95.00%").wait_for()
    assert all("503" in one for one in failed), failed


@pytest.mark.browser
def test_a_live_page_that_was_opened_before_the_first_trial_shows_those_that_come(
    newest: LivePage, sqlite_url: str
) -> None:
    record = add_study(sqlite_url, "noon", [])
    with served(newest) as port, open_page() as (page, failed):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.locator("html[data-drawn]").wait_for(state="attached")
        assert page.title() == "noon" and page.locator("#trials").count() == 0
        add_trials(sqlite_url, record, [Trial(0.5), Trial(0.625)])
        page.evaluate("window.live()")
        page.locator("#live", has_text="best 62.50% (trial 1)").wait_for()
        assert page.locator("#trials-table tr.trial").count() == 2
        plots = page.locator(".plot").count()
        assert plots > 0
        page.locator(".plot:has(.main-svg)").nth(plots - 1).wait_for(state="attached")
        page.evaluate("document.dispatchEvent(new CustomEvent('trial', {detail: 0}))")
        assert page.locator("tr.opened").count() == 1
        assert failed == []


@pytest.mark.browser
def test_a_live_page_that_was_opened_during_an_outage_becomes_the_report(
    live: LivePage, sqlite_url: str, tmp_path: Path
) -> None:
    file, aside = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "aside"
    file.rename(aside)
    with served(live) as port, open_page() as (page, _):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.locator("#live.away", has_text="no database").wait_for()
        aside.rename(file)
        page.evaluate("window.live()")
        page.locator("#winner h2", has_text="The winner: trial 39").wait_for()


@pytest.mark.browser
def test_the_page_of_another_study_is_loaded_as_a_whole(newest: LivePage, sqlite_url: str) -> None:
    with served(newest) as port, open_page() as (page, failed):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        page.locator("html[data-drawn]").wait_for(state="attached")
        assert page.title() == "night"
        add_study(sqlite_url, "noon", [0.5, 0.625])
        page.evaluate("window.live()")
        page.locator("#live", has_text="best 62.50% (trial 1)").wait_for()
        page.locator("html[data-drawn]").wait_for(state="attached")
        assert page.title() == "noon"
        assert page.locator("#trials-table tr.trial").count() == 2
        assert failed == []
