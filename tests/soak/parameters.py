"""Mutated `params.yaml` against the pipeline: `python -m tests.soak.parameters --cases 10000 --seed 0`.

Each case changes keys, values, structure or bytes of the project's own file. It must be understood, or refused in one
sentence; where fetch or embed would then read what it names, the stage runs too, and a refusal leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import click
import yaml

from pipeline import cli, config
from pipeline.data.fer import CLASSES_FILE, LABELS
from pipeline.errors import UserError
from pipeline.files import set_environment, write_json
from pipeline.workspace import PREPARED
from stages import embed, fetch
from tests.clone import ROOT
from tests.soak.archives import as_csv, listing
from tests.soak.mutations import MUTATIONS
from tests.soak.pool import BrokenPromiseError, command

SMALL_IMAGES = 60
"""Faces that fetch draws in a moment."""

ODD_YAML = (
    *("", "~", "null", "true", "no", "on", "0", "-1", "1", "7", "1e3", "1.0e-4", "1e-4", "0x10", "0o7", "010", "1_000"),
    *(".nan", "-.inf", ".inf", "1.0e+400", "-0.0", "9" * 30, "9" * 400, "9" * 5000, "190:20:30", "2001-01-01"),
    *("2001-99-99", "2001-01-01T25:61:61Z", "=", "<<", "[]", "{}", "[[]]", "[1, 2]", "{a: 1}", "{1: 2}", "{null: 1}"),
    *(
        '"\\0"',
        '"\\uD800"',
        '"a\\nb"',
        '"\\x1b[31m"',
        '"é张\U0001f600"',
        '"' + "x" * 5000 + '"',
        "' '",
        '"\\ud83d\\ude00"',
    ),
    *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!foo bar", "!!binary x", "!!binary aGk="),
    *("!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!int abc", "!!int ''", "!!float x", "!!float ''"),
    *(
        "!!timestamp x",
        "!!bool x",
        "!!null x",
        "!!str 5",
        "!!map []",
        "!!seq {}",
        "!!int '0b'",
        "!!int ':'",
        "!!int '-'",
    ),
    *("&a [*a]", "&a {b: *a}", "*nowhere", "? [1, 2]\n    : 3", "{[1, 2]: 3}", "{{a: 1}: 2}", "{? {a: 1} : 2}"),
    *("{<<: [{a: 1}, {b: 2}]}", "{<<: 5}", "{<<: [5]}", "{<<: {a: 1}, <<: {a: 2}}", "{&x a: *x}", "{true: 1, yes: 2}"),
    *(
        "|\n    a\n    b",
        ">-\n    a",
        "%",
        "@",
        "`",
        "'",
        '"',
        "[",
        "{",
        "]",
        "- - - 1",
        "a: b: c",
        "!!",
        "&",
        "*",
        "? ",
        ": ",
    ),
    *("\t1", "1 # comment", "{a: 1, a: 2}", "[1, 1, 1]", "0.5", "2.0", "65536", str(2**31), str(2**63), str(2**64)),
)
PATHS = (
    *("", ".", "..", "/", "//", "~", "~nobody-of-this-name/x", "~root", "fer2013.csv", "./fer2013.csv", "nowhere.csv"),
    *(
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "/proc/self/fd/0",
        "/proc/1/environ",
        "a pipe",
        "loop",
        "empty",
        "link.csv",
    ),
    *("folder", "folder/", "fer2013.csv/", "fer2013.csv/x", "x" * 300, "x/" * 3000, "a\0b", "a\nb", "é张 (1)#&',.csv"),
    *("\udcff.csv", "C:\\fer2013.csv", "\\\\host\\fer", "file:///fer2013.csv", "https://example.org/fer2013.csv"),
    *("params.yaml", "resources", "resources/googlenews-emotions.w2v.txt", "$HOME", "${data.path}", "*", "-", "--help"),
    *(
        "%s",
        "{0}",
        "\u202egpj.csv",
        " fer2013.csv",
        "fer2013.csv ",
        "/etc/passwd",
        "/etc/ssh",
        "/sys/kernel/vmcoreinfo",
    ),
)
LAUGHS = "\n".join(["x0: &x0 [lol, lol]", *(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]" for n in range(1, 26))])
MERGES = "\n".join(
    ["m0: &m0 {a: 1}", *(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}, *m{n - 1}, *m{n - 1}]}}" for n in range(1, 14))]
)


@functools.cache
def base() -> str:
    """The project's own file, with drawn faces in a moment."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["synthetic"] |= {"train": 14, "val": 7, "test": 7}
    return str(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


@functools.cache
def _tree() -> dict[str, Any]:
    return dict(yaml.safe_load(base()))


def tree() -> dict[str, Any]:
    return copy.deepcopy(_tree())


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every mapping, list and value of a tree is."""
    below: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        below = [place for key, entry in value.items() for place in places(entry, (*path, key))]
    elif isinstance(value, list):
        below = [place for index, entry in enumerate(value) for place in places(entry, (*path, index))]
    return [path, *below] if path else below


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def dump(params: Any, rng: random.Random) -> str:
    return str(yaml.safe_dump(params, sort_keys=rng.random() < 0.2, allow_unicode=rng.random() < 0.5))


# --- mutations: each gives the bytes of a file


def other_yaml(rng: random.Random) -> bytes:
    """A value becomes a piece of YAML of another type, or of none."""
    params = tree()
    for number in range(rng.choice([1, 1, 1, 2])):
        *parents, last = rng.choice(places(params))
        at(params, tuple(parents))[last] = f"@{number}@"
    text = dump(params, rng)
    for number in range(2):
        text = text.replace(f"'@{number}@'", rng.choice(ODD_YAML))
    return text.encode("utf-8", "surrogatepass")


def other_value(rng: random.Random) -> bytes:
    """A value becomes that of another key, or a number grows, shrinks or changes its sign."""
    params = tree()
    *parents, last = rng.choice(places(params))
    holder = at(params, tuple(parents))
    value = holder[last]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.7:
        powers = [value * 10.0 ** rng.randint(-320, 300), value * 10 ** rng.randint(1, 40), -value, int(value) + 1]
        holder[last] = rng.choice(powers)
    else:
        holder[last] = at(params, rng.choice(places(params)))
    return dump(params, rng).encode()


def other_keys(rng: random.Random) -> bytes:
    """Keys are gone, added, written otherwise or moved."""
    params = tree()
    for _ in range(rng.choice([1, 1, 2, 4])):
        *parents, last = rng.choice(places(params))
        holder = at(params, tuple(parents))
        value = holder.pop(last)
        names = [
            str(last).upper(),
            f"{last} ",
            f" {last}",
            f"{last}\n",
            "",
            "a.b",
            "é",
            "x" * 3000,
            "-",
            "a/b",
            "\x1b[1m",
        ]
        new = rng.choice([*names, 1, 1.5, None, True, "baseline", "one_hot", "argmax", f"{last}_"])
        if rng.random() < 0.7 and isinstance(holder, dict):
            holder[new] = value
    return dump(params, rng).encode()


def other_paths(rng: random.Random) -> bytes:
    """The keys that name files name anything."""
    params = tree()
    path = rng.choice(PATHS) if rng.random() < 0.9 else "".join(rng.choices("/.~\\:*?\0\n é", k=rng.randint(1, 9)))
    kind = rng.choice(["archive", "archive", "votes", "vectors", "vectors"])
    if kind == "vectors":
        params["labels"][rng.choice(list(params["labels"]))]["vectors"] = path
    else:
        params["data"] |= {"source": "archive", "path": path if kind == "archive" else "fer2013.csv"}
        params["data"]["votes"] = path if kind == "votes" else rng.choice(["", "votes.csv"])
    return dump(params, rng).encode("utf-8", "surrogatepass")


def other_words(rng: random.Random) -> bytes:
    """Words that stand for labels: unknown, odd, long, lists of lists."""
    params = tree()
    words = params["labels"][rng.choice(list(params["labels"]))]["words"]
    odd = [
        "",
        " ",
        "a b",
        "happy",
        "nowhere",
        "é",
        "x" * 4000,
        "a\nb",
        "\0",
        "1",
        "</s>",
        ["happy", "sad"],
        ["a"] * 500,
    ]
    words[rng.choice(list(words))] = rng.choice(odd)
    return dump(params, rng).encode()


def other_bytes(rng: random.Random) -> bytes:
    data = base().encode()
    for mutation in rng.choices(MUTATIONS, k=rng.choice([1, 1, 3])):
        data = mutation(rng, data)
    return data


def other_lines(rng: random.Random) -> bytes:
    """Lines are gone, twice, swapped, indented otherwise."""
    lines = base().splitlines()
    for _ in range(rng.choice([1, 1, 2, 5])):
        line = rng.randrange(len(lines))
        how = rng.choice(["gone", "twice", "swap", "deeper", "flat", "tab", "hash", "dash", "odd"])
        if how == "gone":
            del lines[line]
        elif how == "twice":
            lines.insert(rng.randrange(len(lines)), lines[line])
        elif how == "swap":
            other = rng.randrange(len(lines))
            lines[line], lines[other] = lines[other], lines[line]
        else:
            text = lines[line]
            lines[line] = {
                "deeper": f"  {text}",
                "flat": text.strip(),
                "tab": f"\t{text}",
                "hash": text.replace(":", "#"),
                "dash": f"- {text}",
                "odd": f"{text} {rng.choice(ODD_YAML)}",
            }[how]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def bomb(rng: random.Random) -> bytes:
    """Small files that would fill memory, or the stack, when expanded, merged or shown."""
    text = base()
    first = rng.choice(["data", "grid", "compare", "recipe", "labels", "models", "recipes", "data: {source"])
    depth = rng.choice([50, 300, 1000, 20_000])
    kind = rng.choice(["laughs", "laughs in a key", "merges", "list", "map", "lines", "anchors", "keys", "long"])
    return {
        "laughs": f"{LAUGHS}\n{first}: *x25\n",
        "laughs in a key": text.replace("recipe: fast", f"recipe: *x25\n{LAUGHS}") + LAUGHS,
        "merges": f"{MERGES}\n{first}: *m13\n" + text,
        "list": f"{first}: {'[' * depth}{']' * depth}\n",
        "map": f"{first}: {'{a: ' * depth}1{'}' * depth}\n",
        "lines": "\n".join(" " * n + "a:" for n in range(min(depth, 1000))),
        "anchors": "\n".join(f"k{n}: &a{n} 1" for n in range(depth)) + "\n" + text,
        "keys": "\n".join(f"key{n}: {n}" for n in range(min(depth, 3000))) + "\n" + text,
        "long": text + "# " + "x" * (depth * 100) + "\n" + f"{'y' * depth}: 1\n",
    }[kind].encode()


def other_encoding(rng: random.Random) -> bytes:
    text = base().replace("\n", rng.choice(["\n", "\r\n", "\r"]))
    text = text.replace("source: synthetic", rng.choice(["source: synthetic", "source: synthétic", "source: 合成"]))
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"]))


KINDS: tuple[tuple[Callable[[random.Random], bytes], float], ...] = (
    (other_yaml, 0.30), (other_value, 0.15), (other_keys, 0.13), (other_paths, 0.12), (other_lines, 0.12),
    (other_bytes, 0.08), (other_words, 0.04), (bomb, 0.04), (other_encoding, 0.02),
)  # fmt: skip


def run(seed: int, case: int, folder: Path) -> str:
    """One case. See `tests.soak.pool.Case`."""
    rng = random.Random(f"parameters {seed} {case}")
    (mutate,) = rng.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])
    furnish(folder)
    (folder / "params.yaml").write_bytes(mutate(rng))
    with inside(folder):
        params = config.load()
        stages = [stage for stage, reads in STAGES if reads(params)]
        for stage in stages:
            before = listing(folder)
            try:
                run_as_command(stage)
            except UserError as error:
                after = {name: size for name, size in listing(folder).items() if size >= 0}
                left = sorted(after.items() - before.items())
                if left:
                    raise BrokenPromiseError(f"{mutate.__name__}: {error} But there is {left}") from None
                raise
    return mutate.__name__


def run_as_command(stage: Callable[[], None]) -> None:
    """Run a stage as its command does, in this process. What the command prints as its error is raised."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.run(click.Command(stage.__module__, callback=stage), [])
    except SystemExit as error:
        *_, sentence = said.getvalue().rpartition("error: ")
        if error.code != 1 or not said.getvalue().startswith(("error: ", "warning: ")):
            raise BrokenPromiseError(f"exit code {error.code}: {said.getvalue()[:300]}") from None
        raise UserError(sentence.removesuffix("\n")) from None


def wants_fetch(params: config.Params) -> bool:
    data, plain = params.data, tree()["data"]
    drawn = data.synthetic.train + data.synthetic.val + data.synthetic.test
    if data.source == "kaggle" or drawn > SMALL_IMAGES:  # nothing is downloaded here
        return False
    return bool(data.source != plain["source"] or data.synthetic.seed != plain["synthetic"]["seed"])


def wants_embed(params: config.Params) -> bool:
    plain = tree()["labels"]
    read = {name: {"vectors": entry.vectors, "words": entry.words} for name, entry in params.labels.items()}
    return bool(read != plain)


STAGES: tuple[tuple[Callable[[], None], Callable[[config.Params], bool]], ...] = (
    (fetch.main, wants_fetch),
    (embed.main, wants_embed),
)


def furnish(folder: Path) -> None:
    """What a user's folder may hold, and the classes that embed reads from prepare's output."""
    write_json(folder / PREPARED / CLASSES_FILE, LABELS)
    (folder / "resources").symlink_to(ROOT / "resources")
    (folder / "fer2013.csv").write_bytes(as_csv())
    (folder / "link.csv").symlink_to(folder / "fer2013.csv")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "a pipe")


@contextlib.contextmanager
def inside(folder: Path) -> Any:
    """Stages run in the folder, without MLflow."""
    with (
        contextlib.chdir(folder),
        set_environment({"FER_TRACKING": "off"}),
        mock.patch.object(fetch, "log_fetch"),  # they draw figures, even for no one
        mock.patch.object(embed, "log_embed"),
    ):
        yield


if __name__ == "__main__":
    command("parameters", run)()
