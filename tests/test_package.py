"""The package as others install it: a wheel that needs nothing of this folder, on every Python that is supported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.clone import ROOT

PYTHONS = ("3.11", "3.12", "3.13")

BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
IMPORT = """
import importlib, sys
from pathlib import Path

sys.modules["_lzma"] = None
import mlflow, dvc.repo

folder = sys.argv[1]
sys.path.insert(0, folder)  # before this repository, which may be installed in place
for name in sys.argv[2:]:
    where = importlib.import_module(name).__file__
    assert Path(where).is_relative_to(folder), f"{name} is not in the wheel but in {where}"
"""
"""Without `_lzma`, as a Python is that pyenv compiled where liblzma's headers were not installed."""


@pytest.mark.medium
def test_every_module_is_in_the_wheel_and_needs_nothing_that_not_every_python_has(tmp_path: Path) -> None:
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    files = [path for folder in ("pipeline", "stages") for path in (ROOT / folder).rglob("*.py")]
    pages = [*(ROOT / "pipeline").rglob("*.html"), *(ROOT / "pipeline/inference/bundled").iterdir()]
    for path in (*files, *pages, *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))):
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    run(source, BUILD, str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(unpacked)

    assert pages
    assert [page for page in pages if not (unpacked / page.relative_to(ROOT)).is_file()] == []
    names = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files)
    assert "pipeline.figures.canvas" in names
    run(tmp_path, IMPORT, str(unpacked), *names)
    tops = {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"pipeline", "stages"}, "nothing else is installed: no tests, no benchmarks"


def run(folder: Path, *code: str) -> None:
    """Run Python code with its arguments, in a folder that is not the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", *code]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_package_make_ci_and_readme_name_the_same_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (check,) = re.findall(r"-c 'import sys; sys\.exit\((.*)\)'", makefile)
    asked = {}
    for minor in range(10, 16):
        asked[f"3.{minor}"] = eval(check.replace("sys.version_info", f"(3, {minor}, 0)")) is None
    assert [version for version, accepted in asked.items() if accepted] == [*PYTHONS]
    wanted = SpecifierSet(project["requires-python"])
    assert [version for version in asked if f"{version}.0" in wanted] == [*PYTHONS]
    named = [text.rpartition(" ")[2] for text in project["classifiers"] if "Python :: 3." in text]
    assert named == [*PYTHONS]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [*PYTHONS]
    assert "You need Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "3.11, 3.12 or 3.13" in check
