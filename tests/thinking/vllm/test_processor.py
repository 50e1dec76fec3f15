"""The processor on real logits and hand-made batch updates, against "sample, then replace" on each request alone."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from s1ray.thinking.actions import RowAction
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.logit_edits import FORCED, LogitEdits, RowEdit
from s1ray.thinking.plan import EXTRA_ARG, ForcingPlan
from s1ray.thinking.schedule import SchedulePlan
from s1ray.thinking.vllm.processor import BudgetForcingProcessor
from tests.support.toy import ANSWER, COMMA, EOS, FINAL, HMM, NEWLINE, THINK, TURN, VOCAB, WAIT, X, Y, toy_plan
from tests.support.toy_engine import CONFIG, WIDTH, model_logits, params

SCHEDULE = SchedulePlan(
    moment=12,
    p_start=1.0,
    p_end=0.2,
    wait=(WAIT, 12),
    after=(NEWLINE,),
    after_ids=(13, 14),
    slow_words=((HMM,), (Y, X)),
)


def processor() -> BudgetForcingProcessor:
    return BudgetForcingProcessor(CONFIG, torch.device("cpu"), False)


def alone(plan: ForcingPlan, prompt: Sequence[int], key: int, tokens: int, room: int) -> tuple[list[int], BudgetForcer]:
    """Greedy "sample, then replace" of one request, outside any batch."""
    forcer = BudgetForcer(plan, prompt, room=room)
    output: list[int] = []
    while len(output) < tokens:
        logits, action = model_logits(key, len(output))[:VOCAB], forcer.action
        if action is not None:
            logits[list(action.exclude)] = -torch.inf
        token, share = int(logits.argmax()), 0.0
        if action is not None and action.force is not None:
            token = action.force
        elif action is not None and token in action.ban:
            share = 1.0
            logits[list(action.ban)] = -torch.inf
            token = int(logits.argmax()) if action.move_to is None else action.move_to
        forcer.observe(token, share)
        output.append(token)
    return output, forcer


class Engine:
    """vLLM's own persistent batch with the processor in it, and a model of random logits."""

    def __init__(self) -> None:
        self.processor = processor()
        self.batch = InputBatch(
            max_num_reqs=16,
            max_model_len=256,
            max_num_batched_tokens=256,
            device=torch.device("cpu"),
            vocab_size=WIDTH,
            block_sizes=[32],
            kernel_block_sizes=[32],
            max_num_blocks_per_req=[8],
            logitsprocs=LogitsProcessors([self.processor]),
            logitsprocs_need_output_token_ids=True,
        )

    def step(self, requests: dict[str, CachedRequestState], shuffle: random.Random, prefilling: set[str]) -> None:
        """One forward pass over `requests`; the sample of a partly prefilled one is thrown away."""
        for name in [name for name in self.batch.req_ids if name not in requests]:
            self.batch.remove_request(name)
        for name, state in requests.items():
            if name not in self.batch.req_id_to_index:
                self.batch.add_request(state)
        self.batch.condense()
        if len(requests) > 1 and shuffle.random() < 0.3:
            self.batch.swap_states(*shuffle.sample(range(len(requests)), 2))
        self.batch.refresh_metadata()
        names = self.batch.req_ids
        logits = torch.stack([model_logits(int(name), len(requests[name].output_token_ids)) for name in names])
        for name, row in zip(names, self.processor.apply(logits), strict=True):
            if name not in prefilling:
                requests[name].output_token_ids.append(int(row.argmax()))


def request_state(name: str, plan: ForcingPlan | None, prompt: list[int], max_tokens: int) -> CachedRequestState:
    return CachedRequestState(
        req_id=name,
        prompt_token_ids=prompt,
        mm_features=[],
        sampling_params=params(plan, max_tokens=max_tokens),
        generator=None,
        block_ids=([0],),
        num_computed_tokens=0,
        output_token_ids=[],
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_shuffled_batch_gives_every_request_the_ids_it_gets_alone(seed: int) -> None:
    rng = random.Random(seed)
    plans, states, lengths = {}, {}, {}
    for key in range(14):
        maximum = rng.choice([None, 0, 1, 3, 8, 20])
        scheduled = rng.random() < 0.3
        plan = toy_plan(
            max_tokens=maximum,
            min_tokens=0 if scheduled else rng.randint(0, 20 if maximum is None else maximum),
            waits=0 if scheduled else rng.randint(0, 3),
            schedule=SCHEDULE if scheduled else None,
            wait_texts=rng.choice([(), ((WAIT,),), ((WAIT, COMMA), (HMM,))]),
            grace=rng.choice([0, 0, 4]),
            ban=rng.choice([(), (), ((X,), (Y, FINAL)), ((NEWLINE, NEWLINE), (12, 13, 14), (13,))]),
            loops=rng.choice([0, 0, 2]),
            answer_reserve=rng.choice([None, 0, 10]),
        )
        name = str(key)
        plans[name] = plan if key % 7 else None
        states[name] = request_state(name, plans[name], rng.choice([[X, Y], [TURN, THINK]]), 60)
        lengths[name] = rng.randint(5, 60)
    engine, waiting, preemptions = Engine(), list(states), 0
    running: set[str] = set()
    while waiting or running:
        running -= {name for name in running if len(states[name].output_token_ids) >= lengths[name]}
        if running and rng.random() < 0.15:
            preempted = rng.choice(sorted(running))
            engine.batch.remove_request(preempted)
            running.discard(preempted)
            waiting.append(preempted)
            preemptions += 1
            if rng.random() < 0.5:  # as under async scheduling: another list with the same ids
                states[preempted].output_token_ids = list(states[preempted].output_token_ids)
        while waiting and (rng.random() < 0.4 or not running):
            running.add(waiting.pop(0))
        if not running:
            break
        prefilling = {name for name in sorted(running) if rng.random() < 0.1}
        engine.step({name: states[name] for name in sorted(running)}, rng, prefilling)
    assert preemptions > 3
    for name, state in states.items():
        output, key = state.output_token_ids, int(name)
        forced = plans[name]
        if forced is None:
            assert output == [int(model_logits(key, i).argmax()) for i in range(len(output))]
        else:
            assert output == alone(forced, state.prompt_token_ids, key, len(output), 60)[0], name


def one_request(
    plan: ForcingPlan, prompt: Sequence[int] = (TURN, THINK), **sampling: Any
) -> tuple[BudgetForcingProcessor, list[int]]:
    """A processor with one request in its batch, and the live list of its ids."""
    made = processor()
    output: list[int] = []
    made.update_state(BatchUpdate(1, [], [(0, params(plan, **sampling), list(prompt), output)], []))
    return made, output


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.7])
def test_the_distribution_is_that_of_sampling_and_replacing(temperature: float) -> None:
    made, _ = one_request(toy_plan(waits=1), temperature=temperature)
    logits = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(5)) * 3
    # The tokenizer's ids only: nothing else can be sampled.
    before = torch.softmax(logits[0, :VOCAB].double() / temperature, 0)
    after = torch.softmax(made.apply(logits)[0].double() / temperature, 0)
    expected = before.clone()
    expected[WAIT] += before[EOS] + before[TURN]
    expected[[EOS, TURN]] = 0
    torch.testing.assert_close(after[:VOCAB], expected, rtol=1e-5, atol=1e-7)
    assert float(after[VOCAB:].sum()) == 0


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_waits_are_ours_as_often_as_the_model_tried_to_stop(temperature: float) -> None:
    ours = sampled = 0
    tried = 0.0
    generator = torch.Generator().manual_seed(1)
    rng = random.Random(3)
    for seed in range(1500):
        made, output = one_request(toy_plan(waits=1), temperature=temperature, seed=seed)
        logits = torch.zeros(1, WIDTH)
        logits[0, [EOS, TURN, WAIT]] = torch.tensor([1.0, 1.5, 2.0])
        before = torch.softmax(logits[0, :VOCAB] / temperature, 0)
        tried += float((before[EOS] + before[TURN]) / (before[EOS] + before[TURN] + before[WAIT]))
        row = made.apply(logits)[0] / temperature
        token = int(torch.multinomial(torch.softmax(row, 0), 1, generator=generator))
        if token != WAIT:
            continue
        output.append(token)
        made.apply(torch.randn(1, WIDTH))
        sampled += 1
        ours += len(made._rows[0].forcer.swallowed)
        rng.random()
    assert sampled > 500
    assert abs(ours / sampled - tried / 1500) < 0.05


def test_suppressing_without_a_wait_text_renormalises_and_counts_by_chance() -> None:
    suppressed = 0
    for seed in range(1000):
        made, output = one_request(toy_plan(waits=1, wait_texts=()), temperature=1.0, seed=seed)
        logits = torch.zeros(1, WIDTH)
        logits[0, TURN] = 2.0
        before = torch.softmax(logits[0, :VOCAB], 0)
        after = torch.softmax(made.apply(logits)[0], 0)
        chance = float(before[EOS] + before[TURN])
        assert float(after[TURN]) == 0
        torch.testing.assert_close(float(after[X]), float(before[X]) / (1 - chance), rtol=1e-5, atol=0)
        output.append(X)
        made.apply(torch.zeros(1, WIDTH))
        suppressed += len(made._rows[0].forcer.swallowed)
    assert abs(suppressed / 1000 - chance) < 0.05


@pytest.mark.parametrize("stop_logit", [1.0, 3.0])
def test_greedy_takes_the_best_of_target_and_triggers(stop_logit: float) -> None:
    made, output = one_request(toy_plan(waits=1))
    logits = torch.zeros(1, WIDTH)
    logits[0, [TURN, WAIT, X]] = torch.tensor([stop_logit, 1.5, 2.0])
    after = made.apply(logits)
    assert int(after[0].argmax()) == (WAIT if stop_logit == 3.0 else X)
    assert float(after[0, WAIT]) == max(stop_logit, 1.5)
    output.append(WAIT)
    made.apply(torch.zeros(1, WIDTH))
    assert made._rows[0].forcer.swallowed == ([0] if stop_logit == 3.0 else [])


def test_a_preempted_request_keeps_knowing_which_waits_were_its_own() -> None:
    made = processor()
    output: list[int] = []
    given_params = params(toy_plan(waits=1))
    prompt = [TURN, THINK]
    made.update_state(BatchUpdate(1, [], [(0, given_params, prompt, output)], []))
    own = torch.zeros(1, WIDTH)
    own[0, [WAIT, TURN]] = torch.tensor([5.0, 1.0])
    made.apply(own)
    output.append(WAIT)
    made.apply(torch.zeros(1, WIDTH))
    made.update_state(BatchUpdate(0, [0], [], []))
    made.update_state(BatchUpdate(1, [], [(0, given_params, prompt, list(output))], []))
    stop = torch.zeros(1, WIDTH)
    stop[0, TURN] = 5.0
    assert int(made.apply(stop)[0].argmax()) == WAIT


def test_two_requests_that_share_one_params_object_do_not_share_a_state() -> None:
    made = processor()
    outputs: list[list[int]] = [[], []]
    shared = params(toy_plan(max_tokens=2))
    added = [(i, shared, [TURN, THINK], outputs[i]) for i in range(2)]
    made.update_state(BatchUpdate(2, [], added, []))
    for _ in range(2):
        made.apply(torch.zeros(2, WIDTH))
        outputs[0].append(X)
    after = made.apply(torch.zeros(2, WIDTH))
    assert float(after[0, NEWLINE]) == FORCED
    assert float(after[1].max()) == 0.0


def test_ids_that_the_engine_throws_away_are_forgotten() -> None:
    made, output = one_request(toy_plan(max_tokens=3))
    for _ in range(3):
        made.apply(torch.zeros(1, WIDTH))
        output.append(X)
    assert float(made.apply(torch.zeros(1, WIDTH))[0, NEWLINE]) == FORCED
    del output[1:]
    assert float(made.apply(torch.zeros(1, WIDTH))[0].max()) == 0.0


def test_placeholder_ids_are_not_read() -> None:
    made, output = one_request(toy_plan(max_tokens=1))
    made.apply(torch.zeros(1, WIDTH))
    output.append(-1)
    made.apply(torch.zeros(1, WIDTH))
    assert made._rows[0].forcer.position == 0
    output[-1] = X
    assert float(made.apply(torch.zeros(1, WIDTH))[0, NEWLINE]) == FORCED


def test_requests_without_a_plan_are_untouched() -> None:
    made = processor()
    made.update_state(BatchUpdate(1, [], [(0, params(), [X], [])], []))
    logits = torch.randn(1, WIDTH)
    kept = logits.clone()
    assert torch.equal(made.apply(logits), kept)


def test_a_plan_for_another_model_leaves_the_request_unforced_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made, _ = one_request(toy_plan(vocab_size=WIDTH + 1))
    assert made._rows == {}
    assert "left unforced" in caplog.text


def test_a_stop_id_that_the_model_does_not_have_is_ignored() -> None:
    made, _ = one_request(toy_plan(waits=1), stop_token_ids=[Y, WIDTH, 10**6])
    logits = torch.zeros(1, WIDTH)
    logits[0, Y] = 5.0
    assert int(made.apply(logits)[0].argmax()) == WAIT


ACTIONS = st.one_of(
    st.none(),
    st.builds(RowAction, force=st.integers(0, VOCAB - 1)),
    st.builds(RowAction, ban=st.sampled_from([(EOS,), (EOS, TURN), (EOS, TURN, ANSWER)])),
    st.builds(
        RowAction,
        ban=st.sampled_from([(EOS,), (EOS, TURN), (EOS, TURN, ANSWER)]),
        move_to=st.sampled_from([WAIT, HMM]),
        wants_share=st.booleans(),
    ),
    st.builds(RowAction, ban=st.sampled_from([(EOS,), (EOS, TURN)]), wants_share=st.just(True)),
)


@given(actions=st.lists(ACTIONS, min_size=1, max_size=8), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=150, deadline=None)
def test_edits_of_a_batch_equal_edits_of_each_row(
    actions: list[RowAction | None], seed: int, data: st.DataObject
) -> None:
    temperatures = [data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])) for _ in actions]
    logits = torch.randn(len(actions), WIDTH, generator=torch.Generator().manual_seed(seed))
    edits = [RowEdit(i, action, t, VOCAB) for i, (action, t) in enumerate(zip(actions, temperatures, strict=True))]
    batch = logits.clone()
    made = LogitEdits(edits, WIDTH, lambda values, dtype: torch.tensor(values, dtype=dtype))
    shares = made.apply(batch)
    for edit in edits:
        row, action = logits[edit.index].clone().double(), edit.action
        row[VOCAB:] = -torch.inf
        share = None
        if action is not None and action.force is not None:
            row[action.force] = FORCED
        elif action is not None:
            scale = edit.temperature or 1e-3  # nearly greedy
            whole = torch.softmax(row / scale, 0)
            stop = whole[list(action.ban)].sum()
            if action.move_to is None:
                share = stop
            else:
                share = stop / (stop + whole[action.move_to])
                row[action.move_to] = scale * torch.logsumexp(row[[action.move_to, *action.ban]] / scale, 0)
            row[list(action.ban)] = -torch.inf
            if edit.temperature == 0:
                known = logits[edit.index, :VOCAB]
                rest = [i for i in range(VOCAB) if i not in action.ban]
                rest = rest if action.move_to is None else [action.move_to]
                share = known[list(action.ban)].max() > known[rest].max()
        torch.testing.assert_close(batch[edit.index].double(), row, rtol=1e-4, atol=1e-3)
        if action is not None and action.wants_share:
            assert shares is not None
            assert share is not None
            assert float(shares[made.watched.index(edit.index)]) == pytest.approx(float(share), abs=1e-3)


@pytest.mark.parametrize(
    ("extra", "further", "message"),
    [
        ({EXTRA_ARG: 5}, {}, "JSON string"),
        ({EXTRA_ARG: "{"}, {}, "not a forcing plan"),
        ({EXTRA_ARG: '{"vocab_size": 4}'}, {}, "start"),
        (None, {"stop_token_ids": [ANSWER]}, "stop_token_ids"),
        (None, {"thinking_token_budget": 5}, "thinking_token_budget"),
        (None, {"repetition_penalty": 1e9}, "repetition_penalty"),
        (None, {"repetition_penalty": 1e-9}, "repetition_penalty"),
        (None, {"repetition_detection": RepetitionDetectionParams(4, 1, 3)}, "repetition_detection"),
    ],
)
def test_what_cannot_be_done_is_refused_in_the_frontend(
    extra: dict[str, Any] | None, further: dict[str, Any], message: str
) -> None:
    given_params = params(toy_plan(), **further)
    if extra is not None:
        given_params.extra_args = extra
    with pytest.raises(ValueError, match=message):
        BudgetForcingProcessor.validate_params(given_params)


@pytest.mark.parametrize("field", [{"ignore_eos": True}, {"min_tokens": 3}])
def test_an_answer_with_a_maximum_ends_there(field: dict[str, Any]) -> None:
    BudgetForcingProcessor.validate_params(params(toy_plan(), **field))
    with pytest.raises(ValueError, match=f"{next(iter(field))}: contradicts answer_max_tokens"):
        BudgetForcingProcessor.validate_params(params(toy_plan(answer_max_tokens=5), **field))


def test_a_good_plan_and_no_plan_are_accepted() -> None:
    BudgetForcingProcessor.validate_params(params(toy_plan(max_tokens=4, waits=2)))
    BudgetForcingProcessor.validate_params(SamplingParams())
    assert copy.deepcopy(params(toy_plan())).extra_args  # plans survive the clones that vLLM makes
