"""The registries: what s1ray has, what packages add, and what is refused."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import SerializeAsAny

from s1ray import registry
from s1ray.config import Config, ConfigError, to_yaml, validate_config
from s1ray.errors import InputError
from s1ray.registry import (
    BENCHMARKS,
    GRADERS,
    MODEL_ALIASES,
    SCORERS,
    SOURCES,
    STRATEGIES,
    TEACHERS,
    Registry,
    registered,
)


class Fruit(Config):
    kind: str


class Apple(Fruit):
    seeds: int = 5


class Pear(Fruit):
    weight: float


FRUITS: Registry[type[Config]] = Registry("fruit", "s1ray.test_fruits", {"apple": f"{__name__}:Apple"})


class Basket(Config):
    fruits: list[Annotated[Fruit, registered(FRUITS, Fruit), SerializeAsAny()]]
    favourite: Annotated[Fruit, registered(FRUITS, Fruit, default="apple"), SerializeAsAny()] = Apple(kind="apple")


@pytest.fixture
def pears(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that adds pears."""
    point = EntryPoint("pear", f"{__name__}:Pear", "s1ray.test_fruits")
    monkeypatch.setattr(registry, "_entry_points", lambda group: {"pear": point} if group.endswith("fruits") else {})


def basket(*fruits: object, **fields: object) -> Basket:
    return validate_config(Basket, {"fruits": list(fruits), **fields}, "basket.yaml")


@pytest.mark.usefixtures("pears")
def test_a_config_finds_what_a_package_has_registered_and_keeps_its_fields() -> None:
    filled = basket({"kind": "apple", "seeds": 3}, {"kind": "pear", "weight": 1.5}, favourite={"seeds": 9})
    assert filled.fruits == [Apple(kind="apple", seeds=3), Pear(kind="pear", weight=1.5)]
    assert "weight: 1.5" in to_yaml(filled)
    assert FRUITS.names() == ["apple", "pear"]


def test_a_module_and_an_attribute_stand_for_a_name() -> None:
    assert basket({"kind": f"{__name__}:Pear", "weight": 2}).fruits == [Pear(kind=f"{__name__}:Pear", weight=2)]


@pytest.mark.parametrize(
    ("fruit", "message"),
    [
        ({"kind": "aple"}, r"fruits.0: no fruit is called 'aple'; did you mean 'apple'\?"),
        ({"kind": "apple", "seeds": "many"}, "fruits.0.seeds: "),
        ({"kind": "apple", "stones": 1}, "fruits.0.stones: unknown field"),
        ({"seeds": 1}, "fruits.0: needs `kind`: one of apple"),
        ({"kind": "no_such_module:Thing"}, "cannot be imported: No module named 'no_such_module'; .* on PYTHONPATH"),
        ({"kind": f"{__name__}:Absent"}, "cannot be imported: .*Absent"),
        ({"kind": "-m:rm"}, "no fruit is called"),
        (
            {"kind": "builtins:eval"},
            "fruits.0: the fruit 'builtins:eval' is no class derived from tests.test_registry.Fruit",
        ),
        ({"kind": f"{__name__}:FRUITS"}, "is no class derived from"),
        ({"kind": f"{__name__}:Basket"}, "is no class derived from"),
        ({"kind": f"{__name__}:Fruit"}, "is no class derived from"),
        ({"kind": f"{__name__}:basket"}, "is no class derived from"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(fruit: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        basket(fruit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('boom')", r"RuntimeError: boom \(.*rotten.py, line 1\)"),
        ("import sys; sys.exit(0)", r"SystemExit: 0 \(.*rotten.py, line 1\)"),
        ("def (", r"\(rotten.py, line 1\)"),
        ("def __getattr__(name): raise ValueError(name)", "ValueError: Apple"),
    ],
)
def test_a_module_that_fails_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    """Above all one that ends the process: the command would stop with the module's own status, without a word."""
    (tmp_path / "rotten.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rotten", raising=False)
    with pytest.raises(ConfigError, match=f"the fruit 'rotten:Apple' cannot be imported: .*{message}"):
        basket({"kind": "rotten:Apple"})


@pytest.mark.parametrize(
    "kind", [SOURCES, BENCHMARKS, TEACHERS, STRATEGIES, SCORERS, GRADERS, MODEL_ALIASES], ids=lambda r: r.kind
)
def test_everything_that_is_registered_can_be_imported(kind: Registry[object]) -> None:
    for name in kind.names():
        assert kind.get(name) is not None
    with pytest.raises(InputError, match=f"no {kind.kind} is called 'nothing'"):
        kind.get("nothing")
