"""One Ray session for every end-to-end test: a local cluster of our own, on loopback, stopped at the end.

In it one served application, for the tests that ask for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.modes import MODES, Mode

if TYPE_CHECKING:
    import openai

    from s1ray.serving.local import ServedApp


DIRECT = os.environ.get("S1RAY_TEST_HTTP") == "direct"
"""The tests of the served application run on one model that answers HTTP itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a second model where there is one."""
    for item in items:
        if DIRECT and item.get_closest_marker("second_model"):
            item.add_marker(pytest.mark.skip(reason="the application has one model (S1RAY_TEST_HTTP=direct)"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A running local Ray with six logical CPUs (the machine may have fewer; the tests' actors are small)."""
    import ray

    ray.init(address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: mode.name)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Where HTTP requests are taken and answered; a test that asks for it runs once for each."""
    found: Mode = request.param
    return found


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with one LoRA adapter, "odd", and the miniature with it merged in."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from s1ray.miniature import BASE_MODEL_DIR

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIR, dtype=torch.float32)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("adapters")
    model.save_pretrained(str(folder / "odd"))
    return folder, model.merge_and_unload()


@pytest.fixture(scope="session")
def served(ray_session: None, adapted: tuple[Path, Any]) -> Iterator[ServedApp]:
    """The application of `served.py`, running; with `S1RAY_TEST_HTTP=direct` its first model alone, which answers HTTP
    itself behind HAProxy.
    """
    from s1ray.config import validate_config
    from s1ray.serving.config import ServingConfig
    from s1ray.serving.local import serve_locally
    from tests.support.served import application

    fields = application(adapted[0])
    if DIRECT:
        fields = {"models": fields["models"][:1], "http": "direct"}
    with serve_locally(validate_config(ServingConfig, fields, "test"), start_timeout_s=1200) as app:
        yield app


@pytest.fixture(scope="session")
def client(served: ServedApp) -> Iterator[openai.OpenAI]:
    """OpenAI's client of it."""
    import openai

    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The miniature's."""
    from transformers import AutoTokenizer

    from s1ray.miniature import BASE_MODEL_DIR

    return AutoTokenizer.from_pretrained(BASE_MODEL_DIR)


@pytest.fixture(scope="session")
def never_stops(tokenizer: Any) -> dict[str, int]:
    """A logit bias under which the model does not end its thinking, nor its answer."""
    return {str(token_id): -100 for token_id in tokenizer.all_special_ids}


@pytest.fixture(scope="session")
def always_stops(tokenizer: Any) -> dict[str, int]:
    """A logit bias under which the model would end its thinking at every token."""
    return {str(tokenizer.convert_tokens_to_ids("<|im_start|>")): 50}
