"""The benchmarks of curation: the plain process and the pools of the scale, and how pass rates fit labels."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.curation import plain
from benchmarks.curation.difficulty import LABELS, Labelled, agreements, auc, auc_range, by_chance, draw
from benchmarks.curation.pool import NAMES, write_pool
from benchmarks.curation.pool import variant as variant_of
from benchmarks.curation.processes import Usage, measured
from benchmarks.curation.rewrites import DATA
from benchmarks.curation.scale import EVERY, PLAIN, Result, figures

TEXTS = st.lists(st.sampled_from("abc"), min_size=6, max_size=11).map(" ".join)


@given(st.lists(st.lists(TEXTS, max_size=5), max_size=3), TEXTS)
def test_indexes_and_sets_leave_the_same_rows(pools: list[list[str]], asked: str) -> None:
    sources = [[{"question": text} for text in texts] for texts in pools]
    one, other = (list(plain.filtered(sources, plain.grams(asked), how)) for how in ("index", "sets"))
    assert one == other
    texts = [row["question"] for row in one]
    assert len(set(texts)) == len(texts)
    assert all(plain.grams(text).isdisjoint(plain.grams(asked)) for text in texts)


def test_a_later_source_loses_what_an_earlier_one_has() -> None:
    shared = "1 2 3 4 5 6 7 8"
    pools = [[shared], [f"9 {shared} a b c d e f g h"], ["a b c d e f g h", shared]]
    rows = plain.filtered([[{"question": text} for text in texts] for texts in pools], set(), "sets")
    assert [row["question"] for row in rows] == [shared, "a b c d e f g h"]


def test_variants_are_other_texts() -> None:
    rng = random.Random(0)
    question = f"{NAMES[0]} has 12 apples and 3 pears, and eats 5."
    texts = {variant_of(question, rng) for _ in range(200)}
    assert len(texts) == 200
    assert all(text.split()[1:2] == ["has"] and text.split()[0] in NAMES for text in texts), "enough numbers of its own"
    assert len({variant_of("What is a prime?", rng) for _ in range(200)}) == 200


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there (S1RAY_SHARED_DATA says where it is)")
def test_a_pool_has_so_many_rows(tmp_path: Path) -> None:
    lines = [line for file in write_pool(tmp_path, 3000) for line in file.read_text().splitlines()]
    assert len(lines) == 3000


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_a_command_and_its_children_take(tmp_path: Path) -> None:
    busy = "import time; held = bytearray(60_000_000)\nwhile time.process_time() < 1: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    usage = measured([sys.executable, "-c", parent], os.environ, tmp_path / "log.txt")
    assert usage.wall_s >= 1
    assert usage.cpu_s["services"] > 0.4 > usage.cpu_s["driver"]
    assert usage.peak_mb["everything"] > 60 > usage.peak_mb["driver"]
    with pytest.raises(RuntimeError, match="no luck"):
        measured([sys.executable, "-c", "raise SystemExit('no luck')"], os.environ, tmp_path / "log.txt")


def test_ratios() -> None:
    def result(rows: int, arm: str, seconds: float) -> Result:
        return Result(rows, arm, Usage(seconds, {"driver": seconds}, {"everything": seconds}), 1)

    every, plain_one, larger = figures([result(100, EVERY, 4), result(10, EVERY, 2), result(10, PLAIN, 8)])
    assert every["against plain"] == {"wall": 0.25, "cpu": 0.25, "memory": 0.25}
    assert "against plain" not in {*plain_one, *larger}
    assert larger["against 10 rows"]["wall"] == 2


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_the_area_is_the_chance_to_rank_an_easy_question_higher(rows: list[tuple[int, bool]]) -> None:
    easy, hard = ([score for score, is_easy in rows if is_easy is side] for side in (True, False))
    found = auc(np.array([score for score, _ in rows]), np.array([is_easy for _, is_easy in rows]))
    if not easy or not hard:
        assert np.isnan(found)
    else:
        pairs = [(high > low) + (high == low) / 2 for high in easy for low in hard]
        assert found == pytest.approx(sum(pairs) / len(pairs))


def test_rates_that_are_the_label_fit_it_and_noise_does_not() -> None:
    def labelled(is_easy: bool) -> Labelled:
        return Labelled("GSM8K", "q", "1", 10, dict.fromkeys(LABELS["GSM8K"], is_easy))

    sides = [number % 4 != 0 for number in range(200)]
    questions = [labelled(is_easy) for is_easy in sides]
    (same, *_) = [each for each in agreements(questions, [float(side) for side in sides]) if each.set == "GSM8K"]
    assert (same.majority, same.agrees, same.auc, same.words_auc) == (0.75, 1.0, 1.0, 0.5)
    noise = np.random.default_rng(1).integers(0, 3, 200)
    low, high = auc_range(noise, np.array(sides))
    assert low < 0.5 < high < 0.65


def test_few_easy_ones_among_many_prove_nothing() -> None:
    assert by_chance(10, 8, 2, 2) == pytest.approx(8 / 10 * 7 / 9)
    assert by_chance(10, 8, 3, 0) == 1
    assert by_chance(10, 8, 0, 0) == 1


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there (S1RAY_SHARED_DATA says where it is)")
def test_the_same_questions_are_drawn_again_of_every_level() -> None:
    questions = draw(DATA, 50)
    assert questions == draw(DATA, 50)
    assert len({each.question for each in questions}) == 50
    assert sum(each.easy["level 1 or 2"] for each in questions if each.set == "MATH") == 12
