"""Every command as it is typed: help and wrong arguments start nothing, and say what would."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest

from pipeline import cli
from pipeline.cli import Argument
from pipeline.errors import UserError
from pipeline.workspace import PREPARED, RunKey
from tests.clone import ROOT

MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("pipeline", "stages", "benchmarks", "resources")
    for file in (ROOT / folder).rglob("*.py")
    if 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")
)
"""Whatever can be run as `python -m MODULE`."""
PARTS = {"benchmarks.peers": ("steps", "figure", "package")}
COMMANDS = [[module] for module in MODULES]
COMMANDS += [[module, part] for module, parts in PARTS.items() for part in parts]
EACH = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

WRONG = [
    "",
    " ",
    "..",
    ".",
    "/",
    "a/b",
    "../a",
    "a\\b",
    "-",
    "-x",
    "--nope",
    "--nope=1",
    "--hel",
    "--help=1",
    "-1",
    "a\nb",
    "\udcff",
    "a" * 300,
]
"""No option, name, number or file of any command."""

Files = dict[str, bytes | None]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which every command would find something to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_TRACKING", "off")
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "mine.w2v.txt").write_text("1 2\nword 0.5 0.25\n")
    for file, value in (
        (PREPARED / "checks.json", {"dataset": "drawn", "rows": 7}),
        (RunKey("baseline", 0).metrics, {"settings_digest": "0123456789ab"}),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(value))
    return tmp_path


def files(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def typed(command: Sequence[str], *arguments: str) -> int:
    """The exit code of `python -m MODULE ARGUMENT ...`, run in this process."""
    module, *parts = command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *parts, *arguments])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert isinstance(exit_.value.code, int), exit_.value.code
    return exit_.value.code


def test_every_command_of_the_pipeline_is_among_them() -> None:
    assert {
        "stages.fetch",
        "pipeline.study.publish",
        "pipeline.clean",
        "benchmarks.peers",
        "resources.extract_words",
    } <= set(MODULES)


@EACH
def test_help_is_printed_and_nothing_starts(
    command: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(workspace)
    for ask in ("--help", "-h"):
        assert typed(command, ask) == 0
        told = capsys.readouterr()
        assert told.out.startswith("usage: ")
        assert told.err == ""
    assert files(workspace) == before


@pytest.mark.parametrize(
    "line",
    [
        "stages.train baseline 0 -h",
        "pipeline.study.publish full --help",
        "pipeline.study.lr_search --help baseline",
    ],
)
def test_help_may_stand_beside_other_arguments(
    line: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed([(words := line.split())[0]], *words[1:]) == 0
    assert capsys.readouterr().out.startswith("usage: ")


@EACH
def test_help_says_what_it_does_and_explains_every_argument(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(command, "--help")
    first, *rest = capsys.readouterr().out.split("\n\n", 1)
    (body,) = rest
    if len(command) == 1:
        module = sys.modules[command[0]].__doc__ if command[0] in sys.modules else None
        assert module is None or body.startswith(module.strip().splitlines()[0])
    lines = [line.split(maxsplit=1) for line in body.splitlines() if line.startswith("  ")]
    explained = {words[0].strip(",") for words in lines if len(words) == 2}
    usage = first.replace("[", " ").replace("]", " ").split()
    asked = {word for word in usage if word.startswith("--") or (word.isupper() and word.isalpha())}
    values = {"N", "PATH", "NAME", "COMMAND"}  # of options, and the list of commands
    assert asked - values <= explained | {"--help"}
    if command[0] != "benchmarks.fer_worker":  # which has nothing of ours, pipeline.cli least of all
        assert f"python -m {command[0]}" in first
        if command[0] not in PARTS or len(command) == 2:
            assert f"example: python -m {' '.join(command)}" in body


@EACH
def test_a_wrong_argument_is_named_in_a_sentence_and_nothing_starts(
    command: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(workspace)
    for word in WRONG:
        for arguments in ([word], ["baseline", word], ["--", word]):
            assert typed(command, *arguments) == 1, arguments
            told = capsys.readouterr()
            assert told.out == "", arguments
            assert told.err.splitlines()[-1].startswith("error: "), arguments
            assert "Traceback" not in told.err
            assert files(workspace) == before, arguments


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("stages.train", "MODEL, SEED"),
        ("stages.train baseline", "SEED"),
        ("stages.train NOPE 0", "NOPE"),
        ("stages.train baseline x", "'x'"),
        ("stages.train baseline -1", "'-1'"),
        ("stages.train baseline 1.0", "'1.0'"),
        ("stages.train baseline ٣", "'٣'"),
        ("stages.train baseline 2147483648", "'2147483648'"),
        (f"stages.train baseline {'9' * 5000}", "whole number"),
        ("stages.train baseline 0 1", "1"),
        ("stages.evaluate NOPE 0", "NOPE"),
        ("stages.fetch data.csv", "data.csv"),
        ("pipeline.study.publish runs", "'runs'"),
        ("pipeline.study.publish figures", "'figures'"),
        ("pipeline.study.publish full extra", "extra"),
        ("pipeline.study.lr_search baseline NOPE", "NOPE"),
        ("pipeline.study.speedrun NOPE", "NOPE"),
        ("pipeline.study.sweep --models NOPE", "NOPE"),
        ("pipeline.study.sweep --seeds 77", "77"),
        ("pipeline.study.sweep --workers 0", "--workers"),
        ("pipeline.study.sweep --workers 100000", "--workers"),
        ("pipeline.study.sweep --work 1", "--work"),
        ("benchmarks.recipe --recipe NOPE", "NOPE"),
        ("benchmarks.recipe --only NOPE", "NOPE"),
        ("benchmarks.recipe --seeds", "--seeds"),
        ("benchmarks.roofline --recipe NOPE", "NOPE"),
        ("benchmarks.losses --rounds 0", "--rounds"),
        ("benchmarks.power --simulations many", "many"),
        ("benchmarks.csv_parsing --csv NOPE.csv", "NOPE.csv"),
        ("benchmarks.views NOPE", "NOPE"),
        ("benchmarks.peers NOPE", "NOPE"),
        ("benchmarks.peers figure --to dvc.yaml", "dvc.yaml"),
        ("benchmarks.peers package", "--python"),
        ("benchmarks.fer_worker NOPE images.npy", "NOPE"),
        ("benchmarks.fer_worker keras NOPE.npy", "NOPE.npy"),
        ("resources.extract_words NOPE.bin out.w2v.txt", "NOPE.bin"),
        ("resources.extract_words dvc.yaml params.yaml", "params.yaml"),
        ("resources.extract_words mine.w2v.txt mine.w2v.txt", "mine.w2v.txt"),
        ("resources.extract_words mine.w2v.txt out.w2v.txt", "mine.w2v.txt"),
        ("resources.extract_glove params.yaml", "params.yaml"),
        ("resources.extract_captions params.yaml", "params.yaml"),
    ],
)
def test_what_is_wrong_is_named(
    line: str, word: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(workspace)
    module, *arguments = line.split(" ")
    assert typed([module], *arguments) == 1
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert files(workspace) == before


def everything(
    model: Annotated[str, Argument("a model", "baseline")],
    seed: Annotated[int, Argument("a seed", "0", least=0)] = 7,
    *rest: Annotated[Path, Argument("more")],
    rounds: Annotated[int, Argument("100 % of them")] = 3,
    way: Annotated[Literal["up", "down"], Argument("where to")] = "up",
    names: Annotated[Sequence[str] | None, Argument("some")] = None,
    quick_try: Annotated[bool, Argument("less")] = False,
) -> None:
    raise UserError(f"{model} {seed} {[*map(str, rest)]} {rounds} {way} {names} {quick_try}")


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ("baseline", "baseline 7 [] 3 up None False"),
        ("a 0 b/c .. --rounds 5", "a 0 ['b/c', '..'] 5 up None False"),
        ("a --names x y --way down --quick-try", "a 7 [] 3 down ['x', 'y'] True"),
    ],
)
def test_parameters_are_arguments(line: str, received: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run(everything, arguments=line.split())
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"error: {received}\n"


def test_help_has_defaults_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run(everything, arguments=["-h"])
    assert exit_.value.code == 0
    told = capsys.readouterr().out
    assert "100 % of them (default: 3)" in told
    assert told.count("default") == 3  # of the arguments that have one
    assert told.rstrip().endswith("baseline 0")
