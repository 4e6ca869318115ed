"""How to compute: as wished, or as measured, and measured only once per machine."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from pipeline.errors import UserError
from pipeline.files import repository
from pipeline.training import autotune, hardware
from pipeline.training.autotune import HOPELESS, MARGIN, PATIENCE, ROUNDS, TRUSTED, MachineParams, choose
from pipeline.training.hardware import Hardware, instructions, processor, set_up

pytestmark = pytest.mark.usefixtures("one_thread")

AUTO = MachineParams("auto", "auto", "auto", compile=False)
CANDIDATES = ["fp32 channels_last 1", "bf16 channels_last 1", "fp32 contiguous 1", "bf16 contiguous 1"]
"""On one thread, the one that needs no reason to be chosen first."""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / ".machine" / "speed.json"


class Clock:
    """Stands for the measurement of one step: `seconds` by candidate, the next of them if they are several."""

    def __init__(self) -> None:
        self.seconds: dict[str, float | list[float]] = dict.fromkeys(CANDIDATES, 1.0)
        self.calls: list[str] = []
        self.now, self.step = 0.0, 0.0  # what a look at the clock shows, and how long a measurement lasts

    def __call__(self, hardware: Hardware) -> float:
        assert torch.get_num_threads() == hardware.threads
        name = f"{hardware.precision} {hardware.memory_format} {hardware.threads}"
        self.calls.append(name)
        self.now += self.step
        taken = self.seconds[name]
        return taken.pop(0) if isinstance(taken, list) else taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A machine without a GPU on which every measurement is made up."""
    clock = Clock()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(autotune, "has_bf16", lambda cuda: True)
    monkeypatch.setattr(autotune, "_step_seconds", clock)
    monkeypatch.setattr(autotune, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def chosen(requested: MachineParams, cache: Path) -> str:
    hardware = choose(requested, cache)
    assert (hardware.device, hardware.compile) == ("cpu", False)
    return f"{hardware.precision} {hardware.memory_format} {hardware.threads}"


def this_machine(threads: int = 1) -> str:
    return f"{processor()} {instructions()}, {threads} threads, torch {torch.__version__}"


def remembered(cache: Path) -> dict[str, float]:
    return dict(json.loads(cache.read_text())[this_machine()])


@pytest.mark.parametrize(
    ("precision", "layout", "threads"), [*product(["fp32", "bf16"], ["channels_last", "contiguous"], [1, 2])]
)
def test_wishes_are_granted_without_measuring(
    cache: Path, clock: Clock, precision: Any, layout: Any, threads: int
) -> None:
    torch.set_num_threads(2)
    requested = MachineParams(precision, layout, threads, compile=False)
    assert choose(requested, cache) == Hardware("cpu", precision, layout, threads)
    assert clock.calls == []
    assert not cache.exists()


def test_only_what_is_not_wished_for_is_measured(cache: Path, clock: Clock) -> None:
    torch.set_num_threads(2)
    clock.seconds = {"fp32 contiguous 1": 1.0, "bf16 contiguous 1": 0.5}
    assert chosen(MachineParams("auto", "contiguous", 1, compile=False), cache) == "bf16 contiguous 1"
    assert set(clock.calls) == set(clock.seconds)


@pytest.mark.parametrize("faster", CANDIDATES[1:])
def test_a_setting_must_be_clearly_faster_than_one_listed_before_it(cache: Path, clock: Clock, faster: str) -> None:
    clock.seconds[faster] = 0.99 / MARGIN
    assert chosen(AUTO, cache) == faster
    cache.unlink()
    clock.seconds[faster] = 1.01 / MARGIN
    assert chosen(AUTO, cache) == CANDIDATES[0]


def test_equally_fast_settings_leave_the_first_with_all_threads(cache: Path, clock: Clock) -> None:
    torch.set_num_threads(2)
    names = [f"{name[:-1]}{threads}" for threads in (2, 1) for name in CANDIDATES]
    clock.seconds = dict.fromkeys(names, 1.0)
    assert chosen(AUTO, cache) == names[0]
    assert clock.calls == ROUNDS * names  # in turns: a slow moment hits them all


def test_fewer_threads_are_chosen_where_they_are_faster(cache: Path, clock: Clock) -> None:
    torch.set_num_threads(4)
    clock.seconds = {f"{name[:-1]}{threads}": 0.5 + 0.1 * threads for threads in (4, 2, 1) for name in CANDIDATES}
    assert chosen(AUTO, cache) == CANDIDATES[0]


def test_the_best_of_several_measurements_counts(cache: Path, clock: Clock) -> None:
    clock.seconds["bf16 contiguous 1"] = [2.9, *[1.5] * (ROUNDS - 2), 0.8]
    assert chosen(AUTO, cache) == "bf16 contiguous 1"
    assert remembered(cache)["bf16 contiguous 1"] == 0.8


@pytest.mark.parametrize("cold", CANDIDATES)
def test_one_slow_turn_says_nothing(cache: Path, clock: Clock, cold: str) -> None:
    """The first turn of all is a cold one, and any other may fall into a busy moment."""
    clock.seconds[cold] = [10 * HOPELESS, *[0.5] * (ROUNDS - 1)]
    assert chosen(AUTO, cache) == cold
    assert clock.calls == ROUNDS * CANDIDATES


def test_a_machine_is_measured_once(cache: Path, clock: Clock) -> None:
    clock.seconds["bf16 channels_last 1"] = 0.4
    assert [chosen(AUTO, cache) for _ in range(3)] == ["bf16 channels_last 1"] * 3
    assert clock.calls == ROUNDS * CANDIDATES
    assert json.loads(cache.read_text()) == {this_machine(): clock.seconds}


def test_every_number_of_threads_has_its_own_memory(cache: Path, clock: Clock) -> None:
    """A study with one thread for each worker and a `dvc repro` with all of them share a folder."""
    clock.seconds = {f"{name[:-1]}{threads}": 1.0 for threads in (2, 1) for name in CANDIDATES}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        chosen(AUTO, cache)
    assert list(json.loads(cache.read_text())) == [this_machine(1), this_machine(2)]
    clock.seconds = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        chosen(AUTO, cache)


def test_trainings_that_start_together_measure_once(cache: Path, clock: Clock) -> None:
    """The second waits for the first, and finds what it wrote."""
    cache.parent.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(cache.with_suffix(".lock")):
            second = pool.submit(choose, AUTO, cache)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
            clock.seconds["bf16 contiguous 1"] = 0.1
            cache.write_text(json.dumps({this_machine(): clock.seconds}))
        assert second.result(timeout=60) == Hardware("cpu", "bf16", "contiguous", 1)
    assert clock.calls == []


def test_a_later_wish_uses_what_was_measured_for_others(cache: Path, clock: Clock) -> None:
    fp32, contiguous = replace(AUTO, precision="fp32"), replace(AUTO, memory_format="contiguous")
    chosen(fp32, cache)
    assert set(clock.calls) == {"fp32 channels_last 1", "fp32 contiguous 1"}
    chosen(AUTO, cache)
    measured = len(clock.calls)
    clock.seconds = {}
    for requested in (fp32, contiguous, AUTO):
        chosen(requested, cache)
    assert len(clock.calls) == measured


@pytest.mark.parametrize("change", ["processor", "instructions", "threads", "torch"])
def test_another_machine_is_measured_anew(
    cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    clock.seconds["bf16 channels_last 1"] = 0.2
    assert chosen(AUTO, cache) == "bf16 channels_last 1"
    requested = replace(AUTO, threads=1)
    clock.seconds["bf16 channels_last 1"] = 2.0
    assert chosen(requested, cache) == "bf16 channels_last 1"
    if change == "processor":
        monkeypatch.setattr(autotune, "processor", lambda: "Another 9000")
    elif change == "instructions":
        monkeypatch.setattr(autotune, "instructions", lambda: "01234567")
    elif change == "threads":
        torch.set_num_threads(2)
    else:
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    measured = len(clock.calls)
    assert [chosen(requested, cache) for _ in range(2)] == ["fp32 channels_last 1"] * 2
    assert len(clock.calls) == measured + ROUNDS * len(CANDIDATES)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "null",
        "3",
        "[1, 2]",
        '"text"',
        "{}",
        '{"machine": MACHINE, "seconds": {"fp32 channels_last 1": 1.0}}',
        "{MACHINE: 3}",
        "{MACHINE: [1, 2]}",
        '{MACHINE: {"fp32 channels_last 1": null}}',
        '{MACHINE: {"fp32 channels_last 1": "fast"}}',
        '{MACHINE: {"fp32 channels_last 1": 1.0}}',
        "{MACHINE: {}}",
    ],
)
def test_a_damaged_memory_is_replaced(cache: Path, clock: Clock, damage: str) -> None:
    choose(AUTO, cache)
    cache.write_text(damage.replace("MACHINE", json.dumps(this_machine())))
    clock.seconds["bf16 channels_last 1"] = 0.5
    assert chosen(AUTO, cache) == "bf16 channels_last 1"
    assert json.loads(cache.read_text()) == {this_machine(): clock.seconds}


def test_a_memory_that_is_no_text_is_replaced(cache: Path, clock: Clock) -> None:
    cache.parent.mkdir()
    cache.write_bytes(b"\xff\x00\xfe")
    choose(AUTO, cache)
    assert remembered(cache) == clock.seconds


def test_a_busy_machine_is_not_remembered_and_said_to_be_busy(
    cache: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Three candidates fill the time; the fourth, the fastest, has no turn."""
    clock.step = 0.4 * PATIENCE
    clock.seconds |= {"fp32 contiguous 1": 0.5, "bf16 contiguous 1": 0.1}
    assert chosen(AUTO, cache) == "fp32 contiguous 1"
    assert clock.calls == CANDIDATES[:3]
    assert not cache.exists()
    assert [record.message for record in caplog.records] == [
        "The machine is too busy to be measured: it will be at the next training."
    ]
    clock.step = 0.0
    assert chosen(AUTO, cache) == "bf16 contiguous 1"
    assert cache.exists()
    assert len(caplog.records) == 1


def test_a_busy_machine_may_be_one_that_was_measured_for_another_wish(cache: Path, clock: Clock) -> None:
    clock.seconds["fp32 contiguous 1"] = 0.5
    chosen(replace(AUTO, precision="fp32"), cache)
    before = cache.read_text()
    clock.step = 2 * PATIENCE
    clock.calls = []
    assert chosen(AUTO, cache) == "fp32 contiguous 1"
    assert clock.calls == CANDIDATES[:1]
    assert cache.read_text() == before


@pytest.mark.parametrize(("turns", "said"), [(TRUSTED, 0), (TRUSTED - 1, 1)])
def test_as_many_turns_as_are_trusted_are_enough_to_remember(
    cache: Path, clock: Clock, caplog: pytest.LogCaptureFixture, turns: int, said: int
) -> None:
    clock.step = 0.99 * PATIENCE / (turns * len(CANDIDATES))
    choose(AUTO, cache)
    assert clock.calls == [*turns * CANDIDATES, CANDIDATES[0]]
    assert cache.exists() == (not said)
    assert len(caplog.records) == said


@pytest.mark.parametrize("slow", CANDIDATES)
def test_a_hopeless_setting_has_no_more_turns_than_are_trusted(cache: Path, clock: Clock, slow: str) -> None:
    clock.seconds[slow] = 1.01 * HOPELESS
    chosen(AUTO, cache)
    assert {name: clock.calls.count(name) for name in CANDIDATES} == {
        name: TRUSTED if name == slow else ROUNDS for name in CANDIDATES
    }
    assert remembered(cache) == pytest.approx(clock.seconds)


def test_a_slow_setting_that_may_catch_up_is_measured_again(cache: Path, clock: Clock) -> None:
    clock.seconds[CANDIDATES[1]] = 0.99 * HOPELESS
    chosen(AUTO, cache)
    assert clock.calls == ROUNDS * CANDIDATES


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [2, 1]), (6, [6, 4, 2, 1]), (8, [8, 4, 2, 1]), (9, [9, 8, 4, 2, 1])]
)
def test_numbers_of_threads_that_are_tried(cache: Path, clock: Clock, most: int, counts: list[int]) -> None:
    torch.set_num_threads(most)
    names = [f"{precision} contiguous {threads}" for threads in counts for precision in ("fp32", "bf16")]
    clock.seconds = dict.fromkeys(names, 1.0)
    assert chosen(replace(AUTO, memory_format="contiguous"), cache) == f"fp32 contiguous {most}"
    assert clock.calls == ROUNDS * names


@pytest.mark.usefixtures("clock")
def test_more_threads_than_there_are_cannot_be_wished_for(cache: Path) -> None:
    torch.set_num_threads(2)
    with pytest.raises(UserError) as error:
        choose(replace(AUTO, threads=3), cache)
    assert str(error.value) == (
        "params.yaml: 'machine.threads' is 3, but PyTorch may use 2 here: lower it or raise OMP_NUM_THREADS."
    )


@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_the_number_of_threads_as_it_was(
    cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    torch.set_num_threads(3)
    used: list[int] = []

    def step(hardware: Hardware) -> float:
        used.append(torch.get_num_threads())
        if fails and used[-1] == 1:
            raise MemoryError
        return 1.0

    monkeypatch.setattr(autotune, "_step_seconds", step)
    if fails:
        with pytest.raises(MemoryError):
            choose(AUTO, cache)
    else:
        choose(AUTO, cache)
    assert set(used) == {3, 2, 1}
    assert torch.get_num_threads() == 3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with a GPU that has bf16 unless `bf16` says otherwise; measuring would fail."""
    gpu = SimpleNamespace(bf16=True)

    def supported(including_emulation: bool = True) -> bool:
        return gpu.bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(autotune, "_step_seconds", None)
    return gpu


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_used_and_asked_what_it_has(cache: Path, gpu: SimpleNamespace, bf16: bool, precision: Any) -> None:
    """Emulated bf16 does not count: it is slower than fp32."""
    gpu.bf16 = bf16
    assert choose(AUTO, cache) == Hardware("cuda", precision, "channels_last", 1)
    assert not cache.exists()


@pytest.mark.parametrize(("precision", "said"), [("bf16", 1), ("auto", 0), ("fp32", 0)])
def test_a_gpu_without_bf16_says_so_where_it_was_wished_for(
    cache: Path, gpu: SimpleNamespace, caplog: pytest.LogCaptureFixture, precision: Any, said: int
) -> None:
    gpu.bf16 = False
    assert choose(replace(AUTO, precision=precision), cache).precision == "fp32"
    assert [record.message for record in caplog.records] == said * [
        "This GPU has no bf16: machine.precision is fp32 instead."
    ]


@pytest.mark.parametrize(("precision", "said"), [("bf16", 1), ("auto", 0), ("fp32", 0)])
def test_a_processor_without_bf16_is_not_made_to_crawl(
    cache: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    precision: Any, said: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(autotune, "has_bf16", lambda cuda: cuda)
    assert choose(replace(AUTO, precision=precision), cache).precision == "fp32"
    assert not any(name.startswith("bf16") for name in clock.calls)
    assert [record.message for record in caplog.records] == said * [
        "This processor has no bf16: machine.precision is fp32 instead."
    ]


@pytest.fixture
def failing(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the first kernel on a GPU fail as CUDA lets it."""

    def fail(text: str) -> None:
        def ones(*size: int, device: str = "cpu") -> None:
            warnings.warn("Found GPU0 which is of cuda capability 3.5.\n  Many lines of advice.", stacklevel=2)
            raise torch.AcceleratorError(text)

        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla K80")
        monkeypatch.setattr(torch, "ones", ones)

    return fail


def test_a_gpu_that_pytorch_was_not_built_for_is_left_alone_with_one_line(
    cache: Path, failing: Callable[[str], None], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    failing("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might ...")
    assert choose(MachineParams("fp32", "contiguous", 1, compile=False), cache) == Hardware(
        "cpu", "fp32", "contiguous", 1
    )
    assert [record.message for record in caplog.records] == [
        "This PyTorch was not built for the GPU here (Tesla K80): the processor computes instead."
    ]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CUDA error: out of memory", "GPU's memory is full"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "GPU failed .*busy"),
    ],
)
def test_a_gpu_that_should_work_and_does_not_is_an_error(
    cache: Path, failing: Callable[[str], None], text: str, words: str
) -> None:
    """The processor would take hours where its user counts on minutes."""
    failing(text)
    with pytest.raises(UserError, match=f"{words}.*CUDA_VISIBLE_DEVICES="):
        choose(AUTO, cache)


def test_a_driver_that_is_too_old_is_told_in_one_line(
    clock: Clock, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    def is_available() -> bool:
        advice = "The NVIDIA driver on your system is too old (found version 10020). (Triggered internally at x.cpp:1.)"
        warnings.warn(f"CUDA initialization: {advice}", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert choose(AUTO, cache).device == "cpu"
    (record,) = caplog.records
    assert record.message.startswith("The GPU is not used: CUDA initialization: The NVIDIA driver")
    assert "Triggered" not in record.message
    assert not recwarn.list


@pytest.mark.usefixtures("gpu")
def test_threads_are_wished_for_beside_a_gpu_too(cache: Path) -> None:
    torch.set_num_threads(4)
    assert choose(replace(AUTO, threads=2), cache).threads == 2
    with pytest.raises(UserError, match=r"'machine\.threads' is 5, but PyTorch may use 4 here"):
        choose(replace(AUTO, threads=5), cache)


@pytest.mark.parametrize(
    ("instruction", "has"),
    [("avx512_bf16", True), ("amx_bf16", True), ("bf16", True), ("avx512_f", False), ("amx_tile", False)],
)
def test_bf16_that_would_be_emulated_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, instruction: str, has: bool
) -> None:
    """A processor with AVX-512 alone computes bf16 by way of fp32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "bf16": False, instruction: True})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert hardware.has_bf16(cuda=False) == has
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not hardware.has_bf16(cuda=False)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("precision", "layout"), [*product(["fp32", "bf16"], ["channels_last", "contiguous"])])
def test_wishes_are_granted_on_a_gpu(cache: Path, precision: Any, layout: Any) -> None:
    requested = MachineParams(precision, layout, "auto", compile=False)
    assert choose(requested, cache) == Hardware("cuda", precision, layout, 1)


def compiler(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["g++", "clang++", "c++"])
def test_a_compiler_on_the_path_is_found(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compiler(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert choose(replace(AUTO, compile=True), cache).compile


@pytest.mark.usefixtures("clock")
def test_the_compiler_that_cxx_names_is_found(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", str(compiler(tmp_path, "my-compiler")))
    assert choose(replace(AUTO, compile=True), cache).compile


@pytest.mark.parametrize("device", ["clock", "gpu"])
@pytest.mark.parametrize("cxx", [None, "", "no-such-compiler"])
def test_without_a_compiler_training_goes_on_uncompiled_and_says_so(
    cache: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    cxx: str | None,
) -> None:
    request.getfixturevalue(device)
    monkeypatch.setenv("PATH", "")
    if cxx is None:
        monkeypatch.delenv("CXX", raising=False)
    else:
        monkeypatch.setenv("CXX", cxx)
    assert not choose(replace(AUTO, compile=False), cache).compile
    assert caplog.records == []
    assert not choose(replace(AUTO, compile=True), cache).compile
    assert [record.message for record in caplog.records] == ["No C++ compiler was found: machine.compile is ignored."]


@pytest.mark.parametrize(
    ("hardware", "text"),
    [
        (Hardware("cpu", "fp32"), "cpu, fp32, channels_last, 1 thread"),
        (Hardware("cpu", "bf16", "contiguous", 2), "cpu, bf16, contiguous, 2 threads"),
        (Hardware("cpu", "bf16", "channels_last", 2, compile=True), "cpu, bf16, channels_last, 2 threads, compiled"),
        (Hardware("cuda", "bf16", "channels_last", 8), "cuda, bf16, channels_last"),
        (Hardware("cuda", "fp32", "contiguous", 8, compile=True), "cuda, fp32, contiguous, compiled"),
    ],
)
def test_hardware_in_words(hardware: Hardware, text: str) -> None:
    assert str(hardware) == text


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_format_chosen(precision: Any, dtype: torch.dtype) -> None:
    with Hardware("cpu", precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("name", ["channels_last", "contiguous"])
def test_the_layout_is_pytorchs_memory_format(name: Any) -> None:
    images = torch.zeros(2, 3, 4, 5).contiguous(memory_format=Hardware("cpu", "fp32", name).layout)
    assert images.stride() == {"channels_last": (60, 1, 15, 3), "contiguous": (60, 20, 5, 1)}[name]


def test_a_real_measurement_gives_seconds_for_every_candidate(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns of each, however long they take: nothing is said here about which is faster."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(autotune, "has_bf16", lambda cuda: True)
    monkeypatch.setattr(autotune, "ROUNDS", TRUSTED)
    monkeypatch.setattr(autotune, "PATIENCE", math.inf)
    first = chosen(AUTO, cache)
    seconds = remembered(cache)
    assert list(seconds) == CANDIDATES
    assert all(0 < taken < math.inf for taken in seconds.values())
    assert seconds[first] <= MARGIN * min(seconds.values())
    assert chosen(AUTO, cache) == first


def test_the_processor_has_a_name() -> None:
    assert processor().strip()
    assert "\n" not in processor()


def test_the_processors_name_is_read_from_the_system_or_its_architecture_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr("platform.processor", lambda: "")
    info = "processor\t: 0\nmodel name\t: Some CPU @ 2: 3 GHz\nflags\t: fpu\n"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: info)
    assert processor() == "Some CPU @ 2: 3 GHz"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "processor\t: 0\n")
    assert processor() == "riscv64"

    def absent(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert processor() == "riscv64"


def test_processors_of_one_name_with_other_instructions_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(info: str) -> str:
        monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: info)
        return instructions()

    new, old = (f"model name\t: Hired CPU\nflags\t\t: fpu avx2{more}\n" for more in (" avx512_bf16", ""))
    assert of(new) != of(old)
    assert of(new) == of(new + "bogomips\t: 3\n")
    assert of("Features\t: fp asimd\n") != of("Features\t: fp asimd bf16\n")
    assert len(of("")) == 8


def test_the_repository_is_dvcs_root_or_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert repository() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", "")
    assert repository() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "parent"))
    assert repository() == (tmp_path / "parent").resolve()


def test_training_is_deterministic_and_takes_no_numbers_near_zero() -> None:
    """And new memory is not filled, which the first switch would do too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    can_flush = torch.set_flush_denormal(False)
    try:
        set_up(Hardware("cpu", "fp32", threads=1), 0)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        assert (float(torch.tensor(1e-30) * 1e-12) == 0.0) == can_flush
    finally:
        torch.use_deterministic_algorithms(before)


def test_fp32_on_a_gpu_is_not_tf32() -> None:
    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        set_up(Hardware("cpu", "fp32", threads=1), 0)
        assert [switch.allow_tf32 for switch in switches] == [False, False]
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def test_what_computes_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU 80GB")
    assert hardware.chip("cuda") == "Some GPU 80GB"
    assert hardware.chip("cpu") == processor()
