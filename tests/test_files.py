"""Files are replaced whole or not at all, and the same content gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.files import read_json, replacing, set_environment, sha256, write_csv, write_json, write_npz, write_text


def test_replacing_puts_the_new_file_in_place_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "notes.txt"
    with replacing(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
        assert temporary.suffix == path.suffix  # some writers go by the suffix
    assert path.read_text() == "done"
    assert os.listdir(path.parent) == ["notes.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half a new fi")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_new_files_get_the_mode_the_user_asked_for(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "notes.txt", "text")
        assert os.umask(umask) == umask  # left as it was found
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "notes.txt").stat().st_mode) == mode


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "notes.txt", "naïve\n表情\n")
    assert (tmp_path / "notes.txt").read_bytes() == "naïve\n表情\n".encode()


def test_json_comes_back_and_is_stable_and_readable(tmp_path: Path) -> None:
    value = {"z": [1, 0.1, None, True], "a": {"label": "슬픔"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    write_json(tmp_path / "b.json", read_json(tmp_path / "a.json"))
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert '\n    "label": "슬픔"' in text


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"<<<<<<< HEAD", b"\xe9"])
def test_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    """With an error that is a ValueError too, as json's own, for those who catch it to say more."""
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json") as error:
        read_json(tmp_path / "a.json")
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_json_cannot_say(tmp_path: Path, number: float) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert read_json(tmp_path / "a.json") == 1


def test_csv_quotes_where_needed(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", ["label", "note"], [("fear", 0.5), ("sad, a bit", 'he said "no"')])
    assert (tmp_path / "table.csv").read_bytes() == b'label,note\nfear,0.5\n"sad, a bit","he said ""no"""\n'


def test_csv_from_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_csv(tmp_path / "table.csv", ["n"], ((1 / n,) for n in (1, 0)))
    assert os.listdir(tmp_path) == []


def test_sha256_of_the_standards_example_and_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = bytes(range(256)) * 5000
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_from_bytes_that_do_not_depend_on_time_or_python(tmp_path: Path, compressed: bool) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yz"]), "bits": np.array([True, False])}
    write_npz(tmp_path / "a.npz", arrays, compressed)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        for entry in archive.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert (entry.create_version, entry.extract_version, entry.create_system) == (20, 20, 3)
            assert entry.extra == b""


def test_arrays_of_objects_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "a.npz", {"a": np.array([{}])})
    assert list(tmp_path.iterdir()) == []


def test_variables_are_as_they_were_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_OLD", "old")
    monkeypatch.delenv("FER_NEW", raising=False)
    before = dict(os.environ)

    def interrupted() -> None:
        with set_environment({"FER_OLD": "1", "FER_NEW": "2"}):
            assert (os.environ["FER_OLD"], os.environ["FER_NEW"]) == ("1", "2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert dict(os.environ) == before
