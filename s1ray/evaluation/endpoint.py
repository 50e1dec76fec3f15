"""Checks of the endpoint before a run: does it answer, does it serve the models, does it control thinking?

Without them a run would fail after minutes, with thousands of failed or, worse, meaningless responses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import httpx

from s1ray.config import ConfigError
from s1ray.errors import UnreachableError
from s1ray.evaluation.config import Endpoint, ServedModel
from s1ray.evaluation.strategies.requests import ask
from s1ray.evaluation.strategies.sampling import Sampling
from s1ray.generation.answers import UnusableError, decode, refuse_error
from s1ray.generation.segmented import BANNED
from s1ray.generation.wires import ChatCompletions
from s1ray.schemas import Question


def api_key(endpoint: Endpoint) -> str | None:
    """The key, read where the config says.

    Raises:
        SecretError: it is not there, or no key.
    """
    return None if endpoint.api_key is None else endpoint.api_key.resolve("endpoint.api_key", endpoint.base_url)


def check_endpoint(
    endpoint: Endpoint,
    models: list[ServedModel],
    *,
    plain: Collection[str] = (),
    sampling: Sampling | None = None,
    transport: httpx.BaseTransport | None = None,
) -> None:
    """Look at every address of an endpoint that speaks OpenAI's chat completions.

    Ask for the list of models, and try each of ours: with one short response under a thinking budget or, for the
    segmented driver, with one token and then another one in its place.

    Args:
        endpoint: the address.
        models: the models that it should serve.
        plain: labels of those that nothing is forced for; they need not know thinking budgets.
        sampling: how these are asked; some servers refuse a temperature. None: the defaults.
        transport: replaces the network, for tests.

    Raises:
        UnreachableError: nothing answers there, or not as an OpenAI-compatible server does.
        ConfigError: it refuses the key, does not serve a model, or knows no thinking budgets.
    """
    key = api_key(endpoint)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(endpoint.timeout, connect=min(endpoint.timeout, 30.0))
    with httpx.Client(headers=headers, timeout=timeout, transport=transport) as client:
        for address in endpoint.addresses:
            one = endpoint.model_copy(update={"base_url": address, "replicas": []})
            _check_address(client, one, models, plain, sampling or Sampling())


def _check_address(
    client: httpx.Client, endpoint: Endpoint, models: list[ServedModel], plain: Collection[str], sampling: Sampling
) -> None:
    served = _served(client, endpoint)
    for model in models:
        if model.name not in served:
            raise ConfigError(
                f"models: {model.label!r} is called {model.name!r}, but {endpoint.base_url} serves "
                f"{', '.join(served) or 'no model'}"
            )
        if model.driver == "segmented":
            _try_segments(client, endpoint, model)
        elif model.label in plain:
            _try_plain(client, endpoint, model, sampling)
        else:
            _try_budget(client, endpoint, model)


def _served(client: httpx.Client, endpoint: Endpoint) -> list[str]:
    answer = _ask(client, endpoint, "GET", "/models")
    match answer:
        case {"data": [*models]} if all(isinstance(model, dict) and "id" in model for model in models):
            return [str(model["id"]) for model in models]
    raise UnreachableError(f"{endpoint.base_url}/models: no list of models: {str(answer)[:200]}")


def _try_budget(client: httpx.Client, endpoint: Endpoint, model: ServedModel) -> None:
    body = {
        "model": model.name,
        "messages": [{"role": "user", "content": "1 + 1 = ?"}],
        "max_tokens": 64,
        "temperature": 0.0,
        "thinking": {"max_tokens": 1},
        "return_token_ids": model.weights is not None,
    }
    match choice := _choice(client, endpoint, "/chat/completions", body):
        case {"thinking": {"thinking_tokens": int(tokens)}}:
            if tokens > 1:
                raise ConfigError(
                    f"models: {model.label!r}: {endpoint.base_url} says that it thought {tokens:,} tokens where one "
                    "was allowed, so it does not control thinking; serve the model with s1ray (`serve run "
                    "serve_config.yaml`), or measure it with arms of `strategy: plain` only"
                )
        case _:
            raise ConfigError(
                f"endpoint.base_url: {endpoint.base_url} answers, but says nothing about thinking, so it does not "
                "control it; serve the model with s1ray (`serve run serve_config.yaml`), force the budgets from this "
                f"side (driver: segmented for {model.label!r}), or measure it with arms of `strategy: plain` only"
            )
    _refuse_without_ids(choice, endpoint, model)


def _try_plain(client: httpx.Client, endpoint: Endpoint, model: ServedModel, sampling: Sampling) -> None:
    question = Question(id="trial", question="1 + 1 = ?")
    request = ask(question, sampling, 0, key="trial", budget=None)
    ids: dict[str, object] = {} if model.weights is None else {"return_token_ids": True}
    body = ChatCompletions().body(request, model.name, ids | model.extra_body)
    _refuse_without_ids(_choice(client, endpoint, "/chat/completions", body), endpoint, model)


def _refuse_without_ids(choice: Mapping[object, object], endpoint: Endpoint, model: ServedModel) -> None:
    if model.weights is not None and not choice.get("token_ids"):
        raise ConfigError(
            f"models: {model.label!r}: {endpoint.base_url} gives no token ids (return_token_ids), so thinking cannot "
            "be counted from them; leave `weights` out to rely on the server's count"
        )


def _try_segments(client: httpx.Client, endpoint: Endpoint, model: ServedModel) -> None:
    body = {"model": model.name, "prompt": [1, 2], "max_tokens": 1, "temperature": 0.0}
    body |= {"return_token_ids": True, "thinking": False}
    first = _only_id(client, endpoint, model, body)
    body["logit_bias"] = {str(first): BANNED}
    if _only_id(client, endpoint, model, body) == first:
        raise ConfigError(
            f"models: {model.label!r}: {endpoint.base_url} ignores logit_bias, so budgets cannot be forced from "
            "outside (driver: segmented)"
        )


def _only_id(client: httpx.Client, endpoint: Endpoint, model: ServedModel, body: Mapping[str, object]) -> object:
    choice = _choice(client, endpoint, "/completions", body)
    if "thinking" in choice:
        raise ConfigError(
            f"models: {model.label!r}: {endpoint.base_url} forces budgets itself, whatever it is asked; leave out "
            "driver: segmented"
        )
    match choice.get("token_ids"):
        case [first, *_]:
            return first
    raise ConfigError(
        f"models: {model.label!r}: {endpoint.base_url} gives no token ids (return_token_ids), so budgets cannot be "
        "forced from outside (driver: segmented)"
    )


def _choice(client: httpx.Client, endpoint: Endpoint, path: str, body: Mapping[str, object]) -> Mapping[object, object]:
    """The answer's first choice."""
    answer = _ask(client, endpoint, "POST", path, body)
    match answer:
        case {"choices": [{**choice}, *_]}:
            return choice
    raise UnreachableError(f"{endpoint.base_url}{path}: no completion: {str(answer)[:200]}")


def _ask(
    client: httpx.Client, endpoint: Endpoint, method: str, path: str, body: Mapping[str, object] | None = None
) -> object:
    url = f"{endpoint.base_url}{path}"
    try:
        response = client.request(method, url, json=body)
    except httpx.TimeoutException:
        raise UnreachableError(f"{url}: no answer within {endpoint.timeout:g} s") from None
    except httpx.RequestError as error:
        raise UnreachableError(
            f"{url}: no server answers ({error}); start one (`serve run serve_config.yaml`) or set endpoint.base_url"
        ) from None
    if response.status_code in (401, 403):
        raise ConfigError(f"{url}: status {response.status_code}, the key is refused; see endpoint.api_key")
    if response.status_code == 400 and "temperature" in response.text.lower() and "temperature" in (body or {}):
        raise ConfigError(
            f"{url}: status 400: {response.text[:300]}. Set sampling.temperature to what the model takes: OpenAI's "
            "reasoning models take 1 alone"
        )
    if not response.is_success:
        raise UnreachableError(f"{url}: status {response.status_code}: {response.text[:300]}")
    try:
        answer = decode(response.content)
        refuse_error(answer)
    except UnusableError as error:
        raise UnreachableError(f"{url}: no answer of an OpenAI-compatible server: {error}") from None
    return answer
