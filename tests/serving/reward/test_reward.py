"""The reward model's replica without Serve: real checkpoints, and what it says to wrong requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.errors import InputError
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.serving.check import check_serve_config, serve_warnings
from s1ray.serving.reward.app import RewardServer, build_app
from s1ray.serving.reward.config import RewardConfig
from s1ray.serving.reward.model import Asked, RewardModel

QUESTION = "What is 12 + 30?"
STEPS = ("12+30=42", "So 42")


def checkpoint(folder: Path, kind: str, labels: int) -> str:
    """A checkpoint of the miniature's shape with a head that nobody has trained."""
    import torch
    import transformers

    torch.manual_seed(0)
    cls: Any = getattr(transformers, f"AutoModelFor{kind}")
    model = cls.from_pretrained(BASE_MODEL_DIR, num_labels=labels, dtype=torch.float32, pad_token_id=0)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(BASE_MODEL_DIR).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tokens_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("tokens"), "TokenClassification", 2)


def config(model: str, **fields: Any) -> RewardConfig:
    return validate_config(RewardConfig, {"model": model, "separator": "\n", "max_tokens": 64, **fields}, "test")


def test_each_step_gets_a_score_that_does_not_depend_on_later_ones_or_on_the_batch(tokens_model: str) -> None:
    model = RewardModel(config(tokens_model), "cpu")
    whole, first, other = model.score([Asked(QUESTION, STEPS), Asked(QUESTION, STEPS[:1]), Asked("1+1?", ("2",))])
    (alone,) = model.score([Asked(QUESTION, STEPS)])
    assert len(whole.scores) == 2
    assert all(0 < score < 1 for score in whole.scores)
    assert whole.scores == pytest.approx(alone.scores, abs=1e-5)
    assert whole.scores[0] == pytest.approx(first.scores[0], abs=1e-5)
    assert whole.tokens > first.tokens > other.tokens > 0


@pytest.mark.parametrize("labels", [1, 2])
def test_a_checkpoint_for_sequences_scores_every_prefix(tmp_path: Path, labels: int) -> None:
    model = RewardModel(config(checkpoint(tmp_path, "SequenceClassification", labels)), "cpu")
    whole, first = model.score([Asked(QUESTION, STEPS), Asked(QUESTION, STEPS[:1])])
    assert whole.scores[0] == pytest.approx(first.scores[0], abs=1e-5)
    assert len(whole.scores) == 2
    assert whole.tokens > 2 * first.tokens


def test_checkpoints_that_score_nothing_are_refused(tokens_model: str) -> None:
    with pytest.raises(InputError, match="Qwen2ForCausalLM, which scores no steps"):
        RewardModel(config(str(BASE_MODEL_DIR)), "cpu")
    with pytest.raises(InputError, match="separator: '<extra_0>' is"):
        RewardModel(config(tokens_model, separator="<extra_0>"), "cpu")
    with pytest.raises(InputError, match="good_label: 5"):
        RewardModel(config(tokens_model, good_label=5), "cpu").score([Asked(QUESTION, STEPS)])


def test_requests_are_answered_or_refused_in_words(tokens_model: str) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.testclient import TestClient

    server = RewardServer(config(tokens_model), "cpu")

    async def answer(request: Request) -> Response:
        return await server(request)

    client = TestClient(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])]))

    def ask(**fields: Any) -> Any:
        return client.post("/v1/rewards", json={"question": QUESTION, "steps": list(STEPS)} | fields)

    found = ask()
    assert found.status_code == 200
    assert len(found.json()["scores"]) == 2
    assert found.json()["usage"]["total_tokens"] > 10
    assert client.get("/v1/models").json()["data"][0]["id"] == "reward"
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"steps": []}, 400, "steps: List should have at least 1 item"),
        ({"steps": ["a", 7]}, 400, "steps.1: Input should be a valid string"),
        ({"question": ""}, 400, "question: String should have at least 1 character"),
        ({"more": 1}, 400, "more: Extra inputs are not permitted"),
        ({"model": "other"}, 404, "no model 'other'"),
        ({"steps": ["long " * 90]}, 400, "but the model takes 64"),
    ]
    for fields, status, why in wrong:
        refused = ask(**fields)
        assert refused.status_code == status
        assert why in refused.json()["error"]["message"]
    assert "Invalid JSON" in client.post("/v1/rewards", content=b"{").json()["error"]["message"]
    assert client.post("/v1/chat/completions", json={}).status_code == 404
    assert client.get("/v1/rewards").status_code == 405


def test_replicas_are_placed_by_labels_that_a_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    node = {"Alive": True, "Labels": {"s1ray/role": "serve"}, "Resources": {"CPU": 8.0, "GPU": 1.0}}
    other = {"Alive": True, "Labels": {"s1ray/role": "cpu"}, "Resources": {"CPU": 8.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, other])
    monkeypatch.setattr("s1ray.cluster.can_grow", lambda: False)

    def options(**fields: Any) -> dict[str, Any]:
        deployment = build_app({"model": "miniature-base", **fields})._bound_deployment
        return dict(deployment.ray_actor_options)

    assert options() == {"num_cpus": 1, "num_gpus": 1}
    placed = options(node_labels={"s1ray/role": "cpu"})
    assert placed == {"num_cpus": 1, "num_gpus": 0, "label_selector": {"s1ray/role": "cpu"}}
    with pytest.raises(ConfigError, match=r"args\.node_labels: no node of the Ray cluster has s1ray/role=train"):
        options(node_labels={"s1ray/role": "train"})


def test_serve_files_of_reward_models_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    app = "applications:\n  - name: reward\n    import_path: s1ray.serving.reward.app:build_app\n    args: {%s}\n"
    file.write_text(app % "model: miniature-base, max_replicas: 2")
    assert check_serve_config(file) == {}
    assert not any("no application" in warning for warning in serve_warnings(file))
    file.write_text(app % "model: miniature-base, batches: 2")
    with pytest.raises(ConfigError, match="batches"):
        check_serve_config(file)
    file.write_text(app % "model: /nowhere/at/all")
    with pytest.raises(ConfigError, match=r"args\.model: '/nowhere/at/all'"):
        check_serve_config(file)
    with pytest.raises(ConfigError, match="min_replicas: 3 is more"):
        config("miniature-base", min_replicas=3)
