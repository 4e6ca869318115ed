"""Draw the house from its imports: `python docs/architecture.py` writes docs/architecture.png.

A box is a package, or a module that is none, with its modules and lines of code. An arrow is an import; it is left out
where other arrows lead the same way. Every arrow points down: `LAYERS` is the order from the ground up, and
tests/test_architecture.py holds the code to it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("errors",),
    ("trouble",),
    ("schema", "files", "cli"),
    ("workspace", "data"),
    ("labels", "inference"),
    ("training", "landmarks", "demo"),
    ("console", "classical", "export"),
    ("evaluation",),
    ("config",),
    ("fingerprint", "comparison"),
    ("figures",),
    ("tracking",),
    ("stages",),
    ("study",),
    ("benchmarks",),
)
"""Packages from the ground up; one imports those below and none beside it."""

Graph = Mapping[str, set[str]]


def modules() -> Iterator[Path]:
    """Every module with code, relative to the repository."""
    for folder in ("pipeline", "stages", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                yield path.relative_to(ROOT)


def package_of(module: Path) -> str:
    """`data` of pipeline/data/fer.py, `files` of pipeline/files.py, `stages` of stages/train.py."""
    top, second, *_ = module.with_suffix("").parts
    return second if top == "pipeline" else top


def imports(module: Path) -> set[Path]:
    """The modules of this repository that a module names in its imports, wherever in it they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    paths = {Path(*name.split(".")).with_suffix(".py") for name in names}
    return {path for path in paths if (ROOT / path).is_file()}


def packages() -> Graph:
    """Which packages each package imports."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        found = graph.setdefault(package_of(module), set())
        found |= {package_of(path) for path in imports(module)}
    return {package: found - {package} for package, found in graph.items()}


def reduced(graph: Graph) -> Graph:
    """The graph without the edges that a longer path stands for."""

    def below(name: str) -> set[str]:
        return graph[name].union(*(below(other) for other in graph[name]))

    return {
        name: {other for other in found if not any(other in below(third) for third in found - {other})}
        for name, found in graph.items()
    }


def places() -> dict[str, tuple[float, float]]:
    """Where the middle of each package's box stands: the layers from bottom to top."""
    return {
        name: ((place + 0.5) / len(layer), float(height))
        for height, layer in enumerate(LAYERS)
        for place, name in enumerate(layer)
    }


def draw_box(axis: Axes, name: str, at: tuple[float, float]) -> None:
    inside = [module for module in modules() if package_of(module) == name]
    lines = sum(len((ROOT / module).read_text(encoding="utf-8").splitlines()) for module in inside)
    words = [] if len(inside) == 1 else [module.stem for module in inside]
    rows = [" ".join(words[start : start + 8]) for start in range(0, len(words), 8)]
    axis.annotate(
        "\n".join([f"{name} ({lines:,} lines)", *rows]), at, ha="center", va="center", fontsize=8, zorder=3,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "#eef4fa", "edgecolor": "#0072B2"},
    )  # fmt: skip


def main() -> None:
    from pipeline.figures.canvas import canvas

    at = places()
    with canvas(ROOT / "docs/architecture.png", 9, 10) as figure:
        axis = figure.subplots()
        axis.set(xlim=(0, 1), ylim=(-0.6, len(LAYERS) - 0.4))
        axis.axis("off")
        for name, below in reduced(packages()).items():
            for other in below:
                (x, y), (left, top) = at[name], at[other]
                arrow = {"arrowstyle": "-|>", "color": "#888888", "shrinkA": 0, "shrinkB": 0}
                axis.annotate("", (left, top + 0.3), (x, y - 0.2), zorder=1, arrowprops=arrow)
        for name, place in at.items():
            draw_box(axis, name, place)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
