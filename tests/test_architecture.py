"""The house: every import points down, stages do not know each other, and the picture shows it."""

from __future__ import annotations

import ast
import importlib.util
import re
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

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
    wrong = [(name, other) for name, found in graph.items() for other in found if height[other] >= height[name]]
    assert wrong == []


def test_the_picture_is_of_the_code_as_it_is(house: ModuleType) -> None:
    with Image.open(house.PICTURE) as picture:
        assert picture.info["Description"] == house.description(), "run `python docs/architecture.py`"


def test_no_circle_of_modules(house: ModuleType) -> None:
    TopologicalSorter({module: house.imports(module) for module in house.modules()}).prepare()


def test_stages_do_not_import_each_other(house: ModuleType) -> None:
    stages = [module for module in house.modules() if module.parts[0] == "stages"]
    assert len(stages) == 9
    assert [(stage, path) for stage in stages for path in house.imports(stage) if path in stages] == []


def test_the_product_imports_no_tests(house: ModuleType) -> None:
    for module in house.modules():
        text = (ROOT / module).read_text(encoding="utf-8")
        assert "import tests" not in text, module
        assert "from tests" not in text, module


def test_no_test_imports_another_test() -> None:
    """What several of them need is a helper of its own, so that every test file can be read and moved alone."""
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                assert node.level == 0, f"{file} imports by a relative name"
            found = [name for name in modules if re.search(r"\b(test_\w+|conftest)\b", name)]
            assert [name for name in found if name.startswith("tests.")] == [], file
