"""Label vectors: read as gensim reads them, without loading the file, and the same bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import math
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from pipeline import config
from pipeline.data.fer import LABELS
from pipeline.errors import UserError
from pipeline.labels.vectors import LabelVectors, embed, exact_gram, read_vectors

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "resources/googlenews-emotions.w2v.txt"
GOOGLE_NEWS = ROOT.parent / "shared/data/word2vec/GoogleNews-vectors-negative300-bolukbasi.bin.gz"
WORDS = [*LABELS, "joyful", "very", "very_happy", "naïve", "슬픔"]
FORMS = ["w2v.txt", "w2v.bin", "w2v.txt.gz", "w2v.bin.gz"]


@pytest.fixture(scope="module")
def model() -> KeyedVectors:
    vectors = KeyedVectors(12)
    vectors.add_vectors(WORDS, np.random.default_rng(0).normal(size=(len(WORDS), 12)).astype(np.float32))
    return vectors


def saved(model: KeyedVectors, folder: Path, form: str) -> Path:
    """The file as gensim writes it, zipped afterwards where the form says so."""
    path = folder / form.removesuffix(".gz")
    model.save_word2vec_format(str(path), binary=".bin" in form)
    if form.endswith(".gz"):
        with path.open("rb") as plain, gzip.open(folder / form, "wb") as packed:
            shutil.copyfileobj(plain, packed)
    return folder / form


def text_file(folder: Path, *lines: str) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def unit(vector: np.ndarray) -> np.ndarray:
    row = vector.astype(np.float64)
    return np.asarray(row / np.sqrt((row**2).sum()))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_gensim_reads_it(model: KeyedVectors, tmp_path: Path, form: str) -> None:
    path = saved(model, tmp_path, form)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=".bin" in form)
    wanted = {"fear", "sad", "naïve", "슬픔", "absent"}
    ours = read_vectors(path, wanted)
    assert set(ours.key_to_index) == wanted - {"absent"}
    for word in ours.index_to_key:
        assert ours[word].dtype == np.float32
        np.testing.assert_array_equal(ours[word], theirs[word])


def test_all_forms_give_the_same_label_vectors(model: KeyedVectors, tmp_path: Path) -> None:
    first, *others = [embed(saved(model, tmp_path, form), dict(zip(LABELS, LABELS, strict=True))) for form in FORMS]
    for other in others:
        np.testing.assert_array_equal(other.vectors, first.vectors)
        np.testing.assert_array_equal(other.gram, first.gram)


def test_rows_of_the_original_tool_end_with_a_space_or_a_line_end(model: KeyedVectors, tmp_path: Path) -> None:
    """Mikolov's word2vec writes "word x y \\n" as text and "word <floats>\\n" as binary."""
    header = f"{len(WORDS)} {model.vector_size}\n".encode()
    text, binary = tmp_path / "text", tmp_path / "binary"
    text.write_bytes(header + b"".join(f"{w} {' '.join(map(repr, model[w].tolist()))} \n".encode() for w in WORDS))
    binary.write_bytes(header + b"".join(w.encode() + b" " + model[w].tobytes() + b"\n" for w in WORDS))
    for path in (text, binary):
        read = read_vectors(path, set(WORDS))
        np.testing.assert_array_equal(np.stack([read[word] for word in WORDS]), model.vectors)


def test_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = text_file(tmp_path, "2 2\r", "fear 1 2\r", "sad 3 4 \r")
    read = read_vectors(path, {"fear", "sad"})
    assert (read["fear"].tolist(), read["sad"].tolist()) == ([1, 2], [3, 4])


def test_of_two_equal_words_the_first_counts_as_in_gensim(tmp_path: Path) -> None:
    path = text_file(tmp_path, "3 2", "fear 1 2", "fear 3 4", "sad 5 6")
    theirs = KeyedVectors.load_word2vec_format(str(path))
    assert read_vectors(path, {"fear", "sad"})["fear"].tolist() == theirs["fear"].tolist() == [1, 2]


def test_one_word_gives_its_unit_vector(model: KeyedVectors, tmp_path: Path) -> None:
    vectors = embed(saved(model, tmp_path, "w2v.bin"), {"fear": "fear", "joy": "joyful"})
    assert (vectors.labels, vectors.words) == (("fear", "joy"), ("fear", "joyful"))
    np.testing.assert_allclose(vectors.vectors, [unit(model["fear"]), unit(model["joyful"])], rtol=1e-6)


@pytest.mark.parametrize("words", [["happy", "joyful"], "happy joyful"])
def test_several_words_give_the_direction_of_their_mean(
    model: KeyedVectors, tmp_path: Path, words: str | list[str]
) -> None:
    vectors = embed(saved(model, tmp_path, "w2v.txt"), {"happy": words})
    # Unit vectors are averaged, or the word with the longer vector would count for more.
    mean = (unit(model["happy"]) + unit(model["joyful"])) / 2
    np.testing.assert_allclose(vectors.of(["happy"])[0], unit(mean), rtol=1e-6)
    assert vectors.words == ("happy joyful",)


def test_a_phrase_that_is_an_entry_is_preferred_to_its_words(model: KeyedVectors, tmp_path: Path) -> None:
    path = saved(model, tmp_path, "w2v.txt")
    vectors = embed(path, {"happy": "very happy", "sad": "very sad"})
    np.testing.assert_allclose(vectors.of(["happy"])[0], unit(model["very_happy"]), rtol=1e-6)
    np.testing.assert_allclose(vectors.of(["sad"])[0], unit(unit(model["very"]) + unit(model["sad"])), rtol=1e-6)
    assert vectors.words == ("very_happy", "very sad")


def test_a_missing_word_is_named_with_its_label_and_the_nearest_spellings(model: KeyedVectors, tmp_path: Path) -> None:
    path = saved(model, tmp_path, "w2v.txt")
    with pytest.raises(UserError) as error:
        embed(path, {"angry": "angry", "surprise": "Surprised"}, "nouns")
    assert str(error.value) == (
        f"The word 'Surprised' of label 'surprise' is not among the 12 words of {path} "
        "(the nearest spellings in it are surprise): change labels.nouns.words.surprise."
    )
    with pytest.raises(UserError) as error:
        embed(path, {"fear": ["fear", "xyzzy"]})
    assert str(error.value) == (
        f"The word 'xyzzy' of label 'fear' is not among the 12 words of {path} "
        "(nothing in it is spelled alike): change labels.<name>.words.fear."
    )


@pytest.mark.parametrize("rows", [["up 1 0", "down -1 0"], ["up 0 0", "down 0 0"], ["up nan 0", "down 1 0"]])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_vectors_without_a_direction_are_refused(tmp_path: Path, rows: list[str]) -> None:
    path = text_file(tmp_path, "3 2", "first 1 1", *rows)
    with pytest.raises(UserError) as error:
        embed(path, {"neutral": ["up", "down"]}, "nouns")
    assert str(error.value) == (
        f"The vectors of label 'neutral' in {path} cancel out or are zero: "
        "choose other words in labels.nouns.words.neutral."
    )


def test_a_missing_file_names_the_key_to_set(tmp_path: Path) -> None:
    path = tmp_path / "absent.bin"
    with pytest.raises(UserError) as error:
        embed(path, {"fear": "fear"}, "nouns")
    assert str(error.value) == (
        f"The word vector file {path} does not exist: set labels.nouns.vectors to a word2vec file."
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"fear 0.1 0.2\n",
        b"12\nfear 0.1\n",
        b"1 -2\nfear 1 2\n",
        b"1 0\nfear\n",
        b"\x00\xff" * 200,
        b"a" * 300,
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="it is not a word2vec file"):
        embed(path, {"fear": "fear"})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(model: KeyedVectors, tmp_path: Path, form: str, share: float) -> None:
    path = saved(model, tmp_path, form)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="truncated"):
        read_vectors(path, {"슬픔", "absent"})


@pytest.mark.parametrize("place", [10, -6])
def test_a_damaged_gzip_file_is_refused(model: KeyedVectors, tmp_path: Path, place: int) -> None:
    """Damage to the first compressed block cannot be unpacked; damage to the checksum shows at the end."""
    content = bytearray(gzip.compress(saved(model, tmp_path, "w2v.bin").read_bytes()))
    content[place] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged or truncated"):
        read_vectors(path, {"absent"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("sad 1 2", "line 3, does not hold a word and 3 numbers"),
        ("sad 1 2 3 4", "line 3, does not hold a word and 3 numbers"),
        ("", "line 3, does not hold a word and 3 numbers"),
        ("sad 1 x 3", "line 3, holds something that is not a number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = text_file(tmp_path, "3 3", "fear 1 2 3", row, "happy 1 2 3")
    with pytest.raises(UserError, match=message):
        read_vectors(path, {"fear", "sad", "happy"})


@pytest.mark.parametrize(("binary", "limit"), [(False, 0.01), (True, 0.4)])
def test_only_the_wanted_rows_are_kept_in_memory(tmp_path: Path, binary: bool, limit: float) -> None:
    """20,000 words of 100 numbers: a binary file is read in pieces of 1 MB, a text file by the line."""
    rows = np.random.default_rng(0).normal(size=(97, 100)).astype(np.float32)
    written = [row.tobytes() if binary else " ".join(map(str, row)).encode() + b"\n" for row in rows]
    with (tmp_path / "large").open("wb") as file:
        file.write(b"20000 100\n")
        file.writelines(f"word{i} ".encode() + written[i % 97] for i in range(20_000))

    tracemalloc.start()
    read = read_vectors(tmp_path / "large", {"word3", "word19999"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(read["word3"], rows[3])
    np.testing.assert_array_equal(read["word19999"], rows[19_999 % 97])
    assert peak < limit * (tmp_path / "large").stat().st_size


@pytest.mark.parametrize(
    "beginning", [b"9 4\n", b"9 4\nsad 1 2 3 4\n", b"9 4\nsad 1 2 3 4\nangry 1 2 3 4 "], ids=["binary", "word", "line"]
)
@pytest.mark.parametrize("filler", [b"\0", b"5"])
def test_a_damaged_file_is_recognised_before_it_fills_the_memory(
    tmp_path: Path, beginning: bytes, filler: bytes
) -> None:
    path = tmp_path / "vectors.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(beginning)
        for _ in range(20):
            file.write(filler * (1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match="damaged"):
        read_vectors(path, {"fear"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def test_a_header_with_impossible_dimensions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.bin"
    path.write_bytes(b"1 999999999999\nsad ")
    with pytest.raises(UserError, match="999,999,999,999 dimensions"):
        read_vectors(path, {"sad"})


def test_reading_stops_at_the_last_wanted_row(tmp_path: Path) -> None:
    path = text_file(tmp_path, "1000000 2", "fear 1 2", "sad 3 4", "the rest is missing")
    assert len(read_vectors(path, {"fear", "sad"})) == 2


def test_the_gram_matrix_has_correctly_rounded_sums() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    gram = exact_gram(rows)
    for i in range(4):
        for j in range(4):
            products = [float(a) * float(b) for a, b in zip(rows[i], rows[j], strict=True)]
            assert gram[i, j] == math.fsum(products)
    np.testing.assert_array_equal(gram, gram.T)


def test_saving_is_exact_and_stable_byte_for_byte(model: KeyedVectors, tmp_path: Path) -> None:
    vectors = embed(saved(model, tmp_path, "w2v.bin"), dict(zip(LABELS, LABELS, strict=True)))
    vectors.save(tmp_path / "a.npz")
    vectors.save(tmp_path / "b.npz")
    again = LabelVectors.load(tmp_path / "a.npz")
    again.save(tmp_path / "c.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()
    assert (again.labels, again.words) == (vectors.labels, vectors.words)
    assert again.vectors.dtype == np.float32
    assert again.gram.dtype == np.float64
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    np.testing.assert_array_equal(again.gram, vectors.gram)
    digest = hashlib.sha256((tmp_path / "w2v.bin").read_bytes()).hexdigest()
    assert again.provenance == {"file": "w2v.bin", "sha256": digest, "dimensions": "12"}


def test_the_bytes_do_not_depend_on_the_clock(
    model: KeyedVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = embed(saved(model, tmp_path, "w2v.bin"), {"fear": "fear"})
    vectors.save(tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    vectors.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_loading_what_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"label_vectors.npz is missing: run `dvc repro embed` first"):
        LabelVectors.load(tmp_path / "label_vectors.npz")


def test_order_is_by_name_whatever_the_order_of_the_words(model: KeyedVectors, tmp_path: Path) -> None:
    path = saved(model, tmp_path, "w2v.bin")
    order = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # of the original README
    vectors = embed(path, {label: label for label in order})
    assert vectors.labels == order
    expected = np.stack([unit(model[label]) for label in LABELS])
    np.testing.assert_allclose(vectors.of(LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(vectors.gram_of(LABELS), expected @ expected.T, atol=1e-6)
    np.testing.assert_array_equal(vectors.of(["sad", "fear"]), vectors.vectors[[5, 2]])


def shipped() -> LabelVectors:
    return embed(SHIPPED, {label: label for label in LABELS})


def test_shipped_cosines_are_those_of_googlenews() -> None:
    """To word2vec happy and sad are the closest pair, and neutral is far from everything."""
    gram = shipped().gram_of(LABELS)
    assert (np.abs(np.diag(gram) - 1) < 1e-6).all()
    pairs = {frozenset((LABELS[i], LABELS[j])): gram[i, j] for i in range(7) for j in range(i)}
    stated = {("happy", "sad"): 0.54, ("angry", "disgust"): 0.41, ("angry", "happy"): 0.37}
    for pair, cosine in stated.items():
        assert round(float(pairs[frozenset(pair)]), 2) == cosine
    assert max(pairs, key=lambda pair: pairs[pair]) == {"happy", "sad"}
    assert max(cosine for pair, cosine in pairs.items() if "neutral" in pair) < 0.105


@pytest.mark.parametrize("name", config.load(ROOT / "params.yaml").labels)
def test_every_set_of_words_in_params_has_a_vector_for_each_label(name: str) -> None:
    chosen = config.load(ROOT / "params.yaml").labels[name]
    vectors = embed(ROOT / chosen.vectors, chosen.words, name)
    assert vectors.words == tuple(chosen.words.values())
    np.testing.assert_allclose(np.linalg.norm(vectors.of(LABELS), axis=1), np.ones(len(LABELS)), rtol=1e-6)
    off_diagonal = vectors.gram_of(LABELS)[np.triu_indices(len(LABELS), 1)]
    assert off_diagonal.max() < 0.999, "two labels have the same vector"


@pytest.mark.skipif(not GOOGLE_NEWS.exists(), reason="the GoogleNews extract is not beside this repository")
def test_shipped_rows_are_those_of_the_file_they_were_cut_from() -> None:
    theirs = KeyedVectors.load_word2vec_format(str(SHIPPED))
    source = read_vectors(GOOGLE_NEWS, set(theirs.index_to_key))
    assert sorted(source.index_to_key) == sorted(theirs.index_to_key)
    for word in theirs.index_to_key:
        np.testing.assert_array_equal(theirs[word], source[word])
    np.testing.assert_array_equal(embed(GOOGLE_NEWS, {label: label for label in LABELS}).gram, shipped().gram)
