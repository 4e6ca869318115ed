"""Draw the house from its imports: `python docs/architecture.py` writes docs/architecture.png.

A box is a package, or a module that is none, with its modules. An arrow is an import; it is left out
where other arrows lead the same way. Every arrow points down: `LAYERS` is the order from the ground up, and
tests/test_architecture.py holds the code to it.
"""

from __future__ import annotations

import ast
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/architecture.png"
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

LETTERS, MARGIN = 118, 8
"""Letters that a line of the picture has room for, and those that a box leaves free beside its own."""
LINE, PADDING, GAP = 0.155, 0.4, 1.4
"""Height of a line in inches; space within a box and between two layers, in lines."""

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


def texts() -> dict[str, str]:
    """What each package's box says, in lines as long as its layer leaves room for."""
    found = {}
    for layer in LAYERS:
        for name in layer:
            inside = [module for module in modules() if package_of(module) == name]
            names = [] if len(inside) == 1 else textwrap.wrap(
                " ".join(module.stem for module in inside), LETTERS // len(layer) - MARGIN
            )  # fmt: skip
            found[name] = "\n".join([name, *names])
    return found


def places(said: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """For each package the middle of its box and half its height, in lines of text: the layers from bottom to top."""
    at, ground = {}, 0.0
    for layer in LAYERS:
        highest = max(said[name].count("\n") + 1 for name in layer)
        for place, name in enumerate(layer):
            half = (said[name].count("\n") + 1) / 2 + PADDING
            at[name] = ((place + 0.5) / len(layer), ground + highest / 2 + PADDING, half)
        ground += highest + 2 * PADDING + GAP
    return at


def description() -> str:
    """What the picture shows, as its file says: by this a test knows that it is of the code as it is."""
    arrows = {name: sorted(below) for name, below in reduced(packages()).items()}
    return json.dumps({"boxes": texts(), "arrows": arrows}, sort_keys=True)


def main() -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from pipeline.figures.canvas import canvas

    said = texts()
    at = places(said)
    top = max(y + half for _, y, half in at.values())
    with canvas(PICTURE, 9, LINE * (top + 1)) as figure:
        axis = figure.subplots()
        axis.set(xlim=(0, 1), ylim=(-0.5, top + 0.5))
        axis.axis("off")
        for name, below in reduced(packages()).items():
            for other in below:
                (x, y, half), (left, under, height) = at[name], at[other]
                arrow = {"arrowstyle": "-|>", "color": "#888888", "shrinkA": 0, "shrinkB": 0}
                axis.annotate("", (left, under + height), (x, y - half), zorder=1, arrowprops=arrow)
        for name, (x, y, _) in at.items():
            box = {"boxstyle": "round,pad=0.4", "facecolor": "#eef4fa", "edgecolor": "#0072B2"}
            axis.annotate(said[name], (x, y), ha="center", va="center", fontsize=8, zorder=3, bbox=box)
    about = PngInfo()
    about.add_text("Description", description())
    with Image.open(PICTURE) as picture:
        picture.load()
        picture.save(PICTURE, pnginfo=about)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import click

    from pipeline import cli

    cli.run(click.Command("python docs/architecture.py", callback=main, help=__doc__))
