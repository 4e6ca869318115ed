"""README and docs against what they speak of: parameters, files, make targets, modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EACH = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])

NAMES = {"models": "<name>", "recipes": "<name>", "labels.words": "<label>"}
"""Sections whose next key the user chooses, or that hold one entry per label: documented once for all."""


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))


def paths(section: dict[str, Any], parent: str = "") -> Iterator[str]:
    """The dotted path of every value, as docs/parameters.md writes it. `options` stays in one piece."""
    for name, value in section.items():
        path = f"{parent}.{NAMES.get(parent, name)}" if parent else name
        if isinstance(value, dict) and name != "options":
            yield from paths(value, path)
        else:
            yield path


def code(page: Path) -> str:
    """What a page gives as code, in blocks and within lines."""
    return "\n".join(re.findall(r"```.*?```|`[^`]+`", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def test_the_parameter_tables_hold_every_key_and_no_other(params: dict[str, Any]) -> None:
    rows = re.findall(r"^\| `([\w.<>]+)` \|", (ROOT / "docs/parameters.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(set(paths(params)))


def test_the_options_of_every_model_are_documented(params: dict[str, Any]) -> None:
    used = {option for model in params["models"].values() for option in model["options"]}
    for page in ("parameters.md", "losses.md"):
        assert used <= set(re.findall(r"`(\w+)`", (ROOT / "docs" / page).read_text()))


@EACH
def test_overrides_change_keys_that_exist(page: Path, params: dict[str, Any]) -> None:
    for key in re.findall(r"-S '?([\w.]+)=", code(page)):
        value: Any = params
        for part in key.split("."):
            assert part in value, f"-S {key}: params.yaml has no such key"
            value = value[part]


@EACH
def test_local_links_resolve(page: Path) -> None:
    links = re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@EACH
def test_make_targets_exist(page: Path) -> None:
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert set(re.findall(r"\bmake ([a-z]+)", code(page))) <= targets


@EACH
def test_modules_exist(page: Path) -> None:
    modules = set(re.findall(r"python -m ((?:stages|benchmarks)\.\w+)", code(page)))
    assert [module for module in modules if find_spec(module) is None] == []


def test_pages_that_the_code_names_exist() -> None:
    files = [ROOT / "params.yaml", ROOT / "dvc.yaml"]
    files += [
        path for folder in ("pipeline", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {page for file in files for page in re.findall(r"docs/\w+\.md", file.read_text(encoding="utf-8"))}
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"](docs/{page.name})" not in readme] == []


@EACH
def test_no_placeholder_is_left(page: Path) -> None:
    """Measured numbers and tables are pasted in from real runs."""
    assert re.findall(r"@@\w+@@", page.read_text(encoding="utf-8")) == []
