"""How a command runs: its arguments are checked before it starts, and what the user can mend is one sentence.

A command is a function, and its parameters are its arguments: those before `*` go by position, those after it are
options. `Annotated[kind, Argument(...)]` holds what help says of one. Kinds are str (a name), int (a whole number),
Path, bool (a switch), Literal (a choice), a Sequence of one of them, and each of them or None.
"""

from __future__ import annotations

import argparse
import inspect
import io
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pipeline.errors import UserError
from pipeline.trouble import in_one_sentence

Command = Callable[..., None]

MOST = 2**31 - 1
"""The largest whole number: that of the seeds in params.yaml."""
LONGEST = 200
"""Bytes of a name in UTF-8: file systems take 255, and the names of files have more at their end."""


@dataclass(frozen=True)
class Argument:
    """What an argument means, for help, and what it may be."""

    help: str
    example: str = ""
    """As typed, for the example at the end of help; empty: the example goes without this argument."""
    least: int = 1
    """Of a whole number."""
    there: Literal["", "file", "folder"] = ""
    """What a path must lead to; empty: it may lead nowhere yet."""
    suffix: str = ""
    """How the name of a file to be written ends: nothing else is written over."""
    free: bool = False
    """Whether a text may be any, not a name alone."""


Model = Annotated[str, Argument("a name under `models:` in params.yaml", "baseline")]
Seed = Annotated[int, Argument("what its weights and its data order start from", "0", least=0)]


def run(*commands: Command, arguments: Sequence[str] | None = None) -> None:
    """Run the command with the arguments of the command line; of several commands the first argument names one.

    Help ends the process with code 0, a wrong argument with a usage line, one sentence and code 1; neither starts
    anything. An error the user can mend, while the command runs, is one sentence and code 1, not a traceback
    (`in_one_sentence`).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in another script must not end a command
    options = vars(_parser(commands).parse_args(arguments))
    command = options["command"]
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        value = parameter.default if options[name] is None else options[name]
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[name] = value
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional += value
        else:
            positional.append(value)
    with in_one_sentence():
        command(*positional, **keywords)


def known(names: Sequence[str], among: Sequence[str] | Mapping[str, Any], what: str) -> None:
    """Raise UserError at the first name that is not among those there are; `what` says of what kind they are."""
    for name in names:
        if name not in among:
            raise UserError(f"There is no {what} '{name}'; there are {', '.join(among)}.")


class _Parser(argparse.ArgumentParser):
    """argparse, but strict about names of options, and with this project's exit code for a user's error."""

    def __init__(self, **settings: Any) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(**settings, formatter_class=raw, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        line = " ".join(message.encode("utf-8", "backslashreplace").decode().split())
        self.exit(1, f"error: {line}. `{self.prog} --help` explains the arguments.\n")


def _parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Made of the signatures and the docstring of the commands' module."""
    module = sys.modules[commands[0].__module__]
    prog = f"python -m {module.__spec__.name if module.__spec__ else module.__name__}"
    if len(commands) == 1:
        return _fill(_Parser(prog=prog, description=module.__doc__), commands[0])
    parser = _Parser(prog=prog, description=module.__doc__)
    parts = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands:
        text = inspect.getdoc(command)
        _fill(parts.add_parser(command.__name__, help=text, description=text), command)
    return parser


def _fill(parser: argparse.ArgumentParser, command: Command) -> argparse.ArgumentParser:
    """Add the command's arguments, and below them the example that they make together."""
    example = [parser.prog]
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kind, about = typing.get_args(parameter.annotation)
        settings, default, text = _settings(kind, about), parameter.default, about.help
        flag = f"--{name.replace('_', '-')}" if parameter.kind is parameter.KEYWORD_ONLY else ""
        if flag:
            settings["required"] = default is parameter.empty
        elif parameter.kind is parameter.VAR_POSITIONAL:
            settings["nargs"] = "*"
        elif default is not parameter.empty:
            settings["nargs"] = "?"
        if default not in (parameter.empty, None, False):
            text += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
        if "metavar" in settings and not flag:
            settings["metavar"] = name.upper().removesuffix("S")
        parser.add_argument(flag or name, help=text.replace("%", "%%"), **settings)
        if about.example:
            example += filter(None, [flag, about.example])
    parser.epilog = f"example: {' '.join(example)}"
    parser.set_defaults(command=command)
    return parser


def _settings(kind: Any, about: Argument) -> dict[str, Any]:
    """How argparse reads one argument of this kind."""
    one = _one(kind)
    if one is bool:
        return {"action": "store_true", "default": None}
    several = {"nargs": "+"} if any(map(_is_sequence, (kind, *_options(kind)))) else {}
    if typing.get_origin(one) is Literal:
        return several | {"choices": typing.get_args(one)}

    def read(text: str) -> Any:
        if one is int:
            return _number(text, about.least)
        if one is Path:
            return _path(text, about)
        return text if about.free else _name(text)

    return several | {"type": read, "metavar": {int: "N", Path: "PATH"}.get(one, "NAME")}


def _options(kind: Any) -> tuple[Any, ...]:
    """The kinds of a union, none of any other."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else ()


def _one(kind: Any) -> Any:
    """The kind of a single value: int of `Sequence[int] | None`."""
    for part in _options(kind):
        if part is not types.NoneType:
            return _one(part)
    return typing.get_args(kind)[0] if _is_sequence(kind) else kind


def _is_sequence(kind: Any) -> bool:
    return typing.get_origin(kind) is Sequence


def _number(text: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {MOST}, not '{text}'")
    return int(text)


def _path(text: str, about: Argument) -> Path:
    path, there = Path(text), about.there
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be a path, not {text!r}")
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # too long a name, or a folder that may not be read
        raise argparse.ArgumentTypeError(f"'{text}' cannot be used ({error.strerror})") from None
    if about.suffix and (is_folder or not path.name.endswith(about.suffix)):
        raise argparse.ArgumentTypeError(f"must be a file whose name ends in {about.suffix}, not '{text}'")
    if (there == "file" and not is_file) or (there == "folder" and not is_folder):
        raise argparse.ArgumentTypeError(f"there is no {there} '{text}'")
    return path


def _name(text: str) -> str:
    """Names become parts of paths: one that leads to another folder, or looks like an option, is a mistake."""
    wrong = not text.strip() or not text.isprintable() or text[0] in "-." or bool(set(text) & set("/\\"))
    if wrong or len(text.encode()) > LONGEST:
        rule = f"must be a name of at most {LONGEST} bytes, without / or \\, that begins with neither - nor ."
        raise argparse.ArgumentTypeError(f"{rule}, not {text!r}")
    return text
