"""The report of a curation run: what it says, and that no text breaks it."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.curation import names
from s1ray.curation.pipeline import curate
from s1ray.curation.report import write_report
from s1ray.curation.report.composition import compositions
from s1ray.curation.report.examples import OF_A_REASON, OF_A_TIER, bad_rows, dropped_examples, likenesses
from s1ray.curation.report.excerpts import SHOWN, Excerpt, excerpt, find_words, side_by_side
from s1ray.curation.report.funnel_drawing import THINNEST, WIDEST, draw, steps
from s1ray.errors import InputError, MissingError
from s1ray.manifests import RunError
from s1ray.schemas import MANIFEST
from tests.support.curated import (
    CHOSEN,
    COPY,
    LONG,
    MANIFEST_DROPS,
    MANIFEST_ROWS,
    MATH,
    NUL,
    SCRIPT,
    SOLUTION_FOUND,
    curated,
)


class Page(HTMLParser):
    """The tags of a page, and the texts of its `pre` and `mark` elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.marked: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag in ("pre", "mark"):
            self._open.append(tag)
            (self.texts if tag == "pre" else self.marked).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "mark"):
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.texts[-1] += data
        if "mark" in self._open:
            self.marked[-1] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curated(tmp_path_factory.mktemp("curated"))


@pytest.fixture(scope="module")
def html(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(run, tmp_path_factory.mktemp("out") / "report.html").read_text(encoding="utf-8")


def test_every_text_is_shown_as_it_is_and_none_is_markup(html: str) -> None:
    page = Page(html)
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert {SCRIPT, MATH, COPY, CHOSEN} <= set(page.texts)
    assert NUL.replace("\0", "␀").replace("\x1b", "␛") in page.texts
    assert "half � pair" in page.texts
    assert "<i>3</i>" in page.texts
    assert "\0" not in html
    assert "&lt;b&gt;geometry&lt;/b&gt;" in html


def test_long_texts_are_cut_around_what_is_marked(html: str) -> None:
    page = Page(html)
    assert f"cut; {len(LONG):,} characters in all" in html
    assert len(html) < 300_000
    (cut,) = [text for text in page.texts if text.startswith("… ") and text.endswith("$b^2 \\le 9$.")]
    assert len(cut) <= SHOWN + len("… ")


def test_the_numbers_of_the_run_are_there(html: str) -> None:
    assert "2 questions of 9" in html
    assert "−4 missing solution" in html
    assert "dropped 5 of 9" in html
    assert f"({OF_A_TIER} of 61 shown)" in html
    assert "1 among the questions" in html
    assert "7 more could not be used" in html


def test_the_same_run_gives_the_same_bytes_and_no_clock(run: Path, html: str, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_drops_have_their_first_rows_and_what_was_kept_instead(run: Path) -> None:
    found = dropped_examples(sorted((run / "dropped").glob("*")), [run / "questions.parquet"])
    missing = found["quality", "missing solution"]
    assert len(missing) == OF_A_REASON
    assert [example.question.text for example in missing] == [NUL, MATH, "3rd?"]
    (copy,) = found["deduplication", "same text but for spelling"]
    assert copy.kept is not None
    assert (copy.question.text, copy.kept.text) == (COPY, CHOSEN)
    (leak,) = found["decontamination", "contains a benchmark question"]
    assert (leak.detail, leak.kept) == ("bench/7", None)


def test_likenesses_of_chosen_rows_come_first_then_the_most_alike(run: Path) -> None:
    groups = {group.tier: group for group in likenesses(sorted((run / "review").glob("*")))}
    assert list(groups) == ["whole", "ngrams", "overlap", "s1_ngrams"]
    overlap = groups["overlap"]
    assert (overlap.count, overlap.dropped, overlap.chosen, overlap.elsewhere) == (61, 0, 1, 60)
    assert overlap.shown[0].row.text == CHOSEN
    scores = [hit.score for hit in overlap.shown[1:]]
    assert scores == sorted(scores, reverse=True)
    assert (len(scores), scores[0]) == (OF_A_TIER - 1, 0.659)
    (leak,) = groups["whole"].shown
    assert (leak.row.text, leak.fate) == (SOLUTION_FOUND, "dropped for it")


def test_composition_counts_pool_and_questions(run: Path) -> None:
    tables = compositions([run / "questions.parquet"], sorted((run / "dropped").glob("*")), "words")
    domain, source, length = ({s.label: (s.pool, s.chosen) for s in table.shares} for table in tables)
    assert domain == {"algebra": (7, 1), "<b>geometry</b>": (1, 1), "(none)": (1, 0)}
    assert source == {"pool|a": (8, 1), "other</td>": (1, 1)}
    expected = {"(none)": (1, 0), "0 (no working)": (1, 0), "4 to 7": (5, 1), "256 to 511": (1, 1)}
    expected["524,288 to 1,048,575"] = (1, 0)
    assert length == expected


def test_many_groups_are_summed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"d{n:03}" for n in range(100)]
    columns = {"domain": names, "source": ["s"] * 100, "length": pa.array([3] * 100, pa.int64())}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    domain = compositions([tmp_path / "a.parquet"], [], "words")[0]
    assert (len(domain.shares), domain.shares[-1].label, domain.shares[-1].pool) == (21, "80 others", 80)


def test_names_without_end_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_NAMES", 3)
    counts = names.NameCounts()
    counts.add([("a/1", 1), ("a/2", 2), ("b", 3)])
    assert counts.at(counts.level) == {"a/1": 1, "a/2": 2, "b": 3}
    counts.add([("a/3", 4), (None, 5)])
    counts.add([("a/1", 6)])
    assert counts.at(counts.level) == {"a/…": 13, "b": 3, None: 5}
    counts.add([("c", 1), ("d", 1)])
    assert counts.at(counts.level) == {names.MANY: 18, None: 5}


def test_bad_rows_are_grouped_by_kind(run: Path) -> None:
    kinds = {kind.kind: kind for kind in bad_rows(run / "quarantine.jsonl")}
    assert {name: kind.count for name, kind in kinds.items()} == {
        "not JSON": 5,
        "broken text": 1,
        "files that cannot be read, or not to their end": 1,
    }
    assert [where for where, _, _ in kinds["not JSON"].shown] == [f"pool, pool.jsonl, line {n}" for n in range(3)]


def test_the_funnel_is_as_wide_as_its_rows() -> None:
    funnel = steps(
        {"in": 1_000_000, "after quality": 500_000, "after selection": 1, "out": 1}, {"quality: a: b": 500_000}
    )
    assert [(step.rows_in, step.rows_out, step.reasons) for step in funnel] == [
        (1_000_000, 500_000, [("a: b", 500_000)]),
        (500_000, 1, []),
    ]
    widths = []
    for band in draw(funnel).bands:
        corners = [float(point.split(",")[0]) for point in band.points.split()]
        widths.append((corners[1] - corners[0], corners[2] - corners[3]))
    assert widths == [(WIDEST, WIDEST / 2), (WIDEST / 2, THINNEST)]


def test_a_run_without_rows_can_be_drawn() -> None:
    assert draw(steps({"in": 0, "after quality": 0, "out": 0}, {})).bands[0].labels[1].text == "0 left"
    assert [step.stage for step in steps(MANIFEST_ROWS, MANIFEST_DROPS)] == [
        "quality",
        "decontamination",
        "deduplication",
    ]


def test_the_matched_words_are_marked_in_any_spelling() -> None:
    ours, theirs = side_by_side("if 2 ^ 8 = 4 ^ x", "Say: if $2^8=4^{x}$, then?", "If $2^8 = 4^x$.")
    assert marked(ours) == ["if $2^8=4^{x"]
    assert marked(theirs) == ["If $2^8 = 4^x"]
    ours, theirs = side_by_side("A dog ate 3 nuts", "A dog ate 3 nuts", "A dog ate 5 nuts and cakes")
    assert marked(ours) == ["A dog ate"]


def marked(shown: Excerpt) -> list[str]:
    return [piece.text for piece in shown.pieces if piece.marked]


def test_words_are_found_as_whole_words_only() -> None:
    assert find_words("the cat", "bathe cat, the cats, The Cat!") == (21, 28)
    assert find_words("the cat", "the catalogue") is None
    assert find_words("", "text") is None
    assert find_words("...", "text") is None
    assert find_words("is it tr...", "This is it, true") == (5, 10)


texts = st.text(alphabet=st.sampled_from("aB1 \n\\{}$<&\0é漢."), max_size=900)


@given(texts, texts, texts)
def test_what_is_shown_is_the_text(found: str, text: str, other: str) -> None:
    for shown, whole in zip(side_by_side(found, text, other), (text, other), strict=True):
        assert shown.text.removeprefix("… ").removesuffix(" …") in whole
        assert shown.cut == (len(whole) > SHOWN)
        assert len(shown.text) <= SHOWN + 4


@given(st.text(max_size=2_000), st.integers(0, 2_000), st.integers(0, 2_000))
def test_the_beginning_of_a_mark_is_always_shown(text: str, one: int, other: int) -> None:
    start, stop = sorted((min(one, len(text)), min(other, len(text))))
    if start < stop:
        first = marked(excerpt(text, [(start, stop)]))
        assert first
        assert text[start:stop].startswith(first[0])


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_the_command_writes_into_the_run_or_where_it_is_told(own_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["curate", "report", str(own_run)])
    assert result.exit_code == 0, result.output
    assert (own_run / "report.html").read_text().startswith("<!doctype html>")
    result = CliRunner().invoke(app, ["curate", "report", str(own_run), "-o", str(tmp_path / "a.html")])
    assert (tmp_path / "a.html").read_bytes() == (own_run / "report.html").read_bytes()


def test_nothing_of_a_run_is_written_over(own_run: Path, tmp_path: Path) -> None:
    for target in ("questions.parquet", "manifest.json", "dropped/x.html", "new.html"):
        with pytest.raises(InputError, match="over or into"):
            write_report(own_run, own_run / target)
    with pytest.raises(RunError, match="is a folder"):
        write_report(own_run, tmp_path)


def test_what_is_no_complete_run_is_refused(own_run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run folder"):
        write_report(tmp_path / "nothing")
    manifest = json.loads((own_run / MANIFEST).read_text())
    (own_run / MANIFEST).write_text(json.dumps(manifest | {"status": "running"}))
    with pytest.raises(InputError, match="a running 'curate' run"):
        write_report(own_run)


def test_a_damaged_part_is_named(own_run: Path) -> None:
    (own_run / "dropped" / "part-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-1\.parquet: damaged"):
        write_report(own_run)


def test_a_report_that_cannot_be_written_does_not_fail_the_stage(
    own_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Finished:
        path = own_run

    assert curate.afterwards is not None
    (own_run / "dropped" / "part-1.parquet").write_bytes(b"PAR1")
    with caplog.at_level("WARNING", logger="s1ray"):
        curate.afterwards(None, Finished())  # type: ignore[arg-type]
    assert "its report cannot be written" in caplog.text
    assert not (own_run / "report.html").exists()
