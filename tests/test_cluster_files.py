"""docs/slurm.sh and docs/kubernetes.yaml: valid, and the commands and variables in them are the program's."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from command import remember
from faults import wait_until

from search.cli import cli
from search.commands import options
from search.study.config import open_images_from, split_images
from trainer.data import dataset as datasets

ROOT = Path(__file__).parent.parent
SLURM = ROOT / "docs/slurm.sh"
KUBERNETES = ROOT / "docs/kubernetes.yaml"
JOB: dict[str, Any] = yaml.safe_load(KUBERNETES.read_text())
POD: dict[str, Any] = JOB["spec"]["template"]["spec"]
WORKER: dict[str, Any] = POD["containers"][0]


def tool(name: str) -> str:
    """A program on the PATH or beside this Python."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def seconds(given: str) -> float:
    return float(options.Duration().convert(given, None, None))


def test_the_script_for_slurm_is_one_that_bash_reads() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


def test_shellcheck_finds_nothing_in_the_script_for_slurm() -> None:
    done = subprocess.run([tool("shellcheck"), str(SLURM)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_slurm_s_own_lines_stand_before_the_first_command_or_it_would_not_read_them() -> None:
    lines = SLURM.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert [i for i, line in enumerate(lines) if line.startswith("#SBATCH") and i > first] == []


def test_a_worker_on_slurm_has_ended_before_its_time_is_up() -> None:
    before = re.search(r"--signal=B:TERM@(\d+)", SLURM.read_text())
    grace = re.search(r"SEARCH_GRACE:-(\w+)", SLURM.read_text())
    assert before and grace and seconds(grace[1]) + 30 <= float(before[1])


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with a `search` of this test's own on the PATH."""
    program = tmp_path / "search"
    program.write_text(
        f"""#!/bin/bash
echo "$@" > {tmp_path}/argv
trap 'echo drains >> {tmp_path}/argv; exit "${{ENDS:-143}}"' TERM
[ -n "${{AT_ONCE:-}}" ] && exit "$AT_ONCE"
echo ready >> {tmp_path}/argv
while :; do sleep 0.02; done
"""
    )
    program.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SEARCH_STORAGE": "postgresql://search@db/search",
        "SLURM_ARRAY_JOB_ID": "17",
        "SLURM_ARRAY_TASK_ID": "3",
    }


@pytest.mark.parametrize(("worker", "job"), [(0, 0), (5, 5), (4, 4)])
def test_a_job_on_slurm_ends_as_its_worker_does(
    worker: int, job: int, slurm: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        ["bash", str(SLURM), "night"], env=slurm | {"AT_ONCE": str(worker)}, cwd=tmp_path, check=False
    )
    assert done.returncode == job
    assert (tmp_path / "argv").read_text().split() == ["worker", "--study", "night", "--name", "slurm-17-3"]


def test_a_job_that_slurm_ends_lets_its_worker_drain(slurm: dict[str, str], tmp_path: Path) -> None:
    process = remember(subprocess.Popen(["bash", str(SLURM), "night"], env=slurm, cwd=tmp_path))
    said = tmp_path / "argv"
    wait_until(lambda: said.exists() and "ready" in said.read_text(), "a worker", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert said.read_text().endswith("drains\n")


def test_without_a_study_or_a_store_a_job_says_what_is_missing(slurm: dict[str, str], tmp_path: Path) -> None:
    for arguments, left_out in (([], ""), (["night"], "SEARCH_STORAGE")):
        environment = {key: value for key, value in slurm.items() if key != left_out}
        done = subprocess.run(
            ["bash", str(SLURM), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0 and ("STUDY" in done.stderr or "SEARCH_STORAGE" in done.stderr)


def test_a_job_whose_store_stands_in_a_file_names_no_other_store(slurm: dict[str, str]) -> None:
    del slurm["SEARCH_STORAGE"]
    done = subprocess.run(
        ["bash", str(SLURM), "night"],
        env=slurm | {"SEARCH_STORAGE_FILE": "/home/me/store", "AT_ONCE": "0"},
        check=False,
    )
    assert done.returncode == 0


def test_the_job_for_kubernetes_is_one_by_its_schema() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="it is not installed")
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(JOB, version, strict=True)
    broken = JOB | {"spec": JOB["spec"] | {"parallelism": "many"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_the_pod_runs_a_command_that_there_is_and_gives_variables_that_it_reads() -> None:
    program, command, *arguments = WORKER["command"]
    assert program == "search"
    with cli.commands[command].make_context(command, list(arguments)):
        pass
    read = {one.envvar for one in cli.commands[command].params if isinstance(one, click.Option)}
    assert {one["name"] for one in WORKER["env"] if one["name"].startswith("SEARCH_")} <= read


def test_the_pod_finds_images_in_its_cache_whose_folder_is_on_no_node(digits: Path, tmp_path: Path) -> None:
    prepared = datasets.load("digits", digits)
    config, _ = split_images(prepared, None, None, 0)
    config = config.model_copy(update={"spec": "folder:/home/somebody/pictures"})
    shutil.copytree(digits / "cache", tmp_path / "cache")  # as its init container does
    here = {"/data": str(tmp_path)}
    given = {one["name"]: here.get(one.get("value")) for one in WORKER["env"]}
    images = open_images_from(
        config, Path(str(given["SEARCH_DATA_DIR"])), None, given.get("SEARCH_DATA_FROM")
    )
    assert images.dataset.digest == prepared.digest


def test_the_pod_waits_for_the_grace_of_its_worker() -> None:
    grace = next(one["value"] for one in WORKER["env"] if one["name"] == "SEARCH_GRACE")
    assert seconds(grace) + 30 <= POD["terminationGracePeriodSeconds"]


def test_the_pod_holds_no_password_and_nothing_that_it_can_write_but_its_volumes() -> None:
    assert "@" in WORKER["env"][0]["value"] and ":" not in WORKER["env"][0]["value"].split("://")[1]
    password = next(one for one in WORKER["env"] if one["name"] == "PGPASSWORD")
    assert "value" not in password and password["valueFrom"]["secretKeyRef"]
    for container in (*POD["initContainers"], *POD["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsNonRoot"]
