"""Run commands: check arguments before anything starts, and report what the user can fix in one sentence.

click parses the arguments; this module adds the argument types that it lacks and this project's exit codes.
"""

from __future__ import annotations

import io
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import click
from click import Context, Parameter
from click.core import ParameterSource

from pipeline.errors import UserError
from pipeline.trouble import in_one_sentence

MAX_NUMBER = 2**31 - 1
"""The largest whole number: the largest seed that params.yaml accepts."""
MAX_NAME_BYTES = 200
"""Maximum bytes of a name in UTF-8: file systems accept 255, and file names add a suffix to the name."""


class Name(click.ParamType[str, str]):
    """A name that becomes part of a path: one that leads to another folder, or looks like an option, is rejected."""

    name = "name"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        wrong = not value.strip() or not value.isprintable() or value[0] in "-." or bool(set(value) & set("/\\"))
        if wrong or len(value.encode()) > MAX_NAME_BYTES:
            rule = (
                f"must be a name of at most {MAX_NAME_BYTES} bytes, without / or \\, that begins with neither - nor ."
            )
            self.fail(f"{rule}, not {value!r}", param, ctx)
        return value


class Number(click.ParamType[int, str | int]):
    """A whole number in ASCII digits."""

    name = "n"

    def __init__(self, least: int = 1, most: int = MAX_NUMBER) -> None:
        self.least, self.most = least, most

    def convert(self, value: str | int, param: Parameter | None, ctx: Context | None) -> int:
        if not re.fullmatch("[0-9]{1,10}", str(value)) or not self.least <= int(value) <= self.most:
            self.fail(f"must be a whole number from {self.least} to {self.most}, not '{value}'", param, ctx)
        return int(value)


class Address(click.ParamType[str, str]):
    """A running server: `auto`, or HOST:PORT."""

    name = "auto|host:port"

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        if not re.fullmatch(r"auto|([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", value):
            self.fail(f"must be auto or HOST:PORT, not {value!r}", param, ctx)
        return value


class Share(click.ParamType[float, str | float]):
    """A fraction of one, or a whole number."""

    name = "x"

    def convert(self, value: str | float, param: Parameter | None, ctx: Context | None) -> float:
        found = float(value) if re.fullmatch(r"[0-9]*\.?[0-9]+", str(value)) else -1.0
        counted = round(found, 4)  # as Ray counts
        if found < 0 or (found > 1 and found != int(found)) or found >= 10_000 or (found > 0 and counted == 0):
            self.fail(f"must be 0, from 0.0001 to 1 or a whole number below 10000, not '{value}'", param, ctx)
        return counted


class Readable(click.Path):
    """A file or a folder that exists, or - for standard input."""

    def __init__(self) -> None:
        super().__init__(exists=True, allow_dash=True, path_type=Path)

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        return path.absolute() if path == Path("-") and str(value) != "-" else path  # ./- is a file


class Seconds(click.FloatRange):
    """A number of seconds in a range."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):  # which is in every range
            self.fail(f"must be a number, not '{value}'", param, ctx)
        return found


class NewFile(click.Path):
    """A file to be written, with a required suffix, so that nothing else is overwritten."""

    def __init__(self, suffix: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.suffix = suffix

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        if not str(value).endswith(self.suffix):
            self.fail(f"must be a file whose name ends in {self.suffix}, not '{value}'", param, ctx)
        return super().convert(value, param, ctx)


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
MODEL = click.Argument(["model"], type=Name(), help="A name under `models:` in params.yaml.")
SEED = click.Argument(["seed"], type=Number(0), help="Seeds the initial weights and the order of the data.")


def script(body: Callable[..., None], *params: Parameter, example: str = "") -> None:
    """Run the main function of a module started as `python -m MODULE`; help shows the module's docstring."""
    module = sys.modules[body.__module__]
    name = f"python -m {module.__spec__.name if module.__spec__ else module.__name__}"
    epilog = f"\b\nExample: {name} {example}"  # \b: on one line, however long
    run(click.Command(name, callback=body, params=[*params], help=module.__doc__, epilog=epilog))


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Run a command with the arguments of the command line.

    Help exits with code 0; a wrong argument exits with a usage line, one sentence and code 1. Neither starts anything.
    An error that the user can fix, while the command runs, is one sentence and code 1, not a traceback
    (`in_one_sentence`).
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started this, as some daemons do
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in another script must not end a command
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "show_default": True}
    with in_one_sentence():  # not command.main(), which ends in other ways, also on signals
        try:
            with command.make_context(command.name, words, **settings) as context:
                command.invoke(context)
        except click.exceptions.Exit:
            pass  # help has been shown
        except click.UsageError as error:
            context = error.ctx or Context(command, info_name=command.name)
            print(context.get_usage(), file=sys.stderr)
            line = f"{error.format_message().rstrip('.')}. `{context.command_path} --help` explains the arguments."
            raise UserError(line) from None


def is_given(name: str) -> bool:
    """Return whether the user has typed this option of the command that runs."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def known(names: Sequence[str], among: Collection[str], what: str) -> None:
    """Raise UserError at the first name that is not in `among`; `what` is the kind of name."""
    for name in names:
        if name not in among:
            raise UserError(f"Unknown {what} '{name}'. Valid: {', '.join(among)}.")
