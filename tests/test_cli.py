"""Every command as it is typed: help and wrong arguments start nothing, and say what would."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.errors import UserError
from pipeline.workspace import PREPARED, RunKey
from tests.clone import ROOT

SCRIPTS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("pipeline", "stages", "benchmarks", "resources", "results")
    for file in (ROOT / folder).rglob("*.py")
    if file.stem != "__main__" and 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")
)
"""Whatever can be run as `python -m MODULE`, except `fer`, which is `python -m pipeline`."""
PARTS = {
    "pipeline": tuple(fer.commands),
    "benchmarks.peers": ("steps", "figure", "package"),
    "benchmarks.cluster": ("overhead", "scaling", "kills", "queue"),
}
COMMANDS = [[module] for module in ("pipeline", *SCRIPTS)]
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
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def typed(command: Sequence[str], *arguments: str) -> int:
    """The exit code of `python -m MODULE ARGUMENT ...`, run in this process."""
    module, *parts = command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *parts, *arguments])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as exit_:
            return int(exit_.code or 0)
    return 0


def test_every_command_of_the_pipeline_is_among_them() -> None:
    assert {"stages.fetch", "benchmarks.peers", "resources.extract_words"} <= set(SCRIPTS)
    assert not [script for script in SCRIPTS if script.startswith("pipeline.")]
    assert set(fer.commands) == {
        "predict",
        "demo",
        "sweep",
        "search",
        "report",
        "publish",
        "speedrun",
        "backfill",
        "clean",
    }


def test_help_of_fer_waits_for_no_library() -> None:
    heavy = "{'torch', 'mlflow', 'dvc', 'numpy', 'matplotlib'}"
    code = f"import sys; from pipeline.__main__ import main; main(); sys.exit(len({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code, "sweep", "--help"], cwd=ROOT, check=False).returncode == 0


@EACH
def test_help_is_printed_and_nothing_starts(
    command: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(workspace)
    for ask in ("--help", "-h"):
        assert typed(command, ask) == 0
        told = capsys.readouterr()
        assert told.out.lower().startswith("usage: ")
        assert told.err == ""
    assert files(workspace) == before


@pytest.mark.parametrize(
    "line",
    [
        "stages.train baseline 0 -h",
        "pipeline publish full --help",
        "pipeline search --help baseline",
        "stages.train ../a --help",
    ],
)
def test_help_may_stand_beside_other_arguments(line: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, *arguments = line.split()
    assert typed([command], *arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: ")


@EACH
def test_help_says_what_it_does_and_explains_every_argument(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(command, "--help")
    usage, body = capsys.readouterr().out.split("\n\n", 1)
    # An argument's line begins with its name; what is said of it stands beside it, or below a long name.
    rows = re.split(r"\n  (?=[-\[{\w])", body)
    said = {row.split()[0].strip(",").strip("[]."): row for row in rows[1:]}
    for word in re.findall(r"\b[A-Z]{2,}\b", usage):
        assert word in {"OPTIONS", "COMMAND", "ARGS"} or len(said[word].split()) > 2, word
    for name in (row for row in said if row.startswith("-")):
        assert len(said[name].split()) > 3, f"{name} is not explained"
    if command[0] != "benchmarks.fer_worker":  # which has nothing of ours, pipeline.cli least of all
        name = " ".join(["fer" if command[0] == "pipeline" else f"python -m {command[0]}", *command[1:]])
        assert usage.startswith(f"Usage: {name} ")
        if command != ["benchmarks.peers"]:
            assert f"  Example: {name}" in body


@EACH
def test_a_wrong_argument_is_named_in_a_sentence_and_nothing_starts(
    command: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(workspace)
    # A folder is not wrong for `fer predict`, which would read all its pictures.
    more = ["--model", "NOPE.onnx"] if command == ["pipeline", "predict"] else []
    for word in WRONG:
        for arguments in ([*more, word], [*more, "baseline", word], [*more, "--", word]):
            assert typed(command, *arguments) == 1, arguments
            told = capsys.readouterr()
            assert told.out == "", arguments
            assert told.err.splitlines()[-1].startswith("error: "), arguments
            assert "Traceback" not in told.err
            assert files(workspace) == before, arguments


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("stages.train", "MODEL"),
        ("stages.train baseline", "SEED"),
        ("stages.train NOPE 0", "NOPE"),
        ("stages.train baseline x", "'x'"),
        ("stages.train baseline -1", "-1"),
        ("stages.train baseline 1.0", "'1.0'"),
        ("stages.train baseline ٣", "'٣'"),
        ("stages.train baseline 2147483648", "'2147483648'"),
        (f"stages.train baseline {'9' * 5000}", "whole number"),
        ("stages.train baseline 0 1", "1"),
        ("stages.evaluate NOPE 0", "NOPE"),
        ("stages.fetch data.csv", "data.csv"),
        ("pipeline publish runs", "'runs'"),
        ("pipeline publish figures", "'figures'"),
        ("pipeline publish full extra", "extra"),
        ("pipeline search baseline NOPE", "NOPE"),
        ("pipeline speedrun NOPE", "NOPE"),
        ("pipeline", "command"),
        ("pipeline NOPE", "NOPE"),
        ("pipeline sweep --model NOPE", "NOPE"),
        ("pipeline sweep --model a/b", "a/b"),
        ("pipeline sweep --seed 77", "77"),
        ("pipeline sweep --seed 0 1", "(1)"),
        ("pipeline sweep --seed", "--seed"),
        ("pipeline sweep --workers 0", "--workers"),
        ("pipeline sweep --workers 100000", "--workers"),
        ("pipeline sweep --work 1", "--work"),
        ("pipeline sweep --cluster nowhere", "nowhere"),
        ("pipeline sweep --cluster ray://a:1", "ray://a:1"),
        ("pipeline sweep --cluster auto --gpus-per-run 1.5", "1.5"),
        ("pipeline sweep --cluster auto --gpus-per-run 10000", "10000"),
        ("pipeline sweep --cluster auto --gpus-per-run 1.", "1."),
        ("pipeline sweep --cluster auto --gpus-per-run 0.00004", "0.00004"),
        ("pipeline sweep --cluster auto --workers 2", "--workers"),
        ("pipeline sweep --gpus-per-run 0.5", "--gpus-per-run is for the nodes"),
        ("pipeline search --block B --cpus-per-run 2", "--cpus-per-run is for the nodes"),
        ("pipeline search --cluster auto", "--block"),
        ("benchmarks.cluster NOPE", "NOPE"),
        ("benchmarks.cluster scaling --runs 2", "--runs 2"),
        ("benchmarks.recipe --recipe NOPE", "NOPE"),
        ("benchmarks.recipe --only NOPE", "NOPE"),
        ("benchmarks.recipe --seed", "--seed"),
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
def test_what_is_wrong_is_named(line: str, word: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(workspace)
    module, *arguments = line.split(" ")
    assert typed([module], *arguments) == 1
    assert word in capsys.readouterr().err.splitlines()[-1]
    assert files(workspace) == before


@click.command("everything")
@click.argument("model", type=cli.Name(), help="A model.")
@click.argument("rest", nargs=-1, type=cli.Number(0), help="More.")
@click.option("--rounds", type=cli.Number(), default=3, help="100 % of them.")
@click.option("--only", multiple=True, type=cli.Name(), help="Some.")
def everything(model: str, rest: tuple[int, ...], rounds: int, only: tuple[str, ...]) -> None:
    raise UserError(f"{model} {rest} {rounds} {only}")


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ("baseline", "baseline () 3 ()"),
        ("a 0 2147483647 --rounds 5", "a (0, 2147483647) 5 ()"),
        ("--only x a --only y", "a () 3 ('x', 'y')"),
    ],
)
def test_a_command_gets_its_arguments(line: str, received: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run(everything, line.split())
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"error: {received}\n"


def test_help_has_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(everything, ["-h"])
    told = capsys.readouterr().out
    assert "100 % of them.  [default: 3]" in told
    assert told.count("default") == 1


@pytest.mark.medium
@pytest.mark.parametrize("line", [["--help"], ["张"], ["模型", "x"]])
def test_names_in_other_scripts_end_no_command(line: list[str]) -> None:
    """Neither in what is printed nor in a sentence, in whatever encoding the terminal has."""
    program = [sys.executable, "-m", "stages.train", *line]
    environment = {"PATH": "", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == (line[0] != "--help")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_command_runs_where_a_stream_is_closed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As daemons may start it: Python then has None in its place."""
    monkeypatch.setattr(sys, name, None)
    cli.run(fer, ["sweep", "--help"])
