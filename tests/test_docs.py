"""README and docs against what they speak of: parameters, files, make targets, modules, examples."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.__main__ import fer
from pipeline.classical.classifiers import CLASSIFIERS
from pipeline.data.fer import LABELS
from pipeline.evaluation.decoders import DECODERS
from pipeline.labels.targets import SOURCES, TRANSFORMS
from pipeline.labels.truth import LABEL_KINDS
from pipeline.labels.vectors import embed
from pipeline.training.losses import LOSSES
from pipeline.training.method import CHOICES
from tests.clone import ROOT, SMALL, Clone

CARD = ROOT / "pipeline/inference/bundled/README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), CARD]
EACH = pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])

NAMES = {"models": "<name>", "recipes": "<name>", "labels": "<name>", "labels.<name>.words": "<label>"}
"""Sections whose next key the user chooses, or that hold one entry per label: documented once for all."""


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))


def paths(section: dict[str, Any], parent: str = "") -> Iterator[str]:
    """The dotted path of every value, as docs/parameters.md writes it. `options` and choices stay in one piece."""
    for name, value in section.items():
        path = f"{parent}.{NAMES.get(parent, name)}" if parent else name
        if isinstance(value, dict) and name not in ("options", *CHOICES):
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
    models = list(params["models"].values())
    networks = [model for model in models if "loss" in model]
    chosen = {option for model in models for key in CHOICES for option in model.get(key, ())} - {"kind"}
    for page, rows, more in (
        ("parameters.md", models, chosen),
        ("losses.md", networks, set[str]()),
        ("methods.md", [model for model in models if "classifier" in model], set[str]()),
    ):
        used = {option for model in rows for option in model["options"]} | more
        assert used <= set(re.findall(r"`(\w+)(?:: \w+)?`", (ROOT / "docs" / page).read_text()))


@pytest.mark.parametrize("kind", [kind for table in CHOICES.values() for kind in table])
def test_every_kind_of_a_choice_is_documented(kind: str) -> None:
    assert re.search(rf"`\w+: (?:\{{kind: )?{kind}\b|`{kind}`", (ROOT / "docs/methods.md").read_text())
    assert f"{{kind: {kind}}}" in (ROOT / "docs/parameters.md").read_text()


@pytest.mark.parametrize("name", [*LOSSES, *SOURCES, *TRANSFORMS, *DECODERS])
def test_every_loss_target_and_decoder_has_a_row(name: str) -> None:
    assert re.search(rf"^\| `\.?{name}\b", (ROOT / "docs/losses.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", LABEL_KINDS)
def test_every_kind_of_labels_has_a_row(name: str) -> None:
    assert re.search(rf"\| `{re.escape(name)}(?:\d+)?` \|", (ROOT / "docs/methods.md").read_text())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_has_a_row(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|", (ROOT / "docs/methods.md").read_text(), flags=re.MULTILINE)


@EACH
def test_overrides_change_keys_that_exist(page: Path, params: dict[str, Any]) -> None:
    for key in re.findall(r"-S ['\"]?([\w.]+)=", code(page)):
        value: Any = params
        for part in key.split("."):
            assert part in value, f"-S {key}: params.yaml has no such key"
            value = value[part]


@EACH
def test_local_links_resolve(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", prose)
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@EACH
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", code(page))) <= targets


@EACH
def test_modules_exist(page: Path) -> None:
    modules = set(re.findall(r"python -m ((?:stages|benchmarks|resources)\.\w+)", code(page)))
    assert [module for module in modules if find_spec(module) is None] == []


@EACH
def test_commands_exist(page: Path) -> None:
    assert set(re.findall(r"(?<![.\w])fer ([a-z]+)", code(page))) <= set(fer.commands)


def test_pages_that_the_code_names_exist() -> None:
    files = [ROOT / "params.yaml", ROOT / "dvc.yaml"]
    files += [path for folder in ("pipeline", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    named = {page for file in files for page in re.findall(r"docs/\w+\.md", file.read_text(encoding="utf-8"))}
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    names = [page.relative_to(ROOT).as_posix() for page in PAGES[1:]]
    assert [name for name in names if f"]({name})" not in readme] == []


@EACH
def test_no_placeholder_is_left(page: Path) -> None:
    """Measured numbers and tables are pasted in from real runs."""
    assert re.findall(r"@@\w+@@", page.read_text(encoding="utf-8")) == []


def test_the_cosines_of_the_label_words_are_those_of_the_page(params: dict[str, Any]) -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    for name, words in params["labels"].items():
        gram = embed(ROOT / words["vectors"], words["words"]).gram_of(LABELS)
        first, second = np.triu_indices(len(LABELS), 1)
        cosines = gram[first, second]
        closest = [f"{LABELS[first[n]]} - {LABELS[second[n]]} {cosines[n]:.2f}" for n in np.argsort(-cosines)[:3]]
        neutral = np.delete(gram[LABELS.index("neutral")], LABELS.index("neutral")).max()
        row = f"| {', '.join(closest)} | {neutral:.2f} | {cosines.mean():.2f} | {cosines.std():.2f} |"
        assert re.search(rf"^\| `{name}` \|.*{re.escape(row)}$", page, flags=re.MULTILINE), row


class Step(NamedTuple):
    """One step of docs/extend.md: the file it is about, the code for it, the entries (table, name, value) for it.

    language: of the code; `diff` if it is a change of lines that are there.
    """

    file: str
    language: str
    code: str
    entries: list[tuple[str, str, str]]


def steps() -> list[Step]:
    page = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
    step = re.compile(r"^\d\. In `([\w/.]+)`.*?```(\w+)\n(.*?)```(.*?)(?=^\d\. |^#|\Z)", re.MULTILINE | re.DOTALL)
    entry = re.compile(r'`(\w+)`: `"(\w+)": (.+?)`')
    return [
        Step(file, language, textwrap.dedent(code), entry.findall(" ".join(rest.split())))
        for file, language, code, rest in step.findall(page)
    ]


def patched(text: str, diff: str) -> str:
    """The text with the lines of a diff that begin with + added, where those that begin with a space are."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(before) == 1, f"not found once:\n{before}"
    return text.replace(before, "".join(line[1:] for line in lines))


@pytest.mark.slow
def test_a_model_is_used_as_the_page_says(finished: Clone, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/stages.md").read_text(), flags=re.DOTALL)
    clone = finished.copy(tmp_path / "fer", FER_TRACKING="off")
    face = np.load(clone.path / "outputs/prepared/images.npy")[0]
    Image.fromarray(face).convert("RGB").resize((70, 90)).save(clone.path / "face.png")
    label, scores = clone.run(sys.executable, "-c", example).stdout.split(maxsplit=1)
    assert label in LABELS
    assert scores.startswith("tensor([[")


ROWS: dict[str, Any] = {
    name: row for step in steps() if step.file == "params.yaml" for name, row in yaml.safe_load(step.code).items()
}
"""The models of docs/extend.md."""


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the code in which somebody has done what docs/extend.md says, and nothing else."""
    folder = tmp_path_factory.mktemp("followed")
    for name in ("pipeline", "stages", "tests", "resources"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    for file, language, code, entries in steps():
        if language != "yaml":
            text = (folder / file).read_text(encoding="utf-8")
            if language == "diff":
                text = patched(text, code)
            elif entries:  # before the table, which needs it
                text = text.replace(f"\n{entries[0][0]}: ", f"\n{code}\n\n{entries[0][0]}: ", 1)
            else:
                text += f"\n\n{code}"
            for table, name, value in entries:
                text = re.sub(rf"(^{table}: .* = {{)", rf'\1"{name}": {value}, ', text, flags=re.MULTILINE)
                assert f'"{name}": {value}, ' in text, f"{file} has no table {table}"
            (folder / file).write_text(text, encoding="utf-8")
    clone = Clone(folder)
    clone.set(SMALL | {f"models.{name}": row for name, row in ROWS.items()} | {"machine.threads": 1})
    return clone


def test_the_page_extends_every_table() -> None:
    tables = {table for step in steps() for table, _, _ in step.entries}
    assert tables >= {"LOSSES", "SOURCES", "DECODERS", "LABEL_KINDS", "MIXES", "CONSISTENCIES", "MEMORIES"}


@pytest.mark.xdist_group("extended")
def test_the_page_can_be_followed(followed: Clone) -> None:
    """Each line that it changes is there, and each name that it adds is then known."""
    check = "import sys; from pipeline import config; sys.stdout.write(' '.join(config.load().models))"
    assert set(ROWS) <= set(followed.run(sys.executable, "-c", check).stdout.split())


@pytest.mark.slow
@pytest.mark.xdist_group("extended")
def test_the_tests_pass_with_the_examples(followed: Clone) -> None:
    """Those that the page adds, and those that were there."""
    files = [step.file for step in steps() if step.file.startswith("tests/")]
    files += ["tests/test_config.py", "tests/comparison/test_findings.py"]  # which read the tables
    about = " or ".join((
        "loss", "targets", "decoder", "option", "costs", "nearest", "shipped", "findings", "brier", "balanced", "mix",
        "memory", "consistency", "lower_half", "bootstrapping", "equal_views",
    ))  # fmt: skip
    # Or it would wait until the folders of other suites are removed.
    own = ("--basetemp", str(followed.path / "tmp"))
    told = followed.run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *own, "-k", about, *files
    ).stdout
    assert int(re.findall(r"(\d+) passed", told)[0]) > 300, told


@pytest.mark.slow
@pytest.mark.xdist_group("extended")
def test_the_examples_train_decode_and_compare(followed: Clone) -> None:
    """The real stages: nothing but the tables knows of the new names."""
    names = ["baseline", "w2v_margin", "cosine_facial", "ldl_sharpened", "lower_half", "flip_agreement", "bootstrap"]
    followed.set({"grid.models": names})
    followed.run(sys.executable, "-c", STAGES, *names, FER_TRACKING="off")

    table = json.loads((followed.path / "outputs/reports/ablation.json").read_text())
    assert [(row["model"], row["decoder"]) for row in table] == [
        (name, decoder) for name in names for decoder in ROWS[name]["decoders"]
    ]
    for name, output_dim in zip(names, (7, 300, 27, 7, 7, 7, 7), strict=True):
        folder = followed.path / "outputs/models" / f"{name}-0"
        assert json.loads((folder / "model.json").read_text())["network"]["output_dim"] == output_dim
        with (folder / "history.csv").open() as file:
            losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
        assert losses[-1] < losses[0]
    with (followed.path / "outputs/predictions/baseline-0.csv").open() as file:
        for row in csv.DictReader(file):
            sure = max(float(row[label]) for label in LABELS) >= 0.5
            assert row["predicted.cautious"] == (row["predicted"] if sure else "neutral")
    assert all(0 < row["test.brier"]["mean"] < 2 for row in table)
    assert "Brier" in (followed.path / "outputs/reports/ablation.md").read_text(encoding="utf-8")
    assert (followed.path / "outputs/reports/balanced.png").exists()


STAGES = """
import sys
from matplotlib.figure import Figure
from stages import compare, embed, evaluate, fetch, prepare, targets, train

Figure.savefig = lambda *_, **__: None  # most of the time; drawing has tests of its own
for stage in (fetch, prepare, embed, targets):
    stage.main()
for model in sys.argv[1:]:
    train.main(model, 0)
    evaluate.main(model, 0)
compare.main()
"""
"""What `dvc repro` runs, in one process."""
