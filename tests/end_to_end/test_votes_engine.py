"""Votes on a real vLLM engine, sixteen at once: its own count of tokens is the account's, and losers stop at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.models import EngineConfig
from s1ray.serving.protocol.strategies import Votes
from s1ray.serving.replica.accounting import RequestRecord
from s1ray.thinking import ThinkingBudget, ThinkingFormat, TokenizedFormat, make_plan
from s1ray.thinking.plan import EXTRA_ARG
from tests.support.random_model import write_random_model

if TYPE_CHECKING:
    from s1ray.serving.replica.votes import Voting

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

CONTEXT = 512


class Steps:
    """Counts what the engine's process sends: a vLLM stat logger, and a look at what comes for aborted requests."""

    def __init__(self, engine: Any) -> None:
        self.counted = 0
        self.after_abort: Counter[str] = Counter()
        """Tokens by request that came after it was aborted."""
        processor, plain = engine.output_processor, engine.output_processor.process_outputs

        def process_outputs(outputs: Any, *args: Any) -> Any:
            for output in outputs:
                if output.request_id not in processor.request_states:
                    self.after_abort[output.request_id] += len(output.new_token_ids)
            return plain(outputs, *args)

        processor.process_outputs = process_outputs
        engine.logger_manager.stat_loggers.append(self)

    def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
        if iteration_stats is not None:
            self.counted += iteration_stats.num_generation_tokens

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        pass


def test_the_account_is_the_engines_own_count_and_losers_stop_within_two_steps(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    # Steps of some 50 ms, as large models have. A model of one millisecond runs ahead of whoever reads it.
    write_random_model(tmp_path, CONTEXT, width=32768)
    from transformers import AutoTokenizer

    tokenized = ThinkingFormat.preset("s1").resolve(AutoTokenizer.from_pretrained(tmp_path))
    config = EngineConfig(
        model=str(tmp_path),
        device="cpu",
        dtype="float32",
        max_model_len=CONTEXT,
        max_num_seqs=64,
        engine_kwargs={"disable_log_stats": False},
    )
    asyncio.run(measure(config, tokenized))


async def measure(config: EngineConfig, tokenized: TokenizedFormat) -> None:
    from s1ray.generation.vllm import VLLMGenerator
    from s1ray.serving.replica.engine_strategies import Strategies

    generator = VLLMGenerator(config)
    engine = generator._engine
    strategies = Strategies()
    strategies.install(engine)
    steps = Steps(engine)
    try:
        settings = [
            Votes(n=8, first=1),
            Votes(n=8, first=3),
            Votes(n=4, weights="confidence", window=8, top_logprobs=5),
            Votes(n=4, weights="inverse_entropy", lead_probability=0.6),
            Votes(n=6, weights="self_certainty", warmup=3, keep=0.5, window=4),
            Votes(n=6, stop_below=50.0, window=4),
        ]
        runs = [settings[number % len(settings)] for number in range(16)]
        votings = await asyncio.gather(*(vote(engine, strategies, tokenized, run, k) for k, run in enumerate(runs)))
        await asyncio.sleep(0.5)
        accounts: list[Any] = [voting.account() for voting in votings]
        assert steps.counted == sum(account["completion_tokens"] for account in accounts)
        # How many depends on the machine: where the reader gets no processor time, short responses end first.
        assert sum(account["cancelled"] for account in accounts) > 0
        assert max(tokens_after_abort(steps, votings)) <= 2
        assert {account["decided_by"] for account in accounts} >= {"first", "all"}
        # Every group is below such a threshold: all but the last are stopped as soon as they have one.
        stopped = [vote["finish_reason"] for vote in accounts[5]["votes"]]
        assert stopped.count("low_confidence") == 5
        assert engine.output_processor.get_num_unfinished_requests() == 0
        await leave_in_the_middle(engine, strategies, tokenized, steps)
    finally:
        await generator.close()


def tokens_after_abort(steps: Steps, votings: list[Voting]) -> list[int]:
    """Tokens, which are steps, that the engine wrote of each loser after its vote was decided. A response that a
    threshold stops is stopped by its reader, alone, which may lag behind the engine by some steps on a busy machine.
    """
    accounts: list[Any] = [voting.account() for voting in votings]
    losers = [
        (str(run), str(number))
        for run, account in enumerate(accounts)
        for number, vote in enumerate(account["votes"])
        if vote["finish_reason"] == "cancelled"
    ]
    # The engine's names are request-<run>-<unique>-<number>-<unique>.
    found = {(name.split("-")[1], name.split("-")[3]): tokens for name, tokens in steps.after_abort.items()}
    return [found.get(loser, 0) for loser in losers]


def begin(strategies: Any, tokenized: TokenizedFormat, strategy: Votes, seed: int) -> tuple[Voting, Any, list[int]]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    from s1ray.serving.replica.votes import Voting

    plan = make_plan(tokenized, ThinkingBudget(max_tokens=120))
    prompt = list(tokenized.encode("<|im_start|>user\none two 7<|im_end|>\n<|im_start|>assistant\n"))
    record = RequestRecord(plan, ThinkingBudget(max_tokens=120), max_tokens=200, context=CONTEXT, texts=tokenized.texts)
    voting = Voting(strategy, record)
    extra = {EXTRA_ARG: plan.to_json(), **strategies.add(voting)}
    kind = RequestOutputKind.DELTA if seed % 2 else RequestOutputKind.FINAL_ONLY
    params = SamplingParams(temperature=1.0, max_tokens=200, seed=seed, extra_args=extra, output_kind=kind)
    return voting, params, prompt


async def vote(engine: Any, strategies: Any, tokenized: TokenizedFormat, strategy: Votes, seed: int) -> Voting:
    from vllm.inputs.engine import tokens_input

    voting, params, prompt = begin(strategies, tokenized, strategy, seed)
    text, ids = "", list[int]()
    async for output in engine.generate(tokens_input(prompt), params, f"request-{seed}"):
        text += output.outputs[0].text
        ids += output.outputs[0].token_ids
        assert output.request_id == f"request-{seed}"
        assert output.outputs[0].logprobs is None
    account: Any = voting.account()
    won = account["votes"][account["winner"]]
    assert won["completion_tokens"] == len(ids)
    assert output.finished
    assert output.outputs[0].finish_reason in ("stop", "length")
    # Half a character at the end is never shown.
    assert tokenized.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd") == text.rstrip("\ufffd")
    return voting


async def leave_in_the_middle(engine: Any, strategies: Any, tokenized: TokenizedFormat, steps: Steps) -> None:
    """A client that disconnects stops all of them."""
    from vllm.inputs.engine import tokens_input

    voting, params, prompt = begin(strategies, tokenized, Votes(n=8), 1)
    before = steps.counted
    stream = engine.generate(tokens_input(prompt), params, "leaves")
    opening = await anext(stream)
    assert not opening.outputs[0].token_ids
    await stream.aclose()
    assert engine.output_processor.get_num_unfinished_requests() == 0
    await asyncio.sleep(0.5)
    account: Any = voting.account()
    assert account["winner"] is None
    assert account["calls"] == 8
    # Tokens that were on their way when their response was left are nobody's any more.
    assert 0 <= steps.counted - before - account["completion_tokens"] <= 8 * 2
