"""What s1's stages would take on a large cluster, from unit costs measured on a small one.

    python -m benchmarks.cluster simulate --gpus 1000
    python -m benchmarks.cluster simulate --gpus 1000 --assume gpu_hour=2.5 --assume node_start_s=60
    python -m benchmarks.cluster write            # results.json: 16, 64, 256 and 1,000 GPUs

No GPU was used. Measured are unit costs of CPUs and of batching (costs.Measured); the speed of GPUs, the start of
nodes and all prices are assumptions (costs.Assumed), printed with every result.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.cluster.costs import Assumed, Measured, assumptions, measured
from benchmarks.cluster.stages import Stage, serve, simulate
from s1ray.storage import write_json

HERE = Path(__file__).parent
SIZES = (16, 64, 256, 1000)

app = typer.Typer(add_completion=False, help=__doc__)


@app.command("simulate")
def simulate_command(
    gpus: Annotated[int, typer.Option(min=1, max=100_000, help="GPUs of the cluster.")] = 1000,
    assume: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, an assumption of your own; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of the lengths that are drawn.")] = 0,
) -> None:
    """Print each stage's wall time, cost and bottleneck."""
    costs = measured()
    try:
        assumed = assumptions(assume or [])
        stages = simulate(gpus, costs, assumed, seed)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    report(gpus, stages, serve(gpus, costs, assumed), assumed)


@app.command()
def write() -> None:
    """Write results.json: several sizes, measured unit costs and assumptions."""
    costs, assumed = measured(), Assumed()
    sizes = {str(gpus): as_json(gpus, costs, assumed) for gpus in SIZES}
    write_json(HERE / "results.json", {"measured": asdict(costs), "assumed": asdict(assumed), "gpus": sizes})


def as_json(gpus: int, costs: Measured, assumed: Assumed) -> dict[str, Any]:
    """The stages of one size, rounded."""
    stages = [
        {
            "stage": stage.name,
            "work": stage.work,
            "gpus": stage.gpus,
            "wall_s": round(stage.wall_s, 1),
            "gpu_hours": round(stage.gpus * stage.wall_s / 3600, 2),
            "usd": round(stage.usd, 2),
            "parts_s": {name: round(seconds, 1) for name, seconds in stage.parts.items()},
            "bottleneck": stage.bottleneck,
            "note": stage.note,
        }
        for stage in simulate(gpus, costs, assumed)
    ]
    return {"stages": stages, "serve": {name: round(value, 3) for name, value in serve(gpus, costs, assumed).items()}}


def report(gpus: int, stages: list[Stage], served: dict[str, float], assumed: Assumed) -> None:
    """The table, the server, and what was assumed."""
    columns = ("stage", "work", "GPUs", "wall", "GPU h", "USD", "longest part", "note")
    table = Table(*columns, title=f"{gpus:,} GPUs, simulated")
    for stage in stages:
        hours = stage.gpus * stage.wall_s / 3600
        row = [stage.name, stage.work, f"{stage.gpus:,}", duration(stage.wall_s), f"{hours:,.1f}", f"{stage.usd:,.2f}"]
        table.add_row(*row, stage.bottleneck, stage.note)
    console = Console(width=200)
    console.print(table)
    console.print("serve, all replicas full: " + ", ".join(f"{name} {value:,.4g}" for name, value in served.items()))
    console.print("assumed: " + ", ".join(f"{name}={value}" for name, value in asdict(assumed).items()))


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


if __name__ == "__main__":
    app()
