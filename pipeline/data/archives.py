"""Read folders, zips, tars and compressed files from unknown sources, uniformly and safely.

Formats are recognised by their first bytes, never by their names. Members are read as streams and never unpacked under
a name. Members outside the archive, links and devices are rejected; files that macOS and other systems leave behind are
ignored. An archive may lie in another one, within limits: all layers together unpack to at most `MAX_BYTES`, have at
most `MAX_MEMBERS` members and `MAX_NESTED` archives among them, and are `MAX_DEPTH` deep.
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import io
import os
import re
import stat
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from pipeline.data import kinds
from pipeline.errors import UserError, first_line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 2 << 30
"""Maximum size after decompression; FER-2013 is 0.3 GB of text, the competition's download 0.7 GB."""
MAX_MEMBERS = 200_000
"""Maximum number of members of an archive; the folder set has 35,887."""
MAX_NESTED = 16
"""Maximum number of nested archives that are searched."""
MAX_DEPTH = 5
"""Maximum number of layers: the competition's CSV file is in a tar in a gzip file in a zip."""
MAX_LOOKS = 2_000
"""Maximum number of members whose first bytes are read because they may be tables or archives."""

HEAD = kinds.HEAD
Stream = IO[bytes] | io.BufferedIOBase
_CHUNK = 1 << 20
_MAX_HEADER = 16 << 20
"""The most that is read at once; only a corrupt tar header asks for more."""
_MAX_DIRECTORY = 32 << 20
"""Maximum bytes of a zip's directory; that of the folder set has 4 MB."""
_ZIP_METHODS = {
    zipfile.ZIP_STORED: None,
    zipfile.ZIP_DEFLATED: "zlib",
    zipfile.ZIP_BZIP2: "bz2",
    zipfile.ZIP_LZMA: "lzma",
}

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_OF_INTEREST = re.compile(r"\.(csv|tsv|txt|gz|tgz|xz|txz|tar|zip)$", re.IGNORECASE)
_JUNK = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin")


class Budget:
    """The limits that remain while one file is read, nested archives included."""

    def __init__(self, members: int | None = None, excess: str = "it is not FER-2013") -> None:
        self._bytes = self._members = self._nested = 0
        self._most, self._excess = members, excess

    def unpack(self, count: int, name: str) -> None:
        """Count decompressed bytes. Raises UserError above `MAX_BYTES`."""
        self._bytes += count
        if self._bytes > MAX_BYTES:
            raise too_large(name)

    def list(self, count: int, name: str) -> None:
        """Count members. Raises UserError above the limit, by default `MAX_MEMBERS`."""
        self._members += count
        most = self._most or MAX_MEMBERS
        if self._members > most:
            raise UserError(f"{name} has more than {most} members: {self._excess}.")

    def open_nested(self, name: str) -> None:
        """Count a nested archive. Raises UserError above `MAX_NESTED`."""
        self._nested += 1
        if self._nested > MAX_NESTED:
            raise UserError(
                f"{name} is one of more than {MAX_NESTED} archives inside others: unpack them and name the file to use."
            )


@dataclass(frozen=True)
class Entry:
    """A file in a bundle: `path` with `/` between folders, `key` as the bundle finds it, `size` in bytes,
    and its first `HEAD` bytes if it may be a table or an archive."""

    path: str
    key: Any
    size: int
    head: bytes = b""

    @property
    def file(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def is_image(self) -> bool:
        return self.path.lower().endswith(IMAGE_SUFFIXES)


class Bundle(ABC):
    """The members of an archive or the files of a folder."""

    def __init__(self, name: str, budget: Budget) -> None:
        self.name, self._budget, self._looks, self._only_names = name, budget, 0, False
        self.entries: list[Entry] = []

    @abstractmethod
    def open(self, entry: Entry) -> io.BufferedReader:
        """Open one file. Reading raises UserError as soon as it turns out to be damaged or too large."""

    def verify(self) -> None:
        """Read everything. Raises UserError if anything is damaged."""
        for entry in self.entries:
            drain(self.open(entry))

    def _add(self, path: str, key: Any, size: int) -> None:
        entry = Entry(path, key, size)
        if _is_junk(path):
            return
        if not (entry.is_image or self._only_names) and self._is_worth_a_look(path):
            with self.open(entry) as content:
                entry = dataclasses.replace(entry, head=content.read(HEAD))
        self.entries.append(entry)

    def _is_worth_a_look(self, path: str) -> bool:
        if not _OF_INTEREST.search(path) and self._looks >= MAX_LOOKS // 2:
            return False
        self._looks += 1
        if self._looks > MAX_LOOKS:
            raise UserError(f"{self.name} has more than {MAX_LOOKS} files that may be tables: name the file to use.")
        return True


class FolderBundle(Bundle):
    """The files below a folder. Links are not followed, but listed. folders: the paths of all folders in it.

    only_names: whether no file is looked into, because only images are wanted.
    """

    def __init__(self, folder: Path, budget: Budget, only_names: bool = False) -> None:
        super().__init__(shown(folder.resolve().name or str(folder)), budget)
        self._only_names = only_names
        self.links: list[Path] = []
        self.folders: list[str] = []
        for root, folders, names in os.walk(folder, onerror=_raise):
            self.links += [Path(root, entry) for entry in folders if Path(root, entry).is_symlink()]
            folders[:] = sorted(entry for entry in folders if not _is_junk(entry))
            inside = os.path.relpath(root, folder)
            self.folders += [_normal(f"{inside}/{entry}") for entry in folders]
            for entry in sorted(names):
                path = os.path.join(root, entry)
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode):
                    self.links.append(Path(path))
                elif stat.S_ISREG(status.st_mode):
                    self._budget.list(1, self.name)
                    self._add(_normal(f"{inside}/{entry}"), path, status.st_size)

    def open(self, entry: Entry) -> io.BufferedReader:
        name = f"{shown(entry.path)} of {self.name}"
        with explained(name):
            return guarded(Path(entry.key).open("rb"), name, Budget(), entry.size)


class ZipBundle(Bundle):
    def __init__(self, file: IO[bytes], name: str, budget: Budget, stack: ExitStack) -> None:
        super().__init__(name, budget)
        _check_directory(file, name)
        self.archive = stack.enter_context(zipfile.ZipFile(file))
        members = self.archive.infolist()
        budget.list(len(members), name)
        for member in members:
            _check_member(member.filename, stat.S_ISLNK(member.external_attr >> 16), name)
            if member.flag_bits & 1:
                raise UserError(f"{name} is encrypted (at {member.filename!r}): pack it again without a password.")
        if sum(member.file_size for member in members) > MAX_BYTES:
            raise too_large(name)
        kind = kinds.describe_zip(_normal(member.filename) for member in members)
        if kind:
            raise ForeignError(name, kind)
        for member in members:
            if not member.filename.endswith(("/", "\\")):
                self._add(_normal(member.filename), member, member.file_size)

    def open(self, entry: Entry) -> io.BufferedReader:
        name = f"{shown(entry.path)} of {self.name}"
        method = _ZIP_METHODS.get(entry.key.compress_type, "")
        if method == "":
            raise UserError(
                f"{name} is compressed with zip method {entry.key.compress_type}, which Python cannot read"
                " (9 is Deflate64, 93 Zstandard): unpack it, and pack it again as an ordinary zip."
            )
        if method:
            _need(method, name)
        with explained(name):
            return guarded(self.archive.open(entry.key), name, self._budget, entry.size)

    def verify(self) -> None:
        with explained(self.name):
            damaged = self.archive.testzip()
        if damaged is not None:
            raise UserError(f"{self.name} is damaged at {shown(damaged)}: fetch it again.")


class TarBundle(Bundle):
    def __init__(self, file: io.BufferedReader, name: str, budget: Budget, stack: ExitStack) -> None:
        super().__init__(name, budget)
        self.archive = stack.enter_context(tarfile.TarFile(fileobj=file))
        for member in self.archive:
            budget.list(1, name)
            _check_member(member.name, member.issym() or member.islnk() or member.isdev(), name)
            # Anything else, such as a volume label or a list of a folder's files, is not content.
            if member.isfile():
                self._add(_normal(member.name), member, member.size)

    def open(self, entry: Entry) -> io.BufferedReader:
        member = self.archive.extractfile(entry.key)
        assert member is not None  # only files become entries
        # The tar's own decompressed bytes are already counted.
        return guarded(member, f"{shown(entry.path)} of {self.name}", Budget(), entry.size)


# --- looking for one table, or a set of images


@dataclass(frozen=True)
class Wanted:
    """A table or image set to search for in a file, an archive or a folder.

    `key`: the parameter that names it. `check(head, name)`: raises UserError if a file with these first bytes is not
    such a table. `names`: file names of tables, preferred ones first. `archives`: matches the names of archives to
    search first. `forms`: a clause on the accepted formats. `image`: matches the path of an image if an image set is
    accepted. `explain(bundle, faults)`: returns why a bundle holds no match, given the faults of its nested archives.
    """

    key: str
    check: Callable[[bytes, str], object]
    names: tuple[str, ...]
    archives: re.Pattern[str]
    forms: str
    image: re.Pattern[str] | None
    explain: Callable[[Bundle, Sequence[UserError]], UserError]

    def accepts(self, head: bytes) -> bool:
        """Return whether a file with these first bytes is such a table."""
        try:
            self.check(head, "")
        except UserError:
            return False
        return True


class ForeignError(UserError):
    """A file of a kind that is not read."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(f"{name} is {kind}")


@dataclass(frozen=True)
class Found:
    """The result of a search: `content` is the table as a stream, or the bundle of an image set.

    `suffix` is the format of the file it was found in; `name` gives the location, innermost first, for messages;
    `entry` is the file or member of the outermost bundle; `choice` tells whether there were other candidates.
    """

    suffix: str
    content: io.BufferedReader | Bundle
    name: str
    entry: Entry | None = None
    choice: bool = False


class Search:
    """A search in one file or folder. Everything that it opens is closed with `stack`."""

    def __init__(self, wanted: Wanted, stack: ExitStack) -> None:
        self.wanted, self.budget, self._stack = wanted, Budget(), stack

    def in_file(self, file: io.BufferedReader, name: str, depth: int = 0) -> Found:
        """Search a file. Raises UserError without a match, or if the file is damaged, unsafe or of a foreign kind.

        A file that is a table by its format is returned whatever its content: the caller reads and checks it.
        """
        try:
            with explained(name):
                suffix, content = self._unwrap(file, name, depth)
                kind = None if isinstance(content, Bundle) else kinds.describe(content.peek(HEAD)[:HEAD])
            if kind:
                raise ForeignError(name, kind)
        except ForeignError as error:
            raise UserError(f"{error}; {self.wanted.forms}.") from error
        if isinstance(content, Bundle):
            return dataclasses.replace(self.in_bundle(content, depth), suffix=suffix)
        return Found(suffix, content, name)

    def in_bundle(self, bundle: Bundle, depth: int = 0) -> Found:
        """Search the members of an archive or folder. Raises UserError without a match or with an ambiguous one."""
        tables = [entry for entry in bundle.entries if entry.head and self.wanted.accepts(entry.head)]
        packed = [entry for entry in bundle.entries if _is_packed(entry.head)]
        lookalikes = [entry for entry in bundle.entries if entry.path.lower().endswith((".csv", ".tsv"))]
        image = self.wanted.image
        is_image_set = image is not None and any(image.search(entry.path) for entry in bundle.entries)
        choice = is_image_set or len({entry.path for entry in (*tables, *packed, *lookalikes)}) > 1
        named = [entry for entry in lookalikes if entry.file.lower() == self.wanted.names[0]]
        first = [entry for entry in packed if self.wanted.archives.search(entry.file)]
        if tables and (len(named) != 1 or named[0] in tables):
            best = self._best(tables, bundle)
            if best.file.lower() not in self.wanted.names and first:
                raise UserError(
                    f"{bundle.name} holds {shown(best.path)} and {shown(first[0].path)}, which are both candidates:"
                    f" set {self.wanted.key} to one of them."
                )
            return self._table(best, bundle, choice)
        if tables:  # the file of the right name is wrong; its error says how
            return self._table(named[0], bundle, False)
        if is_image_set:
            return Found("", bundle, bundle.name)
        nested, named_faults = self._nested(first, bundle, depth)
        others: list[UserError] = []
        if not nested:
            nested, others = self._nested([entry for entry in packed if entry not in first], bundle, depth)
        if nested:
            return dataclasses.replace(nested, choice=choice or nested.choice)
        # No match. The file that should be the match gives the best explanation.
        if len(named) == 1:
            return self._table(named[0], bundle, False)
        if named_faults:
            raise named_faults[0]
        if len(lookalikes) == 1:
            return self._table(lookalikes[0], bundle, False)
        if image and not lookalikes and any(entry.is_image for entry in bundle.entries):
            return Found("", bundle, bundle.name)
        raise self.wanted.explain(bundle, others)

    def _table(self, entry: Entry, bundle: Bundle, choice: bool) -> Found:
        name = f"{shown(entry.path)} of {bundle.name}"
        if kind := kinds.describe(entry.head):
            raise UserError(f"{ForeignError(name, kind)}; {self.wanted.forms}.")
        return Found("", bundle.open(entry), name, entry, choice)

    def _best(self, entries: Sequence[Entry], bundle: Bundle) -> Entry:
        def rank(entry: Entry) -> int:
            names, own = self.wanted.names, entry.file.lower()
            return names.index(own) if own in names else len(names)

        best = [entry for entry in entries if rank(entry) == min(map(rank, entries))]
        if len(best) > 1:
            raise UserError(
                f"{bundle.name} holds {len(best)} candidate CSV files"
                f" ({', '.join(shown(entry.path) for entry in best[:4])}): set {self.wanted.key} to one of"
                " them, unpacked."
            )
        return best[0]

    def _nested(self, packed: Sequence[Entry], bundle: Bundle, depth: int) -> tuple[Found | None, list[UserError]]:
        """Return the match in one of these archives, and the faults of the others."""
        found: list[Found] = []
        faults: list[UserError] = []
        for entry in packed:
            name = f"{shown(entry.path)} of {bundle.name}"
            self.budget.open_nested(name)
            try:
                inner = self.in_file(bundle.open(entry), name, depth + 1)
                if isinstance(inner.content, io.BufferedReader):
                    self.wanted.check(inner.content.peek(HEAD)[:HEAD], inner.name)
                found.append(dataclasses.replace(inner, entry=entry))
            except UserError as fault:
                faults.append(fault)
        if len(found) > 1:
            raise UserError(
                f"{bundle.name} holds {len(found)} candidate archives"
                f" ({', '.join(each.name for each in found[:4])}): set {self.wanted.key} to one of them."
            )
        return (found[0] if found else None), faults

    def _unwrap(self, file: io.BufferedReader, name: str, depth: int) -> tuple[str, io.BufferedReader | Bundle]:
        """Return the format of a file as a suffix, and its content."""
        if depth > MAX_DEPTH:
            raise UserError(f"{name} is packed in more than {MAX_DEPTH} layers: unpack it.")
        head = file.peek(HEAD)[:HEAD]
        if not head:
            raise UserError(f"{name} is empty: fetch it again.")
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            # A zip is read back and forth; a compressed stream would have to restart each time.
            source = self._spooled(file, name) if depth else file
            return ".zip", ZipBundle(source, name, self.budget, self._stack)
        if _is_tar(head):
            return ".tar", TarBundle(self._counted(file, name), name, self.budget, self._stack)
        if head.startswith(b"\x1f\x8b"):
            unpacked: Stream = gzip.GzipFile(fileobj=file)
            form = ".gz"
        elif head.startswith(b"\xfd7zXZ\x00"):
            unpacked, form = _need("lzma", name).LZMAFile(file), ".xz"
        else:
            return ".csv", self._counted(file, name)
        inner = guarded(unpacked, name, self.budget)
        suffix, content = self._unwrap(inner, name, depth + 1)
        return f"{suffix}{form}", content

    def _counted(self, file: io.BufferedReader, name: str) -> io.BufferedReader:
        return file if isinstance(file, _Reader) else guarded(file, name, self.budget)

    def _spooled(self, file: io.BufferedReader, name: str) -> IO[bytes]:
        """Copy a nested archive to a file without a name, removed when it is closed."""
        copy: IO[bytes] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (closed by the stack)
        while chunk := file.read(_CHUNK):
            try:
                copy.write(chunk)
            except OSError as error:
                folder = tempfile.gettempdir()
                raise UserError(
                    f"{name} cannot be unpacked to {folder} ({error.strerror}): free space there,"
                    " or unpack it yourself."
                ) from error
        copy.seek(0)
        return copy


# --- safe streams


class _Guarded(io.RawIOBase):
    """A stream from an archive that stops at the limit and raises UserError if it cannot be read."""

    def __init__(self, stream: Stream, name: str, budget: Budget) -> None:
        self._stream, self._name, self._budget, self._furthest = stream, name, budget, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        with explained(self._name):
            data = self._stream.read(len(target))
        self._check(self._stream.tell())
        target[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # Seeking forward in a compressed stream decompresses all that is passed over.
        self._check(offset)
        with explained(self._name):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _check(self, position: int) -> None:
        if position > self._furthest:
            self._budget.unpack(position - self._furthest, self._name)
            self._furthest = position


class _Reader(io.BufferedReader):
    """A buffered reader with a limit per read: tar headers may claim any size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(size)


def guarded(stream: Stream, name: str, budget: Budget, size: int = _CHUNK) -> io.BufferedReader:
    """Return the stream with limits. size: number of bytes expected, if known."""
    return _Reader(_Guarded(stream, name, budget), buffer_size=min(_CHUNK, max(size, 2 * HEAD)))


def read_all(stream: io.BufferedReader, limit: int) -> bytes:
    """Return the content, or slightly more than `limit` bytes of it."""
    content = bytearray()
    while len(content) <= limit and (chunk := stream.read(_CHUNK)):
        content += chunk
    return bytes(content)


def drain(stream: io.BufferedReader) -> None:
    """Read to the end."""
    while stream.read(_CHUNK):
        pass


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the exceptions that archive readers raise for a bad file into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): change its permissions.") from error
    except MemoryError as error:  # a few bytes of an xz file can ask for a dictionary of gigabytes
        raise UserError(
            f"{name} needs more memory to unpack than is available, unlike FER-2013: fetch it again."
        ) from error
    except _signs_of_damage() as error:
        raise UserError(
            f"{name} cannot be read and may be truncated or damaged ({first_line(error, 200)}): fetch it again."
        ) from error


def _signs_of_damage() -> tuple[type[Exception], ...]:
    signs = (
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RecursionError,  # nested tar headers
        ArithmeticError,
        LookupError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
        tarfile.TarError,
    )
    lzma = sys.modules.get("lzma")
    return (*signs, lzma.LZMAError) if lzma else signs


def _need(module: str, name: str) -> Any:
    """Import one of Python's compression modules, which may be missing from a Python built without its library."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{name} needs Python's module {module}, which this Python was built without ({error}):"
            " unpack the file yourself, or use another Python."
        ) from error


def too_large(name: str) -> UserError:
    """Return the error for a file above `MAX_BYTES`."""
    return UserError(
        f"{name} holds more than {MAX_BYTES / 2**30:.2g} GiB and was not read further: it is not FER-2013."
    )


def _check_directory(file: IO[bytes], name: str) -> None:
    """Raise UserError for a zip directory that would fill the memory: `zipfile` reads it at once."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - 22 - (1 << 16)))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return  # `zipfile` reports what is wrong
    members, size = struct.unpack_from("<HL", tail, at + 10)
    if at >= 20 and tail.startswith(b"PK\x06\x07", at - 20):  # zip64
        file.seek(min(struct.unpack_from("<Q", tail, at - 12)[0], end))
        record = file.read(56)
        file.seek(0)
        if len(record) == 56:
            members, size = struct.unpack_from("<QQ", record, 32)
    if members > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise UserError(
            f"{name} has more than {MAX_MEMBERS} members, or their names fill {size} bytes: it is not FER-2013."
        )


def _check_member(member: str, is_link: bool, name: str) -> None:
    parts = member.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise UserError(f"{name} has a member outside the archive, {member!r}: it is not safe and was not read.")
    if is_link:
        raise UserError(f"{name} has a link or a device as a member, {member!r}: it is not safe and was not read.")


# --- names and forms


def shown(path: str) -> str:
    """Return a foreign name in a form that is safe in a sentence."""
    text = "".join(letter if letter.isprintable() else "?" for letter in path)
    return text if len(text) <= 120 else f"{text[:60]}...{text[-57:]}"


def _normal(path: str) -> str:
    """Return a member's path with `/` between folders and characters that UTF-8 can encode."""
    parts = path.replace("\\", "/").split("/")
    text = "/".join(part for part in parts if part not in ("", "."))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_junk(path: str) -> bool:
    """Return whether a system left the file behind: hidden, or a folder or file of macOS, Windows or a NAS."""
    return any(part.startswith(".") or part.lower() in _JUNK for part in path.split("/"))


def _is_packed(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ\x00")) or _is_tar(head)


def _is_tar(head: bytes) -> bool:
    """Return whether the bytes start a tar. Tars from before 1988 have no magic number, but all have checksums."""
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _raise(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror}): change its permissions.") from error
