"""What `search status` says of a study."""

import pytest
from command import run
from worker_samples import make_config, make_study


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["pause"], "paused by `search pause`"),
        (["stop"], "stopped by `search stop`"),
        (["stop", "--now"], "stopped by `search stop --now`"),
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
    onward = f"`search resume bench --storage {sqlite_url}` goes on"
    assert f"{words}: {onward}" in run(capsys, "status", *store).out.splitlines()
