"""The files for Docker agree with the program and stay on loopback; docs/docker.md proves that they run."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from search.cli import cli
from search.commands import options
from search.optuna_adapter import dashboard

ROOT = Path(__file__).parent.parent


class Loader(yaml.SafeLoader):
    """Knows Compose's `!reset`."""


Loader.add_constructor("!reset", lambda _loader, _node: "reset")


def services(file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / file).read_text(), Loader)["services"]
    return loaded


COMPOSE = services("docker-compose.yml")
VOLUMES = yaml.load((ROOT / "docker-compose.yml").read_text(), Loader)["volumes"]
OURS = [name for name, service in COMPOSE.items() if service["image"] == "parsimony"]
NGINX = (ROOT / "docker/nginx.conf").read_text()


def words_of(command: list[str]) -> list[str]:
    """The command itself, out of a shell that waits for something before."""
    return command[2].partition("exec ")[2].split() if command[0] == "sh" else command


def test_database_and_proxy_alone_have_ports_and_those_on_loopback_unless_it_is_asked_for() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE.items() if service.get("ports")}
    assert set(ports) == {"database", "proxy"}
    assert all(port.startswith("127.0.0.1:") for port in ports["database"])
    assert all(port.startswith("${SEARCH_PROXY_ADDRESS:-127.0.0.1}:") for port in ports["proxy"])


def test_no_password_is_in_a_file_an_environment_or_a_url() -> None:
    values = [
        (name, key, value)
        for name, service in COMPOSE.items()
        for key, value in service.get("environment", {}).items()
    ]
    passwords = {(name, key): value for name, key, value in values if "PASS" in key}
    # Of databases from before passwords were made: read by the container that makes them, which then ends.
    assert passwords.pop(("secrets", "POSTGRES_PASSWORD")) == "${POSTGRES_PASSWORD:-}"
    assert set(passwords.values()) == {"/secrets/password", "/secrets/pgpass"}  # files
    assert not any("://" in value and ":" in value.split("://")[1] for _, _, value in values)
    written = [line for line in (ROOT / ".env.example").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in written if line] == []
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_container_is_a_normal_user_s_and_writes_to_volumes_and_memory_alone() -> None:
    for name, service in COMPOSE.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name
    users = {name: service["user"] for name, service in COMPOSE.items()}
    assert users.pop("secrets") == "root"  # it gives files to others, has no network, and ends
    assert COMPOSE["secrets"]["network_mode"] == "none" and COMPOSE["secrets"]["restart"] == "no"
    assert set(users.values()) == {"1000:1000", "postgres"}


def test_each_container_sees_its_own_secrets_alone() -> None:
    seen = {
        name: [
            volume.split(":")[0] for volume in service.get("volumes", []) if "secrets" in volume.split(":")[0]
        ]
        for name, service in COMPOSE.items()
    }
    seen.pop("secrets")
    assert seen.pop("database") == ["secrets-database"]
    assert seen.pop("proxy") == ["secrets-proxy"]
    assert set(map(tuple, seen.values())) == {("secrets-search",)}
    assert all(
        volume.endswith(":ro")
        for name, service in COMPOSE.items() if name != "secrets"
        for volume in service.get("volumes", []) if volume.startswith("secrets")
    )  # fmt: skip


def test_the_proxy_has_a_login_and_tls_and_leads_to_services_that_there_are() -> None:
    assert NGINX.count("listen") == NGINX.count("ssl;") == 2
    assert "auth_basic_user_file" in NGINX and "auth_basic off" not in NGINX
    assert NGINX.count("location") == NGINX.count("if ($refused) { return 403; }") == 2
    for name, port in re.findall(r"set \$\w+ (\w+):(\d+);", NGINX):
        assert port in words_of(COMPOSE[name]["command"])


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Runs docker/secrets.sh in a folder of its own; its files, and what it said. Nothing is given away."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    script = (ROOT / "docker/secrets.sh").read_text()
    assert script.count("cd /secrets") == 1 and script.count("\nchown -R ") == 2
    script = script.replace("cd /secrets", f"mkdir -p {tmp_path}/secrets; cd {tmp_path}/secrets")
    (tmp_path / "secrets.sh").write_text(script.replace("\nchown -R ", "\n: "))

    def run(*arguments: str, **environment: str) -> dict[str, str]:
        done = subprocess.run(
            ["sh", str(tmp_path / "secrets.sh"), *arguments], check=True, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "CERTIFICATE_NAME": "search.example.org"} | environment,
        )  # fmt: skip
        files = [path for path in (tmp_path / "secrets").rglob("*") if path.is_file()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        found = {str(path.relative_to(tmp_path / "secrets")): path.read_text() for path in files}
        return found | {"said": done.stdout}

    return run


def test_passwords_are_made_once_and_differ(made: Callable[..., dict[str, str]]) -> None:
    first = made()
    passwords = [first[f"all/{who}-password"] for who in ("owner", "reader", "database")]
    assert len(set(passwords)) == 3 and all(re.fullmatch(r"[0-9a-f]{32}", one) for one in passwords)
    assert first["said"] == "" and made() == first
    shown = made("show")["said"].split()
    assert dict(zip(shown[::2], shown[1::2], strict=True)) == dict(
        zip(("owner", "reader", "database"), passwords, strict=True)
    )
    assert first["search/pgpass"] == f"*:*:*:search:{passwords[2]}\n"
    assert first["database/password"] == passwords[2]
    assert not any(password in first["proxy/logins"] for password in passwords)
    assert set(first) == {
        "all/owner-password", "all/reader-password", "all/database-password", "database/password",
        "search/pgpass", "proxy/logins", "proxy/tls.crt", "proxy/tls.key", "said",
    }  # fmt: skip


def test_a_database_of_before_keeps_its_own_password(made: Callable[..., dict[str, str]]) -> None:
    found = made(POSTGRES_PASSWORD=r"p@ss:w\rd?")
    assert found["database/password"] == r"p@ss:w\rd?"
    assert found["search/pgpass"] == "*:*:*:search:" + r"p@ss\:w\\rd?" + "\n"


@pytest.mark.parametrize("name", [name for name in OURS if "command" in COMPOSE[name]])
def test_every_service_runs_a_command_that_there_is(name: str) -> None:
    program, command, *arguments = words_of(COMPOSE[name]["command"])
    assert program == "search"
    with cli.commands[command].make_context(command, [str(argument) for argument in arguments]):
        pass


def test_what_people_upload_in_the_dashboard_is_kept_in_a_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[object]()
    monkeypatch.setattr(dashboard, "serve", lambda *arguments: given.extend(arguments))
    service = COMPOSE["dashboard"]
    words = words_of(service["command"])[1:]
    CliRunner().invoke(cli, words, env=service["environment"], catch_exceptions=False)
    (folder,) = (one for one in given if isinstance(one, Path))
    mounts = {Path(name.partition(":")[0]): "" for name in service["tmpfs"]}
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        mounts[Path(target)] = source if not volume.endswith(":ro") else ""
    kept = next((mounts[place] for place in (folder, *folder.parents) if place in mounts), "")
    assert kept in VOLUMES, f"{folder} is not kept: {mounts}"
    # A new volume has the owner that the folder has in the image, else root.
    made = re.search(r"--owner search --group search (.*)", (ROOT / "Dockerfile").read_text())
    assert made and str(folder) in made[1].split()


def test_every_variable_is_one_that_a_command_reads() -> None:
    parameters = [parameter for command in cli.commands.values() for parameter in command.params]
    read = {parameter.envvar for parameter in parameters if isinstance(parameter, click.Option)}
    given = {key for name in OURS for key in COMPOSE[name]["environment"] if key.startswith("SEARCH_")}
    assert given == {"SEARCH_STORAGE", "SEARCH_DATA_DIR", "SEARCH_GRACE", "SEARCH_WORKERS"}
    assert given <= read


def test_a_worker_has_ended_by_itself_before_docker_kills_it() -> None:
    seconds = options.Duration()
    worker = COMPOSE["worker"]
    grace = seconds.convert(worker["environment"]["SEARCH_GRACE"], None, None)
    assert worker["init"]
    assert grace + 20 <= seconds.convert(worker["stop_grace_period"], None, None)


def test_the_override_takes_the_gpu_from_every_service_that_reserves_one() -> None:
    override = services("docker-compose.cpu.yml")
    assert set(override) == {name for name, service in COMPOSE.items() if "deploy" in service}
    assert all(service == {"deploy": "reset"} for service in override.values())


def test_the_image_is_given_every_package_and_nothing_else_of_the_folder() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {pattern.removesuffix("*") for pattern in patterns}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert kept == packages | {"pyproject.toml", "constraints.txt", "README.md"}


def required(names: list[str]) -> set[str]:
    """These distributions, and those that they require here without an extra."""
    found, left = set[str](), list(names)
    while left:
        name = canonical(left.pop())
        if name not in found and (there := [*metadata.distributions(name=name)]):
            found.add(name)
            left += [one for one in there[0].requires or () if "extra ==" not in one]
    return found


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_image_has_the_programs_that_examples_run_in_it() -> None:
    pytest.importorskip("distributed", reason="it is not installed")
    program = re.search(r'python -c "(import tomllib.*?)" *>', (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert program
    done = subprocess.run(
        [sys.executable, "-c", program[1].replace("\\\n", "")],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    given = required(done.stdout.split("\n")[:-1])
    page = (ROOT / "docs/cluster.md").read_text()
    programs = set(re.findall(r'worker_command=\["([\w-]+)"', page))
    assert programs == {"dask"}
    for entry in metadata.entry_points(group="console_scripts", name=programs.pop()):
        assert entry.dist and canonical(entry.dist.name) in given


@pytest.mark.parametrize("page", ["docs/cluster.md", "docs/kubernetes.yaml"])
def test_a_page_that_names_an_image_says_how_it_is_built(page: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / page).read_text()
    assert set(re.findall(r"\bparsimony:[\w.]*\w", text)) == {f"parsimony:{version}"}
    assert f"docker build --tag parsimony:{version} ." in text
