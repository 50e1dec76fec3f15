"""What becomes of a finished run: reports and files in the layouts of others."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from s1ray.cli.app import app
from s1ray.cli.options import start_from, user_errors
from s1ray.cli.stages import stage_apps
from s1ray.storage import local_copy, location


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

        start_from(root)
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

            typer.echo(f"{push_to}: {push(local_copy(target), push_to, public=public)}")


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
