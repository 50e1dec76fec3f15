"""Measure the served application on this machine, with the packaged miniature.

    make bench-serving                                    # throughput: 1 to 256 concurrent requests, three rounds
    python -m benchmarks.serving throughput --concurrency 64 --rounds 1
    python -m benchmarks.serving hostile --requests 2000
    python -m benchmarks.serving soak --minutes 15
    python -m benchmarks.serving coldstart --times 20
    python -m benchmarks.serving sessions

Each writes a JSON file next to this module, or into the given folder; `throughput` adds its rounds to the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, cast

import psutil
import typer
from rich.console import Console

from benchmarks.serving import coldstart as cold
from benchmarks.serving import hostile as attacks
from benchmarks.serving import sessions as conversations
from benchmarks.serving import soak as soaking
from benchmarks.serving import throughput as compared
from benchmarks.serving.processes import usage
from benchmarks.serving.servers import MODEL, both, model_config, ours, session, vllms
from s1ray.serving.local import Front
from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING
from s1ray.storage import write_json

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
console = Console()
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")]
HERE = Path(__file__).parent
MEMORY_GOAL = 1.10
"""Memory of a role at the end, relative to its memory after the warm-up, at most."""


def machine() -> dict[str, object]:
    """The machine of the measurement."""
    memory = psutil.virtual_memory().total / 2**30
    return {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine(), "GiB": round(memory)}


@app.command()
def throughput(
    concurrency: Annotated[list[int] | None, typer.Option(help="Concurrent requests; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each server at each concurrency.")] = 3,
    interval_ms: Annotated[float, typer.Option(help="limits.stream_interval_ms of s1ray's servers.")] = 20.0,
    front: Annotated[str | None, typer.Option(help="What takes the requests: haproxy or serve.")] = None,
    output: OutputOption = HERE,
) -> None:
    """Compare s1ray's server, direct and with an HTTP worker, with vLLM's own."""
    path = output / "throughput.json"
    runs = compared.read_runs(path)
    model = model_config()
    begin = 1 + max((run.round for run in runs), default=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        vllms(model, Path(folder) / "vllm.log") as theirs,
        both(model, cast("Front | None", front), limits={"stream_interval_ms": interval_ms}) as mine,
    ):
        servers = [theirs, *mine]
        for number in range(begin, begin + rounds):
            for level in concurrency or [1, 16, 64, 256]:
                load = compared.Load(level, compared.requests_of(level))
                turn = number % len(servers)
                for server in servers[turn:] + servers[:turn]:
                    apart = set() if server is theirs else {theirs.root.pid}
                    run = compared.measure(server, load, number, apart)
                    console.print(asdict(run))
                    runs.append(run)
            # A round that is complete is kept, whatever becomes of the next one.
            compared.write_runs(path, runs, machine())
    console.print(compared.compare(runs))


@app.command()
def hostile(
    requests: Annotated[int, typer.Option(min=100, help="Number of requests.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the requests.")] = 0,
    output: OutputOption = HERE,
) -> None:
    """Send requests generated from the OpenAPI description, half of them invalid."""
    with ours(model_config()) as server:
        warm = attacks.attack(server.url, MODEL, requests // 4, seed=seed + 1)
        before = usage(server.root).memory_mib
        outcome = attacks.attack(server.url, MODEL, requests, seed=seed)
        after = usage(server.root).memory_mib
    memory = {role: [round(before.get(role, 0.0), 1), round(mib, 1)] for role, mib in after.items()}
    result = {"machine": machine(), "warm_up": warm.sent, "memory_mib": memory} | asdict(outcome)
    _write(output / "hostile.json", result)
    if outcome.failures or warm.failures:
        raise typer.Exit(1)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.5, help="Duration.")] = 15.0,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 24,
    output: OutputOption = HERE,
) -> None:
    """Run clients of every kind for some time, and look for leaks."""
    with ours(model_config()) as server:
        count = _engine_requests(server.app)
        report = asyncio.run(soaking.soak(server, MODEL, minutes, clients=clients, engine_requests=count))
    growth = report.growth()
    grown = [role for role, m in growth.items() if m["end_mib"] > MEMORY_GOAL * m["begin_mib"] + 10]
    result = {"machine": machine(), "growth": growth, "grown": grown} | asdict(report)
    _write(output / "soak.json", result)
    if grown or report.left_in_engines or any(o not in ("left", "400", "404", "200") for o in report.outcomes):
        raise typer.Exit(1)


@app.command()
def coldstart(
    times: Annotated[int, typer.Option(min=1, help="Number of starts.")] = 20,
    http: Annotated[str, typer.Option(help="direct or worker.")] = "direct",
    front: Annotated[str | None, typer.Option(help="What takes the requests: haproxy or serve.")] = None,
    output: OutputOption = HERE,
) -> None:
    """Time from a request that finds no replica to its first token, added to the file by the way of serving."""
    starts: list[cold.Start] = []
    with session() as logs:
        for _ in range(times):
            way = cast("Literal['direct', 'worker']", http)
            starts.append(cold.once(model_config(), logs, cast("Front | None", front), way))
            console.print(asdict(starts[-1]))
    path = output / "coldstart.json"
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    result = {**cold.summary(starts), "starts": [asdict(start) for start in starts]}
    _write(path, {**earlier, "machine": machine(), http: result})


@app.command()
def sessions(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each arm.")] = 5,
    output: OutputOption = HERE,
) -> None:
    """Conversations on two replicas, with and without a header that names the session."""
    model = model_config(max_model_len=2048, cpus_per_worker=0.5, autoscaling={"min_replicas": 2, "max_replicas": 2})
    done: list[conversations.Round] = []
    with ours(model, "haproxy") as server:
        for number in range(rounds + 1):
            turn = number % 2
            for arm in conversations.ARMS[turn:] + conversations.ARMS[:turn]:
                done.append(asyncio.run(conversations.measure(server.url, arm, number)))
                console.print(asdict(done[-1]))
    # In the first round the replicas were new.
    kept = [one for one in done if one.round]
    compared_arms = conversations.compare(kept)
    _write(output / "sessions.json", {"machine": machine(), **compared_arms, "rounds": [asdict(one) for one in kept]})


def _engine_requests(application: str) -> Callable[[], float]:
    from ray import serve

    deployments = serve.status().applications[application].deployments
    (name,) = [name for name in deployments if name.startswith("BudgetForcingServer")]
    handle = serve.get_deployment_handle(name, application)

    def count() -> float:
        load = handle.record_autoscaling_stats.remote().result(timeout_s=30)
        return float(load[ENGINE_RUNNING] + load[ENGINE_WAITING])

    return count


def _write(path: Path, result: dict[str, object]) -> None:
    write_json(path, result)
    console.print({key: value for key, value in result.items() if key != "memory_mib"})


if __name__ == "__main__":
    app()
