"""The choice of device and number format: as asked, as measured, and measured only once per machine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from pipeline import machine
from pipeline.files import repository
from pipeline.machine import Hardware, choose, processor


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / ".machine" / "precision.json"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A machine without a GPU; each measurement takes the next of these speed-ups."""
    speedups: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_bf16_speedup", lambda: speedups.pop(0))
    return speedups


@pytest.mark.usefixtures("measured")  # that is empty: measuring would fail
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_asked_for_is_not_measured(cache: Path, precision: str) -> None:
    assert choose(precision, cache) == Hardware("cpu", precision)  # type: ignore[arg-type]
    assert not cache.exists()


@pytest.mark.parametrize(
    ("speedup", "precision"), [(0.4, "fp32"), (1.1, "fp32"), (1.2, "bf16"), (6.0, "bf16")]
)
def test_the_faster_format_is_chosen_and_remembered(
    cache: Path, measured: list[float], speedup: float, precision: str
) -> None:
    measured.append(speedup)
    assert [choose("auto", cache).precision for _ in range(3)] == [precision] * 3
    assert measured == []
    assert json.loads(cache.read_text())["bf16_speedup"] == speedup


@pytest.mark.parametrize("change", ["processor", "threads", "torch"])
def test_another_machine_is_measured_anew(
    cache: Path, measured: list[float], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    measured.extend([5.0, 0.5])
    assert choose("auto", cache).precision == "bf16"
    if change == "processor":
        monkeypatch.setattr(machine, "processor", lambda: "Another 9000")
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 12345)
    else:
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert [choose("auto", cache).precision for _ in range(2)] == ["fp32", "fp32"]
    assert measured == []


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
        '{"machine": MACHINE}',
        '{"machine": MACHINE, "bf16_speedup": null}',
        '{"machine": MACHINE, "bf16_speedup": "fast"}',
    ],
)
def test_a_damaged_memory_is_replaced(cache: Path, measured: list[float], damage: str) -> None:
    measured.extend([5.0, 0.5])
    choose("auto", cache)
    good = json.loads(cache.read_text())
    cache.write_text(damage.replace("MACHINE", json.dumps(good["machine"])))
    assert choose("auto", cache).precision == "fp32"
    assert json.loads(cache.read_text()) == {**good, "bf16_speedup": 0.5}


def test_a_memory_that_is_no_text_is_replaced(cache: Path, measured: list[float]) -> None:
    measured.append(5.0)
    cache.parent.mkdir()
    cache.write_bytes(b"\xff\x00\xfe")
    assert choose("auto", cache).precision == "bf16"


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_used_and_asked_what_it_supports(
    cache: Path, monkeypatch: pytest.MonkeyPatch, supported: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert choose("auto", cache) == Hardware("cuda", precision)  # type: ignore[arg-type]
    assert choose("fp32", cache) == Hardware("cuda", "fp32")
    assert not cache.exists()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_format_chosen(precision: str, dtype: torch.dtype) -> None:
    with Hardware("cpu", precision).autocast():  # type: ignore[arg-type]
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_measurement_is_a_ratio_of_times() -> None:
    speedup = machine._bf16_speedup()
    assert math.isfinite(speedup)
    assert speedup > 0


def test_the_processor_has_a_name() -> None:
    assert processor().strip()
    assert "\n" not in processor()


def test_the_processors_name_is_read_from_the_system_or_its_architecture_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


def test_the_repository_is_dvcs_root_or_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert repository() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", "")
    assert repository() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "parent"))
    assert repository() == (tmp_path / "parent").resolve()
