"""What `search status` says of a study."""

import pytest
from command import run
from worker_samples import make_config, make_study


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["pause"], "paused by `search pause`: `search resume bench` goes on"),
        (["stop"], "stopped by `search stop`: `search resume bench` goes on"),
        (["stop", "--now"], "stopped by `search stop --now`: `search resume bench` goes on"),
    ],
)
def test_status_names_the_command_that_halted_a_study_and_the_one_that_goes_on(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    engine, _ = make_study(sqlite_url, make_config(), 3)
    engine.dispose()
    store = ("--storage", sqlite_url)
    assert "goes on" not in run(capsys, "status", *store).out
    assert run(capsys, *command, *store).code == 0
    assert words in run(capsys, "status", *store).out.splitlines()
