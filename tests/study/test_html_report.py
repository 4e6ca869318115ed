"""The page that a person mails: complete in itself, the table's numbers, nobody's face, sorted by a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.__main__ import fer
from pipeline.comparison.rows import read_rows
from pipeline.errors import UserError
from pipeline.study import html_report
from pipeline.study.html_report import Finished, marked, page
from pipeline.study.publish import SHOWABLE
from tests.browser import CHROMIUM, Browser
from tests.clone import ROOT, Clone

STUDY = ROOT / "results/fer2013"


class Elements(HTMLParser):
    """What a page consists of: each element with its attributes, and the text of each cell by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th", "button"):
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return page(Finished.published(STUDY))


@pytest.fixture(scope="module")
def elements(text: str) -> Elements:
    return Elements(text)


def test_it_needs_nothing_else(text: str, elements: Elements) -> None:
    addresses = [
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert len(addresses) > 10
    assert [address[:40] for address in addresses if not address.startswith(("data:image/png;", "#"))] == []
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://", text)
    assert not elements.all("link")


def test_a_blind_reader_is_told_the_same(elements: Elements) -> None:
    pictures = elements.all("img")
    assert len(pictures) > 20
    assert all(len(picture["alt"].split()) > 5 for picture in pictures)
    assert elements.all("html") == [{"lang": "en"}]
    assert [len(elements.all(tag)) for tag in ("main", "h1", "title", "caption")] == [1, 1, 1, 1]
    scopes = [heading.get("scope") for heading in elements.all("th")]
    assert set(scopes) == {"col", "row"}


def test_the_table_and_the_answer_are_those_of_the_study(text: str, elements: Elements) -> None:
    rows = read_rows(STUDY / "ablation.json")
    headings, *cells = elements.rows
    assert [len(row) for row in cells] == [len(headings)] * len(rows)
    for row, shown in zip(rows, cells, strict=True):
        assert shown[0].split(" + ")[0] == row.model
        accuracy = row["test.accuracy"]
        assert shown[headings.index("accuracy")] == f"{100 * accuracy.mean:.2f} ± {100 * (accuracy.std or 0):.2f}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (answer,) = re.findall(r"<!-- begin answer -->\n(.*?)\n<!-- end", readme, flags=re.DOTALL)
    assert str(marked(answer)) in text


def test_a_block_has_a_table_for_each_kind_of_labels_and_no_answer_but_its_contrasts() -> None:
    rows = read_rows(STUDY / "ablation.json")
    other = [replace(row, model=f"{row.model}_few10") for row in rows]
    groups = html_report.compared([*rows, *other])
    assert groups == [rows, other]
    first = Finished.published(STUDY).baselines[rows[0].model]
    baselines = {rows[0].model: first, other[0].model: first}
    text = page(Finished(groups, baselines, STUDY, STUDY / "figures", "B"))
    assert len(Elements(text).all("table")) == 2
    for group in groups:
        assert f"minus that of <code>{group[0].model}</code>" in text
    (answer,) = re.findall(r'<p class="answer">(.*?)</p>', text)
    assert "contrasts" in answer
    assert "on PublicTest, <code>" not in text


def test_no_single_person_is_shown() -> None:
    assert {f"{name}.png" for name in html_report.OF_ONE} <= {*SHOWABLE}


def test_names_are_text_and_no_markup() -> None:
    assert marked("a <b> & **c** `d`") == "a &lt;b&gt; &amp; <strong>c</strong> <code>d</code>"


@pytest.mark.parametrize(
    "line",
    [
        "--html",
        "--html x.html --of empty",
        "--html x.html --block B",
        "--of empty",
        "--html table.csv",
        "--text",
        "--text --block B",
    ],
)
def test_what_cannot_be_shown_is_said_and_nothing_written(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.run(fer, ["report", *line.split()])
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_page_replaces_no_file_but_another_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        cli.run(fer, ["report", "--html", "study.html", "--of", str(STUDY)])
    (tmp_path / "mine.html").write_text("mine")
    for name in ("mine.html", "/proc/x.html"):
        with pytest.raises(SystemExit):
            cli.run(fer, ["report", "--html", name, "--of", str(STUDY)])
        assert capsys.readouterr().err.startswith("error: --html: ")
    assert (tmp_path / "mine.html").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", '["a"]', '{"a": 1}', '[{"model": "a"}]', '[{"model": "a", "x": {}}'])
def test_a_table_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text(content)
    with pytest.raises(UserError, match=r"ablation\.json "):
        Finished.published(tmp_path)
    (tmp_path / "ablation.json").write_bytes((STUDY / "ablation.json").read_bytes())
    with pytest.raises(UserError, match=r"runs/baseline-\d+\.json is missing"):
        Finished.published(tmp_path)


def test_text_is_printed_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.run(fer, ["report", "--text", "--of", str(STUDY)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(read_rows(STUDY / "ablation.json")) + 1, "a head and a legend, no baseline"
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_finished_pipeline_is_a_page(
    finished: Clone, tmp_path: Path, fer_in: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fer_in(finished, "report", "--html", str(tmp_path / "mine.html"))
    assert "mine.html" in capsys.readouterr().out
    found = Elements((tmp_path / "mine.html").read_text(encoding="utf-8"))
    assert [row[0] for row in found.rows[1:]] == ["baseline", "baseline + crm.word2vec", "w2v_cosine"]
    said = " ".join(picture["alt"] for picture in found.all("img"))
    assert all(alt in said for _, alt in html_report.OF_ONE.values())
    assert html_report.OF_ALL["differences"][1] in said


@pytest.mark.medium
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed: apt-get install chromium")
def test_a_browser_sorts_by_mouse_and_keyboard_and_asks_for_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    column = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[2].innerText)"
    with Browser(tmp_path / "profile") as browser:
        browser.open(file.as_uri())
        browser.wait("Every row", "w2v_softmax")
        browser.evaluate("document.querySelectorAll('thead button')[1].focus()")
        browser.press("Tab", "Enter")
        falling = [float(cell.split()[0]) for cell in browser.evaluate(column)]
        assert falling == sorted(falling, reverse=True)
        assert browser.evaluate("document.activeElement.parentElement.ariaSort") == "descending"
        browser.press("Space")
        rising = [float(cell.split()[0]) for cell in browser.evaluate(column)]
        assert rising == falling[::-1]
        roles = {role for role, _ in browser.accessible()}
        assert {"main", "table", "columnheader", "rowheader", "button", "image"} <= roles
        loaded = "performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 5))"
        assert set(browser.evaluate(loaded)) <= {"data:"}
        shown = "[...document.images].every(image => image.complete && image.naturalWidth > 100)"
        assert browser.evaluate(shown)
