"""The house: every import points down, stages do not know each other, and the picture shows it."""

from __future__ import annotations

import importlib.util
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs/architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_import_points_down(house: ModuleType) -> None:
    height = {name: height for height, layer in enumerate(house.LAYERS) for name in layer}
    graph = house.packages()
    assert set(graph) == set(height), "a package has no place in LAYERS"
    wrong = [
        (name, other) for name, found in graph.items() for other in found if height[other] >= height[name]
    ]
    assert wrong == []


def test_no_circle_of_modules(house: ModuleType) -> None:
    TopologicalSorter({module: house.imports(module) for module in house.modules()}).prepare()


def test_stages_do_not_import_each_other(house: ModuleType) -> None:
    stages = [module for module in house.modules() if module.parts[0] == "stages"]
    assert len(stages) == 7
    assert [(stage, path) for stage in stages for path in house.imports(stage) if path in stages] == []


def test_the_product_imports_no_tests(house: ModuleType) -> None:
    for module in house.modules():
        text = (ROOT / module).read_text(encoding="utf-8")
        assert "import tests" not in text, module
        assert "from tests" not in text, module
