"""Explain failures of the machine in one sentence: a full disk, full memory, a failing GPU, a stop from outside.

They are not bugs, so a traceback would only hide what to do. Any error that is not recognised here keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from pipeline.errors import UserError, first_line

AGAIN = "run the same command again (a training resumes after its last complete epoch)"
ON_THE_PROCESSOR = "set CUDA_VISIBLE_DEVICES= (empty) to compute on the processor"

NO_SPACE = "Free some space"
NO_RIGHT = "Change its permissions, or work in a folder of your own"
IN_THE_WAY = "Move away what is in its place"
DISK = {
    errno.ENOSPC: ("the disk is full", NO_SPACE),
    errno.EDQUOT: ("your disk quota is used up", NO_SPACE),
    errno.EFBIG: ("the file is larger than allowed here", "Raise the limit (`ulimit -f`)"),
    errno.EROFS: ("the disk is read-only", "Work in a folder that can be written"),
    errno.EIO: ("the disk reports an error", "Check the disk"),
    errno.ESTALE: ("the network drive has lost the file", "Mount it again"),
    errno.EMFILE: ("too many files are open", "Raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open on this machine", "End other programs"),
}
"""Reason and remedy for each system error on reading or writing."""
FILE = DISK | {
    errno.EACCES: ("permission denied", NO_RIGHT),
    errno.EPERM: ("not permitted", NO_RIGHT),
    errno.ENOTDIR: ("a file is where a folder is needed", IN_THE_WAY),
    errno.EEXIST: ("a file is where a folder is needed", IN_THE_WAY),
    errno.EISDIR: ("a folder is where the file belongs", IN_THE_WAY),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "Work in a folder with a shorter path"),
}
"""`DISK` plus errors that are too general to explain unless the file is known."""

SHORT_WRITE = re.compile(
    r"^\d+ requested and \d+ written$|iostream error|PytorchStreamWriter failed|unexpected pos \d+"
)
"""Messages with which NumPy and PyTorch report a partial write; they drop the system's own reason."""
RUST = re.compile(r"\(os error (\d+)\)")
"""The system's error number in messages from Rust libraries such as safetensors."""

NO_KERNEL = re.compile("no kernel image|invalid device function", re.IGNORECASE)
"""CUDA's messages if PyTorch was built for GPUs other than this one."""
GPU_FULL = re.compile("(cuda|hip)( error:)? out of memory|status_alloc_failed", re.IGNORECASE)
GPU_FAILED = re.compile(
    r"\b(cuda|cudnn|nccl|hip|cufft|cusolver|cusparse|nvrtc)( internal| unhandled)? error|\bcu[a-z]+_status_|\bnccl"
    "|cuda driver|cuda-capable|cuda initialization|cuda kernel|nvidia driver|device-side assert"
    "|unable to find an engine to execute",
    re.IGNORECASE,
)
MEMORY_FULL = re.compile("can't allocate memory|not enough memory: you tried|bad_alloc", re.IGNORECASE)
GROUP_FAILED = re.compile(r"gloo/|connection (closed|reset) by peer", re.IGNORECASE)


class Terminated(KeyboardInterrupt):
    """A request to stop by a signal other than Ctrl-C's, from the system or another program."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Report what the user can fix in one sentence on stderr and exit with code 1, without a traceback.

    A stop from outside (Ctrl-C, SIGTERM, a closed terminal) exits quietly with 128 + the signal's number after all
    clean-up. If the reader of the output has gone, as with `| head`, the exit code is that of SIGPIPE.
    """
    _turn_signals_into_exceptions()
    try:
        yield
        sys.stdout.flush()  # here: a full disk behind `> log` would otherwise show only after the last line
    except KeyboardInterrupt as stop:
        _leave(128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT))
    except BrokenPipeError:
        _leave(128 + signal.SIGPIPE)
    except Exception as error:
        sentence = str(error) if isinstance(error, UserError) else explain(error)
        if sentence is None:
            raise
        _leave(1, f"error: {sentence}")


def explain(error: BaseException) -> str | None:
    """Return what is wrong with the machine and what to do, or None if `error` is of another kind."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return _memory_full()
    if (path := subject(error)) is not None:
        return refused(path, error, "be written or read")
    if known := _reason(error, DISK):
        why, remedy = known
        return f"{why[0].upper()}{why[1:]} ({first_line(error)}). {remedy}, then {AGAIN}."
    return _of_pytorch(error) if isinstance(error, RuntimeError) else None


def subject(error: BaseException) -> str | None:
    """Return the file that an error names, or None; of two files, the one being written."""
    if not isinstance(error, OSError):
        return None
    path = error.filename if error.filename2 is None else error.filename2
    return None if path is None or isinstance(path, int) else os.fsdecode(path)


def refused(path: str | os.PathLike[str], error: BaseException, what: str = "be written") -> str | None:
    """Return a sentence on a file that the system refuses, or None if `error` does not report a refusal."""
    if (known := _reason(error, FILE)) is None:
        return None
    why, remedy = known
    return f"{os.fspath(path)} cannot {what}: {why}. {remedy}, then {AGAIN}."


def _reason(error: BaseException | None, table: Mapping[int, tuple[str, str]]) -> tuple[str, str] | None:
    """Return the reason for a refusal and its remedy from `table`, or None if `error` does not report one.

    Libraries raise types other than OSError, so the errors that caused `error` are searched too.
    """
    while error is not None:
        text = str(error)
        if isinstance(error, OSError) and error.errno is not None:
            return table.get(error.errno)
        if rust := RUST.search(text):
            return table.get(int(rust[1]))
        if isinstance(error, OSError | RuntimeError) and SHORT_WRITE.search(text):
            return "the disk is full or a limit is reached", NO_SPACE
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _of_pytorch(error: RuntimeError) -> str | None:
    """Explain an error from PyTorch by its wording, which is more stable between versions than its type."""
    text, name, first = str(error), type(error).__name__, first_line(error)
    if NO_KERNEL.search(text):
        return (
            f"This PyTorch was not built for this GPU ({first}): {ON_THE_PROCESSOR}, or install one that supports it."
        )
    if name == "OutOfMemoryError" or GPU_FULL.search(text):
        return (
            f"The GPU's memory is full ({first}). End other programs that use it and {AGAIN}, or lower "
            f"recipes.<name>.batch_size or recipes.<name>.widths, or {ON_THE_PROCESSOR}."
        )
    if MEMORY_FULL.search(text):
        return _memory_full()
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"torch.compile failed ({first}): set machine.compile to false."
    if name == "AcceleratorError" or GPU_FAILED.search(text):
        return f"The GPU failed ({first}). Check it with nvidia-smi and {AGAIN}, or {ON_THE_PROCESSOR}."
    if name.startswith("Dist") or GROUP_FAILED.search(text):
        return f"Another process of this training has ended ({first}). See what it printed, then {AGAIN}."
    return None


def _memory_full() -> str:
    return (
        f"The memory of this machine is full. End other programs and {AGAIN}; a training needs less with a lower "
        "recipes.<name>.batch_size."
    )


def _turn_signals_into_exceptions() -> None:
    """Make SIGTERM and SIGHUP run the same clean-up as Ctrl-C.

    Not under torchrun: while Python waits for a process that has gone, it would not run the handler.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    raise Terminated(number)


def _leave(code: int, sentence: str = "") -> NoReturn:
    """Exit with `code`, even if stdout no longer has a reader."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports the error again at exit
    if sentence:
        print(sentence, file=sys.stderr)
    sys.exit(code)
