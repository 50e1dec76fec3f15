"""The models of a server and their adapters. Nothing is started, but ray.serve.llm and vLLM are imported."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException

from s1ray.serving.http.errors import RefusedError

CLOUD = "s3://bucket/adapters"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three models: one without adapters, one with a folder of them, and one with two in cloud storage."""
    from s1ray.serving.http import models

    async def metadata(name: str, folder: str) -> dict[str, Any]:
        if name != "cloudy:odd":
            raise HTTPException(404, "no adapter_config.json")
        return {"bucket_uri": f"{folder}/odd"}

    monkeypatch.setattr(models, "get_lora_model_ids", lambda folder, base: [f"{base}:broken", f"{base}:odd"])
    monkeypatch.setattr(models, "get_lora_model_metadata", metadata)
    for name in ("odd", "even"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    names = ("org/plain", "local", "cloudy")
    fields: dict[str, Any] = {"object": "model", "owned_by": "us", "permission": [], "created": 5}
    cards = {name: models.Card(id=name, metadata={"model_id": name}, **fields) for name in names}
    return models.Models(cards, {"local": ["gpt-*"]}, {"local": str(tmp_path), "cloudy": CLOUD})


def test_models_are_listed_with_the_adapters_that_can_be_read(models: Any) -> None:
    cards = {card.id: card for card in asyncio.run(models.cards())}
    assert list(cards) == ["org/plain", "local", "cloudy", "local:even", "local:odd", "cloudy:odd"]
    assert cards["local:odd"].metadata == {"model_id": "local"}
    assert cards["cloudy:odd"].metadata == {"model_id": "cloudy", "bucket_uri": f"{CLOUD}/odd"}
    assert {card.created for card in cards.values()} == {5}


@pytest.mark.parametrize("name", ["org/plain", "org--plain", "local", "local:odd", "cloudy:odd"])
def test_a_model_or_adapter_has_a_card(models: Any, name: str) -> None:
    assert asyncio.run(models.card(name)).id == name.replace("--", "/")


@pytest.mark.parametrize("name", ["other", "org/plain:odd", "local:", "local:broken", "cloudy:broken", "gpt-5"])
def test_what_is_not_there_has_no_card(models: Any, name: str) -> None:
    with pytest.raises(RefusedError, match="Unable to find") as caught:
        asyncio.run(models.card(name))
    assert caught.value.status == 404


def test_a_request_finds_its_model_by_name_or_alias_with_any_adapter(models: Any) -> None:
    names = {"local": "local", "gpt-5": "local", "gpt-5:x": "local:x", "cloudy:x": "cloudy:x"}
    assert {asked: models.find(asked) for asked in names} == names
    with pytest.raises(RefusedError, match="Available models") as caught:
        models.find(None)
    assert (caught.value.status, caught.value.param) == (400, "model")
    with pytest.raises(RefusedError, match='model "other:x"') as caught:
        models.find("other:x")
    assert (caught.value.status, caught.value.param) == (404, "model")


def test_an_adapter_that_is_not_in_its_folder_is_refused(models: Any) -> None:
    for name in ("org/plain", "local", "local:odd", "cloudy:broken"):
        models.check_adapter(name)
    for name, message in (("org/plain:odd", "has no adapters"), ("local:other", "adapters of this model: even, odd")):
        with pytest.raises(RefusedError, match=message) as caught:
            models.check_adapter(name)
        assert (caught.value.status, caught.value.param) == (404, "model")
