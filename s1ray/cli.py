"""The `s1ray` command: one subcommand a stage, each a recipe or a YAML file, and overrides.

    s1ray curate --config miniature --set selection.size=500 --dry-run

Nothing heavy is imported here or at help time. The scripts in jobs/ call the same commands, so `ray job submit` and a
laptop do the same thing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from s1ray import __version__, logs
from s1ray.errors import S1rayError
from s1ray.secrets import redact
from s1ray.stages import STAGES
from s1ray.storage import is_address, location

if TYPE_CHECKING:
    from s1ray.config import StageConfig

app = typer.Typer(
    name="s1ray",
    help="Curate, train, serve and measure reasoning models with test-time scaling, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
serve_app = typer.Typer(help="Check a Serve config file, or serve it.", no_args_is_help=True)
app.add_typer(serve_app, name="serve")


class _Reports(TyperGroup):
    """`s1ray report RUN ...` writes the report of the runs; a name of a subcommand before them asks for that."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["write", *args])


report_app = typer.Typer(
    cls=_Reports,
    help="Write the HTML report of one or more evaluations (s1ray report RUN ... -o FILE), or compare two.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(report_app, name="report")

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="A recipe's name (`s1ray recipes`), or a YAML file.")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override a field: section.field=value.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what it would cost.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what the run folder already holds.")]


def _local_path(value: str | Path) -> Path:
    """A path of this machine. An address would become a folder `s3:` here."""
    if "://" in str(value):
        raise typer.BadParameter(f"{redact(str(value))!r} is an address, and this is a path of this machine alone")
    return Path(value)


AddressOption = Annotated[
    str | None,
    typer.Option("--address", help='Ray cluster; "local" starts one. Default: Ray\'s own rules (RAY_ADDRESS).'),
]
RootOption = Annotated[
    str | None, typer.Option("--root", help="Folder that the relative paths of the config start from. Default: here.")
]


def run_stage(
    name: str,
    config: str | None,
    overrides: list[str] | None,
    *,
    dry_run: bool,
    force: bool,
    address: str | None,
    root: str | None,
) -> None:
    """Load and check the config of a stage, then run it; user errors end the process with a message and status 2."""
    with user_errors():
        from s1ray.cluster import connected
        from s1ray.config import to_yaml

        stage = STAGES[name].load()
        resolved = load_stage_config(name, config, overrides, root)

        # Connected, a plan knows the cluster's GPUs.
        with connected(address) if address is not None else contextlib.nullcontext():
            if dry_run:
                typer.echo(to_yaml(resolved), nl=False)
                for line in stage.check(resolved, force=force):
                    typer.echo(f"# {line}")
                return
            run = stage(resolved, force=force)
        typer.echo(f"{name}: {run.path}{' (already complete, skipped)' if run.skipped else ''}")


def load_stage_config(name: str, config: str | None, overrides: list[str] | None, root: str | None) -> StageConfig:
    """A stage's config, from a recipe or file; relative paths in it start from `root`.

    A job's own working folder is a copy that Ray deletes, so there a relative output without a root is refused.

    Raises:
        ConfigError: the config is wrong, `root` is no folder, or a job would lose its output.
    """
    from s1ray.config import load_config
    from s1ray.recipes import find_recipe

    file = None if config is None else find_recipe(config, name).absolute()
    _start_from(root)
    resolved: StageConfig = load_config(STAGES[name].load().config, file, overrides or ())
    if root is None:
        _refuse_lost_output(
            resolved.output,
            "Add --root FOLDER on storage that all nodes share (on one machine, your checkout: --root $PWD), or give "
            "absolute paths",
        )
    return resolved


def _start_from(root: str | None) -> None:
    from s1ray.config import ConfigError

    if root is None:
        return
    if is_address(root):
        raise ConfigError(
            f"--root {root}: relative paths start from a folder that each machine sees; leave it out, and give "
            "addresses in the config (--set output=s3://BUCKET/RUN)"
        )
    if not os.path.isdir(root):
        raise ConfigError(f"--root {root}: no such folder on this machine")
    os.chdir(root)


def _refuse_lost_output(output: str, advice: str) -> None:
    from s1ray.cluster import in_job
    from s1ray.config import ConfigError

    if in_job() and not is_address(output) and not Path(output).is_absolute():
        raise ConfigError(
            f"output: {str(output)!r} is relative, and a job's working folder is deleted with the job. {advice}"
        )


def add_stage(name: str) -> None:
    """Add the command of a stage."""

    def command(
        context: typer.Context,
        config: ConfigOption = None,
        overrides: SetOption = None,
        dry_run: DryRunOption = False,
        force: ForceOption = False,
        address: AddressOption = None,
        root: RootOption = None,
    ) -> None:
        if context.invoked_subcommand is not None:
            if config or overrides or root or dry_run or force or address:
                raise typer.BadParameter(f"options of {context.invoked_subcommand} go after its name")
            return
        run_stage(name, config, overrides, dry_run=dry_run, force=force, address=address, root=root)

    group = typer.Typer()
    group.callback(invoke_without_command=True, help=STAGES[name].help)(command)
    stage_apps[name] = group
    app.add_typer(group, name=name)


stage_apps: dict[str, typer.Typer] = {}
for _name in STAGES:
    add_stage(_name)


@stage_apps["traces"].command("probe")
def traces_probe(
    config: ConfigOption = None,
    overrides: SetOption = None,
    questions: Annotated[int, typer.Option("--questions", "-n", min=1, help="How many to ask.")] = 10,
    address: AddressOption = None,
    root: RootOption = None,
) -> None:
    """Ask a few of the questions for real; tell tokens, money and hours of the whole run, which keeps the answers."""
    with user_errors():
        from s1ray.cluster import connected
        from s1ray.traces.config import TracesConfig
        from s1ray.traces.probe import probe

        resolved = load_stage_config("traces", config, overrides, root)
        assert isinstance(resolved, TracesConfig)
        with connected(address) if address is not None else contextlib.nullcontext():
            for line in probe(resolved, questions):
                typer.echo(f"probe: {line}")


@stage_apps["train"].command("inspect")
def train_inspect(
    config: ConfigOption = None,
    overrides: SetOption = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many of the first rows.")] = 3,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Show this row instead; may be repeated.")] = None,
    root: RootOption = None,
) -> None:
    """Show training rows as the model will see them; what is not trained is grey, or in brackets when piped."""
    with user_errors():
        from rich.console import Console

        from s1ray.training.config import TrainingConfig
        from s1ray.training.inspection import inspect_rows, show

        resolved = load_stage_config("train", config, overrides, root)
        assert isinstance(resolved, TrainingConfig)
        console = Console(highlight=False)
        for row in inspect_rows(resolved, rows=rows, ids=ids or ()):
            show(row, console)


@stage_apps["train"].command("convert")
def train_convert(
    source: Annotated[str, typer.Argument(help="Parquet or JSON Lines file, folder, or data set of the Hub.")],
    output: Annotated[Path, typer.Argument(parser=_local_path, help="The Parquet file to write.")],
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="A column's own name: question=problem; may be repeated.")
    ] = None,
) -> None:
    """Write rows of any known kind (s1K, messages, prompt and completion, ...) as Parquet of s1ray's own."""
    with user_errors():
        from s1ray.config import load_config
        from s1ray.training.config import ColumnsConfig
        from s1ray.training.data.convert import convert
        from s1ray.training.data.examples import explain

        named = load_config(ColumnsConfig, None, columns) if columns else None
        converted = convert(source, output, named)
        if converted.unusable:
            typer.echo(explain(converted.unusable), err=True)
        typer.echo(f"{output}: {converted.rows:,} rows of {converted.kind}")


@stage_apps["traces"].command("export")
def traces_export(
    run: Annotated[str, typer.Argument(help="Run folder of `s1ray traces`.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .parquet or .jsonl file to write.")],
    layout: Annotated[str, typer.Option("--as", help="Columns: s1k, s1k-1.1, or rows (s1ray's own).")] = "rows",
) -> None:
    """Write a run's traces with the columns of s1K, of s1K-1.1, or of s1ray."""
    with user_errors():
        from s1ray.traces.export import export

        exported = export(location(run), layout, location(output))
        if exported.lost_questions is not None:
            typer.echo(f"warning: {exported.lost_questions}: the run's questions are not there any more", err=True)
        if exported.unknown:
            typer.echo(f"null, because nobody knows: {', '.join(exported.unknown)}", err=True)
        typer.echo(f"{output}: {exported.rows:,} rows as {layout}")


@stage_apps["curate"].command("report")
def curate_report(
    run: Annotated[str, typer.Argument(help="Run folder of `s1ray curate`.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The HTML file to write. Default: report.html in the run.")
    ] = None,
) -> None:
    """Write the report of a run: funnel, composition, drops with examples, likenesses to benchmark questions."""
    with user_errors():
        from s1ray.curation.report import write_report

        typer.echo(f"report: {write_report(location(run), output)}")


@stage_apps["curate"].command("export")
def curate_export(
    run: Annotated[str, typer.Argument(help="Run folder of `s1ray curate`.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The file or folder to write.")],
    kind: Annotated[
        str, typer.Option("--as", help="parquet, jsonl, datasets (a folder with a card), or s1k (a file or a folder).")
    ] = "parquet",
    benchmarks: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark", help="Look for its questions, too: PATH or PATH:COLUMN, or a name; may be repeated."
        ),
    ] = None,
    drop_leaks: Annotated[bool, typer.Option("--drop-leaks", help="Leave rows with benchmark questions out.")] = False,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Do not look for benchmark questions.")] = False,
    push_to: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face Hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: everybody may read it.")] = False,
    root: Annotated[
        str | None,
        typer.Option("--root", help="Folder that all relative paths start from, as in the run. Default: here."),
    ] = None,
) -> None:
    """Write a run's questions as a file, or as a data set with a card."""
    with user_errors():
        from s1ray.curation.export import check_pushed, export

        _start_from(root)
        target = location(output)
        check_pushed(kind, target, push_to, public=public)
        exported = export(
            location(run), kind, target, benchmarks=benchmarks or (), drop_leaks=drop_leaks, unchecked=unchecked
        )
        if exported.unknown:
            typer.echo(f"null, because nobody knows: {', '.join(exported.unknown)}", err=True)
        typer.echo(f"last look for benchmark questions: {exported.checked}", err=True)
        typer.echo(f"{output}: {exported.rows:,} rows as {kind}")
        if push_to is not None:
            from s1ray.curation.publishing import push

            typer.echo(f"{push_to}: {push(Path(output), push_to, public=public)}")


@stage_apps["eval"].command("export")
def eval_export(
    runs: Annotated[list[str], typer.Argument(help="Run folders of `s1ray eval`.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The folder to write to.")],
    kind: Annotated[str, typer.Option("--as", help="inspect (inspect_ai's .eval files) or lm-eval.")] = "inspect",
) -> None:
    """Write runs in the log format of another evaluation tool: a log for each benchmark, model and arm."""
    with user_errors():
        from s1ray.evaluation.interchange.export import export

        exported = export(runs, kind, output)
        for name in exported.private:
            typer.echo(f"{name}: its texts are not to be published and were left out", err=True)
        typer.echo(f"{output}: {len(exported.files)} files as {kind}")


@report_app.command("write", hidden=True)
def report(
    runs: Annotated[list[str], typer.Argument(help="Run folders of `s1ray eval`.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The HTML file to write.")] = "report.html",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Write the HTML report of one or more evaluations, and print its table."""
    with user_errors():
        from rich.console import Console

        from s1ray.evaluation.report import write_report
        from s1ray.evaluation.summary import summary_markdown, summary_table

        write_report(runs, output)
        if markdown:
            typer.echo(summary_markdown(runs))
        else:
            Console().print(summary_table(runs))
        typer.echo(f"report: {output}", err=markdown)


@report_app.command("compare")
def report_compare(
    first: Annotated[str, typer.Argument(help="A run folder of `s1ray eval`.")],
    second: Annotated[str, typer.Argument(help="Another, or the same with --models or --arms.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The HTML file to write.")] = "comparison.html",
    models: Annotated[
        tuple[str, str] | None,
        typer.Option("--models", help="One model of each run. Default: equal labels."),
    ] = None,
    arms: Annotated[
        tuple[str, str] | None,
        typer.Option("--arms", help="One arm of each run. Default: equal labels."),
    ] = None,
) -> None:
    """Compare two evaluations question by question: what was gained and lost, and what differs in their settings."""
    with user_errors():
        from s1ray.evaluation.report.compare import write_comparison

        for each in write_comparison(first, second, output, models=models, arms=arms):
            typer.echo(each.sentence)
        typer.echo(f"comparison: {output}")


@app.command()
def grade(
    file: Annotated[Path, typer.Argument(parser=_local_path, help="JSON Lines (also .gz) or Parquet.")],
    gold: Annotated[str, typer.Option("--gold", help="Column of the reference answers.")] = "gold",
    response: Annotated[str, typer.Option("--response", help="Column of the responses.")] = "response",
    kind: Annotated[
        str | None, typer.Option("--kind", help="Column of the kinds (number, choice, math, text), if there is one.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", parser=_local_path, help="Default: FILE with .graded in its name."),
    ] = None,
    grader: Annotated[str, typer.Option("--grader", help="A registered grader, or module:attribute.")] = "rules",
    thinking_format: Annotated[
        str | None,
        typer.Option(
            "--thinking-format", help="Responses begin with thinking in this format (s1, deepseek_r1, qwen3)."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (on a cluster, actors). Default: one a core.")
    ] = None,
    address: AddressOption = None,
) -> None:
    """Grade responses in a file against reference answers: the same rows, each with a verdict."""
    with user_errors():
        from rich.console import Console

        from s1ray.cluster import connected
        from s1ray.grading.files import grade_file, output_of, quarantine_of
        from s1ray.grading.rows import Job
        from s1ray.grading.summary import summary_table, warnings
        from s1ray.thinking.format import ThinkingFormat

        named = None if thinking_format is None else ThinkingFormat.preset(thinking_format)
        target = output or output_of(file)
        job = Job(file, target, gold=gold, response=response, kind=kind, grader=grader, thinking_format=named)
        with connected(address) if address is not None else contextlib.nullcontext():
            summary = grade_file(job, workers, on_ray=address is not None)
        Console().print(summary_table(summary))
        for warning in warnings(summary, quarantine_of(target)):
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"grade: {target}")


@app.command()
def recipes() -> None:
    """List the recipes that come with s1ray, by stage."""
    with user_errors():
        from rich.console import Console
        from rich.table import Table

        from s1ray.recipes import recipe_names, recipe_stages, summary

        table = Table("how to use it", "what it is", box=None, pad_edge=False)
        for stage in recipe_stages():
            for name in recipe_names(stage):
                uses = {"run": f"s1ray run {name}", "serve": f"serve: {{config: {name}}}"}
                table.add_row(uses.get(stage, f"s1ray {stage} --config {name}"), summary(stage, name))
        Console(highlight=False).print(table)


def _folder(value: str) -> str:
    from s1ray.config import run_folder

    try:
        return run_folder(str(value))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _local_folder(value: str) -> str:
    if is_address(value):
        raise typer.BadParameter(f"{value!r} is no folder of this machine, which the demo needs; `s1ray run` takes it")
    return _folder(value)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe of `run` (`s1ray recipes`), or a YAML file.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", parser=_folder, help="Folder of the run folders.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Override a stage's field, stage.field=value, or an axis, matrix.seed=[0,1]."),
    ] = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
) -> None:
    """Run several stages in order; a stage that is complete is skipped, one that was killed is resumed."""
    with user_errors():
        from s1ray.pipelines import load_pipeline, run_pipeline

        pipeline = load_pipeline(recipe, output=None if output is None else location(output), overrides=overrides or ())
        _refuse_lost_output(
            output or pipeline.config.output, "Add --output FOLDER, an absolute path on storage that all nodes share"
        )
        if dry_run:
            for line in pipeline.check():
                typer.echo(line)
            return
        run_pipeline(pipeline, force=force)


@app.command()
def demo(
    output: Annotated[
        str, typer.Option("--output", "-o", parser=_local_folder, help="Folder of the demo's runs and report.")
    ] = "runs/demo",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every stage again, also those that are complete.")
    ] = False,
    questions: Annotated[int, typer.Option("--questions", min=20, help="Held-out questions to measure on.")] = 300,
    dry_run: DryRunOption = False,
) -> None:
    """Run the whole system at laptop size: curate, teach, train, serve, measure, report."""
    with user_errors():
        from s1ray.miniature.demo import run_demo

        run_demo(Path(output), fresh=fresh, questions=questions, dry_run=dry_run)


@app.command()
def doctor(
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster to look at (auto, HOST:6379). Default: RAY_ADDRESS, or none."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="LOCATION", help="Look whether every node reads and writes it.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="That a node may take to answer.")] = 45.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at this machine, or at every node of a cluster, before a run: what would keep it from succeeding."""
    with user_errors():
        from s1ray.doctor import report
        from s1ray.doctor.nodes import examine

        findings = examine(address or os.environ.get("RAY_ADDRESS"), storage, seconds)
        if as_json:
            typer.echo(report.as_json(findings))
        else:
            for line in report.lines(findings):
                typer.echo(line)
        if report.any_failed(findings):
            raise typer.Exit(1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def submit(
    context: typer.Context,
    command: Annotated[str, typer.Argument(help="curate, traces, train, eval, run or doctor; its options follow.")],
    address: Annotated[
        str | None, typer.Option("--address", help="Dashboard. Default: RAY_ADDRESS, or http://127.0.0.1:8265.")
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(
            "--working-dir", parser=_local_path, help="Folder to upload. Default: a config of this machine alone."
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", parser=_local_path, help="YAML: what a node of each type costs an hour; tells the cost so far."
        ),
    ] = None,
    cpus: Annotated[
        float, typer.Option("--entrypoint-num-cpus", min=0, help="1: the driver runs on a worker, not on the head.")
    ] = 0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds that the cluster may not answer.")
    ] = 1800.0,
    again: Annotated[bool, typer.Option("--again", help="Submit once more what is complete.")] = False,
) -> None:
    """Run a stage as a job: attach to it if it runs, follow it, and submit it again if its cluster was lost.

    The same command finds the same job. Ctrl-C stops following; `ray job stop` stops the job.
    """
    with user_errors():
        from s1ray.submission.api import Cluster, dashboard_address
        from s1ray.submission.costs import read_prices
        from s1ray.submission.following import Follower
        from s1ray.submission.naming import submission

        follower = Follower(
            Cluster(dashboard_address(address)),
            submission(command, context.args),
            working_folder=working_dir,
            options={"entrypoint_num_cpus": cpus} if cpus else {},
            prices=None if prices is None else read_prices(prices),
            patience=patience,
            again=again,
            out=typer.echo,
        )
        raise typer.Exit(follower.follow())


@serve_app.command("check")
def serve_check(
    file: Annotated[Path, typer.Argument(parser=_local_path, help="The Serve config file.")] = Path(
        "serve_config.yaml"
    ),
) -> None:
    """Validate a whole Serve config file, unknown keys included, without starting anything."""
    with user_errors():
        from s1ray.serving.check import serve_warnings

        for warning in serve_warnings(file):
            typer.echo(f"{file}: warning: {warning}", err=True)
        typer.echo(f"{file}: valid")


@serve_app.command("key")
def serve_key(name: Annotated[str, typer.Argument(help="Whose key it is, for metrics and logs.")]) -> None:
    """Make an API key: shown once, here; the key file holds only its hash."""
    with user_errors():
        from s1ray.serving.http.keys import new_key

        secret, line = new_key(name)
        typer.echo("The key, for its owner. It is shown only now:", err=True)
        typer.echo(secret)
        typer.echo("Its line in the key file, below `keys:`:", err=True)
        typer.echo(line)


@serve_app.command("run")
def serve_run(
    file: Annotated[Path, typer.Argument(parser=_local_path, help="The Serve config file.")] = Path(
        "serve_config.yaml"
    ),
) -> None:
    """Check a Serve config file, then hand over to Ray's `serve run`."""
    serve_check(file)
    os.execvp(sys.executable, [sys.executable, "-m", "ray.serve.scripts", "run", str(file)])


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Set up logging for every subcommand."""
    logs.configure(verbose=verbose)
    sys.excepthook = _redacted_traceback
    if version:
        typer.echo(f"s1ray {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    with user_errors():
        try:
            os.getcwd()
        except FileNotFoundError:
            raise S1rayError("the folder that you are in was deleted; change to another one") from None


def _redacted_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


def job(stage: str) -> None:
    """Run one stage, or `run`, as a script of its own (jobs/*.py)."""
    app([stage, *sys.argv[1:]])


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that a user can fix into one message and status 2; anything else keeps its traceback."""
    full, barred = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
    misplaced = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to resume", err=True)
        raise typer.Exit(130) from None
    except SystemExit as error:
        # Ray's answer to SIGTERM.
        if error.code != signal.SIGTERM:
            raise
        typer.echo("terminated; run the same command again to resume", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None
    except S1rayError as error:
        typer.secho(f"error: {redact(str(error))}", err=True, fg=typer.colors.RED)
        raise typer.Exit(2) from None
    except OSError as error:
        if error.errno not in full and (error.filename is None or error.errno not in (*barred, *misplaced)):
            raise
        where = f"{error.filename}: " if error.filename else ""
        why = "the disk is full; make room" if error.errno in full else f"{error.strerror}; put that right"
        typer.secho(f"error: {where}{why}, then run the same command again", err=True, fg="red")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
