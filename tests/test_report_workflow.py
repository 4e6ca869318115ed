"""The report on a pull request: the steps of the workflow, run here by the shell that GitHub runs them with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clone import ROOT, Clone

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/report.yml").read_text(encoding="utf-8"))
JOB: dict[str, Any] = WORKFLOW["jobs"]["report"]
STEPS = {step["name"]: step["run"] for step in JOB["steps"] if "run" in step}


def test_it_runs_on_pull_requests_and_may_only_read() -> None:
    assert [*WORKFLOW[True]] == ["pull_request"], "YAML reads `on` as true"
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert JOB["defaults"]["run"]["shell"] == "bash"


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_shell_without_foreign_text(name: str) -> None:
    """What somebody writes into a pull request reaches no shell: values come by the environment."""
    subprocess.run(["bash", "-n"], input=STEPS[name], text=True, check=True)
    assert "${{" not in STEPS[name]
    given = {*JOB["env"], "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "RESULTS_BEFORE", "PWD"}
    assigned = set(re.findall(r"^\s*(\w+)=", STEPS[name], flags=re.MULTILINE))
    assert set(re.findall(r"\$\{?([A-Za-z_]\w*)", STEPS[name])) <= given | assigned


@pytest.mark.slow
@pytest.mark.servers
def test_a_change_of_a_rate_is_reported(finished: Clone, tmp_path: Path) -> None:
    clone = finished.copy(tmp_path / "fer")
    before = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    clone.set({"models.baseline.learning_rate": 0.02})
    clone.commit("A pull request")
    after = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    files = {name: tmp_path / name.lower() for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
    given = JOB["env"] | {"BEFORE": before, "AFTER": after} | {name: str(file) for name, file in files.items()}
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, step in STEPS.items():
        if name != "Set up":
            written = files["GITHUB_ENV"].read_text() if files["GITHUB_ENV"].exists() else ""
            more = dict(line.split("=", 1) for line in written.splitlines())
            clone.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step, **given | more)
    summary = files["GITHUB_STEP_SUMMARY"].read_text()
    accuracy, parameters, plot, every = re.split(r"^## .*\n|<details>", summary, flags=re.MULTILINE)[1:]
    assert "models.baseline.learning_rate" in parameters
    assert "0.02" in parameters
    assert "w2v_cosine" in plot
    assert "baseline-0.json" in accuracy + every
    assert "w2v_cosine-0.json" not in every, "it did not change"
    assert accuracy.count("\n") < 15
    assert "<h1>" in (clone.path / "report.html").read_text()
