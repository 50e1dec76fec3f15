from pathlib import Path

import pytest

from s1ray.benchmarks import check_there, is_file, load_benchmark
from s1ray.errors import InputError, MissingError
from s1ray.schemas import Question, to_table, write_table

OWN = [Question(id="1", question="One?", answer="1")]


def own() -> list[Question]:
    return OWN


def nothing() -> None:
    return None


def rows() -> list[dict[str, str]]:
    return [{"question": "One?"}]


def test_a_benchmark_is_a_file_a_registered_name_or_a_function(tmp_path: Path) -> None:
    file = tmp_path / "bench.parquet"
    write_table(to_table(OWN, Question), file)
    assert load_benchmark(str(file)) == OWN
    assert load_benchmark(f"{__name__}:own") == OWN
    assert len(load_benchmark("miniature")) == 600
    assert [is_file(name) for name in (str(file), f"{__name__}:own", "miniature")] == [True, False, False]


def test_what_is_neither_file_nor_name_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere.parquet'.*registered benchmarks: .*miniature"):
        check_there(str(tmp_path / "nowhere.parquet"))
    with pytest.raises(InputError, match="gives a dict; it must give Question rows"):
        load_benchmark(f"{__name__}:rows")


@pytest.mark.parametrize(
    ("name", "message"), [("OWN", "is a list, not a function"), ("nothing", "gives a NoneType; it must give Question")]
)
def test_what_gives_no_rows_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_benchmark(f"{__name__}:{name}")
