"""The files for Docker agree with the program and stay on loopback; docs/docker.md proves that they run."""

import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from search.cli import cli
from search.commands import options

ROOT = Path(__file__).parent.parent
PASSWORD = "${POSTGRES_PASSWORD:?set it in .env, see .env.example}"


class Loader(yaml.SafeLoader):
    """Knows Compose's `!reset`."""


Loader.add_constructor("!reset", lambda _loader, _node: "reset")


def services(file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / file).read_text(), Loader)["services"]
    return loaded


COMPOSE = services("docker-compose.yml")
OURS = [name for name, service in COMPOSE.items() if service["image"] == "parsimony"]


def test_every_port_is_published_on_loopback_alone() -> None:
    ports = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_password_comes_from_the_environment_alone() -> None:
    values = [
        (key, value) for service in COMPOSE.values() for key, value in service.get("environment", {}).items()
    ]
    passwords = [value for key, value in values if "PASSWORD" in key]
    assert passwords == [PASSWORD] * len(COMPOSE)
    assert not any("://" in value and ":" in value.split("://")[1] for _, value in values)
    assert "POSTGRES_PASSWORD=" in (ROOT / ".env.example").read_text().splitlines()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", [name for name in OURS if "command" in COMPOSE[name]])
def test_every_service_runs_a_command_that_there_is(name: str) -> None:
    program, command, *arguments = COMPOSE[name]["command"]
    assert program == "search"
    with cli.commands[command].make_context(command, [str(argument) for argument in arguments]):
        pass


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
