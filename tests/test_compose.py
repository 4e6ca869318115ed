"""compose.yaml against docker compose, where it is, and against what docs/team.md promises of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clone import ROOT

SECRETS = ("POSTGRES_PASSWORD", "S3_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")


COMPOSE = ("docker", "compose")


def _has_compose() -> bool:
    version = [*COMPOSE, "version"]
    return bool(shutil.which("docker")) and not subprocess.run(version, capture_output=True, check=False).returncode


NO_COMPOSE = pytest.mark.skipif(not _has_compose(), reason="there is no `docker compose` here")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def config(folder: Path, **secrets: str) -> subprocess.CompletedProcess[str]:
    """What `docker compose config` makes of compose.yaml with this .env."""
    settings = folder / ".env"
    settings.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    return subprocess.run(
        [*COMPOSE, "--env-file", str(settings), "--file", str(ROOT / "compose.yaml"), "config", "--format", "json"],
        env={name: value for name, value in os.environ.items() if name not in SECRETS},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@NO_COMPOSE
def test_docker_compose_accepts_it_and_opens_ports_on_loopback_alone(tmp_path: Path) -> None:
    answer = config(tmp_path, **{name: f"secret of {name}" for name in SECRETS})
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)["services"]
    ports = [port for service in found.values() for port in service.get("ports", [])]
    assert sorted(port["target"] for port in ports) == [5000, 9000]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


@NO_COMPOSE
@pytest.mark.parametrize("missing", SECRETS)
def test_it_does_not_start_without_a_secret(tmp_path: Path, missing: str) -> None:
    answer = config(tmp_path, **{name: "x" for name in SECRETS if name != missing})
    assert answer.returncode != 0
    assert missing in answer.stderr


def test_every_secret_comes_from_the_environment_and_is_required(services: dict[str, Any]) -> None:
    values = {
        (name, key): str(value)
        for name, service in services.items()
        for key, value in service["environment"].items()
        if re.search("PASSWORD|SECRET", key)
    }
    required = {re.fullmatch(r"\$\{(\w+):\?.+\}", value) for value in values.values()}
    assert None not in required
    assert {found[1] for found in required if found} == set(SECRETS)
    page = (ROOT / "docs/team.md").read_text()
    (listed,) = re.findall(r"^for name in (.+); do$", page, flags=re.MULTILINE)
    assert sorted(listed.split()) == sorted(SECRETS)


def test_ports_are_open_on_loopback_alone_and_commands_are_those_of_the_tests(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in ("store", "mlflow"):
        (command,) = services[service]["command"]
        assert (ROOT / "examples/team" / Path(command).name).exists()
