"""What the machine does to a stage is told in one sentence that is true, and what is a bug keeps its traceback."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy._core._exceptions import _ArrayMemoryError
from safetensors import SafetensorError

from pipeline import files
from pipeline.data.sources import fetch_archive
from pipeline.errors import UserError
from pipeline.figures.canvas import canvas
from pipeline.training.checkpoint import Checkpoint
from pipeline.trouble import explain, in_one_sentence

ROOT = Path(__file__).parents[1]


def os_error(number: int, *names: str | bytes) -> OSError:
    first, *second = names or [None]
    return OSError(number, os.strerror(number), first, None, *second)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


TOO_OLD = (
    "CUDA error: no kernel image is available for execution on the device\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace is wrong.\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 12.00 MiB is "
    "free. Of the allocated memory 6.90 GiB is allocated by PyTorch, and 9.00 MiB is reserved by PyTorch."
)
TROUBLES: dict[str, tuple[Exception | Callable[[], Exception], str]] = {
    "disk full": (os_error(errno.ENOSPC), "disk is full .*Free some space, then run the same command again"),
    "disk full, of a file": (os_error(errno.ENOSPC, "models/x.npy"), "models/x.npy .*the disk is full"),
    "disk full while copying": (os_error(errno.ENOSPC, "/home/me/fer.csv", "raw/fer.csv"), "^raw/fer.csv cannot"),
    "quota": (os_error(errno.EDQUOT, "models/x.npy"), "models/x.npy .*quota"),
    "read-only disk": (os_error(errno.EROFS, "models/x.npy"), "models/x.npy .*read-only"),
    "no right": (os_error(errno.EACCES, "models/x.npy"), "models/x.npy .*permission denied"),
    "files open": (os_error(errno.EMFILE), r"Too many files are open .*ulimit -n"),
    "broken disk": (os_error(errno.EIO, b"models/x.npy"), "models/x.npy .*disk reports an error"),
    "a file in the way": (os_error(errno.ENOTDIR, "models/a/b"), "models/a/b .*a folder is needed"),
    "NumPy": (OSError("1024 requested and 96 written"), "disk is full or a limit"),
    "Rust": (SafetensorError("I/O error: No space left on device (os error 28)"), "disk is full"),
    "PyTorch": (RuntimeError("basic_ios::clear: iostream error"), "disk is full or a limit"),
    "wrapped": (caused(RuntimeError("not saved"), os_error(errno.ENOSPC)), "disk is full"),
    "memory": (MemoryError(), "memory of this machine is full"),
    "memory, NumPy": (_ArrayMemoryError((9,), np.dtype("u1")), "memory of this machine"),
    "memory, no process": (os_error(errno.ENOMEM), "memory of this machine is full"),
    "memory, PyTorch": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        "memory of this machine is full",
    ),
    "GPU memory": (torch.OutOfMemoryError(OUT_OF_MEMORY), "memory is full .*2.00 GiB.*batch_size.*CUDA_VISIBLE"),
    "GPU memory, by CUDA": (torch.AcceleratorError("CUDA error: out of memory\n..."), "GPU's memory is full"),
    "GPU memory, by cuBLAS": (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        "GPU's memory is full",
    ),
    "GPU too old": (torch.AcceleratorError(TOO_OLD), "not built for this GPU .*no kernel image.*CUDA_VISIBLE"),
    "GPU too old, by CUDA 11": (RuntimeError("CUDA error: invalid device function"), "not built for this GPU"),
    "GPU lost": (torch.AcceleratorError("CUDA error: unspecified launch failure"), "GPU failed .*launch failure"),
    "GPU busy": (
        torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
        "GPU failed .*busy",
    ),
    "GPU, in a callback": (RuntimeError("CUDA error: device-side assert triggered"), "GPU failed"),
    "cuDNN": (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "GPU failed .*CUDNN_STATUS"),
    "cuDNN without engine": (RuntimeError("GET was unable to find an engine to execute this"), "GPU failed"),
    "cuBLAS": (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `x`"), "GPU failed"),
    "no driver": (RuntimeError("Found no NVIDIA driver on your system. Please check"), "GPU failed .*NVIDIA driver"),
    "AMD": (RuntimeError("HIP error: an illegal memory access was encountered"), "GPU failed"),
    "NCCL": (
        torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error"),
        "GPU failed .*NCCL error",
    ),
    "another process": (
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
        "Another process of this training has ended",
    ),
    "no other process": (torch.distributed.DistNetworkError("The client socket has timed out"), "Another process"),
    "compiler": (
        lambda: torch._inductor.exc.InductorError(RuntimeError("g++ failed"), None),  # takes seconds to import
        "machine.compile to false",
    ),
}
BUGS = [
    ValueError("no"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("Deterministic behavior was enabled, but this operation uses CuBLAS: CUBLAS_WORKSPACE_CONFIG"),
    os_error(errno.ENOENT, "outputs/gone.npy"),
    RuntimeError("ownership error: exit_status_code 3"),
    caused(os_error(errno.ENOENT, "outputs/gone.npy"), os_error(errno.EACCES, "other.npy")),
    os_error(errno.EACCES),  # of anything: a socket, a process
    AssertionError("Torch not compiled with CUDA enabled"),
]


@pytest.mark.parametrize("name", TROUBLES)
def test_a_trouble_of_the_machine_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    made, words = TROUBLES[name]
    error = made if isinstance(made, Exception) else made()
    with pytest.raises(SystemExit) as stopped, in_one_sentence():
        raise error
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    with pytest.raises(UserError, match=words):
        raise UserError(line.removeprefix("error: "))


@pytest.mark.parametrize("bug", BUGS, ids=repr)
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    assert explain(bug) is None
    with pytest.raises(type(bug)) as raised, in_one_sentence():
        raise bug
    assert raised.value is bug


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A disk of 64 KiB mounted at `folder`, for those who may mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def no_large_files(folder: Path) -> Iterator[None]:
    """The system lets this process write files of 32 KiB, as `ulimit -f` or a quota would."""
    folder.mkdir(exist_ok=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISE = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8)


def draw(path: Path) -> None:
    with canvas(path, 8, 8) as figure:
        figure.subplots().imshow(NOISE[:160_000].reshape(400, 400))


def checkpoint(path: Path) -> None:
    Checkpoint(path).save({"network": {"weight": torch.from_numpy(NOISE)}}, {"epochs": 3})


def weights(path: Path) -> None:
    with files.replacing(path) as temporary:
        torch.save(torch.from_numpy(NOISE), temporary)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text.txt": lambda path: files.write_text(path, "x" * 200_000),
    "facts.json": lambda path: files.write_json(path, "x" * 200_000),
    "array.npy": lambda path: files.write_npy(path, NOISE),
    "arrays.npz": lambda path: files.write_npz(path, {"a": NOISE}),
    "small.npz": lambda path: files.write_npz(path, {"a": NOISE}, compressed=True),
    "table.csv": lambda path: files.write_csv(path, ["n"], ([n] for n in range(50_000))),
    "state.safetensors": checkpoint,
    "weights.pt": weights,
    "figure.png": draw,
}


@pytest.mark.parametrize("limit", [full_disk, no_large_files])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_takes_no_more_is_told_by_the_files_own_name(
    tmp_path: Path, limit: Callable[[Path], AbstractContextManager[None]], name: str
) -> None:
    """Whatever writes it: the file that was there stays, and nothing is left beside it."""
    folder = tmp_path / "outputs"
    with limit(folder):
        path = folder / name
        path.write_text("old")
        with pytest.raises(UserError, match=f"^{path} cannot be written: .*(full|larger|limit).*run the same command"):
            WRITERS[name](path)
        assert path.read_text() == "old"
        assert os.listdir(folder) == [name]


@pytest.mark.parametrize("limit", [full_disk, no_large_files])
def test_an_archive_that_does_not_fit_leaves_nothing(
    tmp_path: Path, limit: Callable[[Path], AbstractContextManager[None]]
) -> None:
    archive = tmp_path / "fer2013.csv"
    archive.write_bytes(NOISE.tobytes())
    with limit(tmp_path / "outputs"):
        with pytest.raises(UserError, match=r"outputs/raw.* cannot be written: .*(full|larger)"):
            fetch_archive(archive, tmp_path / "outputs" / "raw")
        assert list((tmp_path / "outputs" / "raw").iterdir()) == []


def test_a_disk_that_became_read_only_is_told_by_the_files_own_name(tmp_path: Path) -> None:
    with full_disk(tmp_path):
        (tmp_path / "facts.json").write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(UserError, match=f"^{tmp_path}/facts.json cannot be written: the disk is read-only"):
            files.write_json(tmp_path / "facts.json", 1)
        with pytest.raises(UserError, match=r"new/facts.json cannot be written: the disk is read-only"):
            files.write_json(tmp_path / "new" / "facts.json", 1)
        assert (tmp_path / "facts.json").read_text() == "old"


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file of the user's")
    with pytest.raises(UserError, match=r"models/a/facts.json cannot be written: a file is where a folder"):
        files.write_json(tmp_path / "models" / "a" / "facts.json", 1)
    assert (tmp_path / "models").read_text() == "a file of the user's"


def test_a_file_that_cannot_be_read_is_not_said_to_be_the_one_that_is_written(tmp_path: Path) -> None:
    def rows() -> Iterator[list[int]]:
        raise os_error(errno.EACCES, "votes.csv")
        yield [1]

    with pytest.raises(PermissionError, match=r"votes\.csv"):
        files.write_csv(tmp_path / "table.csv", ["n"], rows())
    assert list(tmp_path.iterdir()) == []


def command(body: str) -> list[str]:
    """A process that runs `body` as a stage does."""
    imports = "import pathlib, sys, time; from pipeline import files, trouble"
    return [sys.executable, "-c", f"{imports}\n{body}\nwith trouble.in_one_sentence():\n    stage()"]


WAITS = """
def stage():
    with files.replacing(pathlib.Path(sys.argv[1]) / "model.bin") as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        while True:
            time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_quiet_and_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*command(WAITS), str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # These tests may run under nohup or in the background, which ignore it.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (128 + number, "")
    assert list(tmp_path.iterdir()) == []


def test_a_hang_up_that_is_to_be_ignored_is(tmp_path: Path) -> None:
    """As under nohup."""
    body = "def stage():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGHUP)\n    print('goes on')"
    done = subprocess.run(
        ["nohup", *command(body)], cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_a_reader_that_has_gone_is_no_error() -> None:
    body = "def stage():\n    for n in range(100_000):\n        print(n)"
    process = subprocess.Popen(command(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 128 + signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_log_on_a_full_disk_is_one_sentence() -> None:
    with open("/dev/full", "w") as log:
        done = subprocess.run(
            command("def stage():\n    print('a result')"),
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: The disk is full")
