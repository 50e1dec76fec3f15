"""From traces to a checked training set: what a run, its plan and `s1ray train inspect` all begin with.

Reads the traces and tokenises them, a batch at a time; starts nothing. The rows are written to a temporary folder, from
where the run takes them into its own, so that they are prepared once. What a run folder holds already is read back: a
run that is resumed trains the same rows, whatever day it is. transformers is imported inside.
"""

from __future__ import annotations

import atexit
import dataclasses
import datetime
import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.benchmarks import is_file
from s1ray.config import ConfigError
from s1ray.errors import InputError, S1rayError
from s1ray.manifests import RunError, digest
from s1ray.storage import Location, exists, is_dir, local_copy, location, write_json, writing
from s1ray.training.config import TrainingConfig
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.dataset import Dataset, writing_rows
from s1ray.training.data.examples import Unusable, UnusableRows, explain, tokenise
from s1ray.training.data.held_out import held_out
from s1ray.training.data.renderer import ChatRenderer
from s1ray.training.data.sources import conversations_of, is_on_hub, open_source
from s1ray.training.model.pretrained import only_cached, why_not_loaded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("s1ray")

EXAMPLES_FILE = "examples.arrow"
VALIDATION_FILE = "validation.arrow"
ROWS_FILE = "rows.json"
"""In the run folder: what the rows were made of. Written after them, so they are whole where it is."""
ROWS_OF = (
    "columns",
    "thinking_format",
    "system_prompt",
    "train_on",
    "template_date",
    "conditional_control",
    "max_length",
    "unusable_rows",
    "seed",
)
"""Fields of the config that decide the rows, besides the traces and the tokenizer."""
REPORT_SECONDS = 20
"""Between two lines about how far the preparation is."""


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The examples of a run, checked."""

    examples: Dataset
    """Examples to train on."""
    held_out: Dataset
    """Examples to measure the validation loss on; empty without validation."""
    unusable: UnusableRows
    num_traces: int
    folder: Location
    """Where the rows are."""
    made_of: str
    """A digest of all that decides the rows."""
    largest_id: int
    """The largest token id of any row."""
    template_date: str | None
    """The date that the chat template wrote into the rows. None: it wrote none."""


_temporary: dict[str, Path] = {}
"""Where the rows are that this process prepared last, by what they are made of."""


def prepare(config: TrainingConfig) -> TrainingSet:
    """The rows of a run: those that its run folder or this process has already, or else made from the traces.

    Raises:
        ConfigError: rows are unusable and the config refuses them, or none is left, or the tokenizer does not fit.
        InputError: the traces cannot be read.
    """
    made_of = _made_of(config)
    try:
        stored = _stored(location(config.output), made_of)
    except InputError as error:
        log.warning("train: %s; its rows are made again", error)
        stored = None
    if stored is None and made_of in _temporary:
        stored = _stored(_temporary[made_of], made_of)
    if stored is not None:
        return stored
    _forget()
    folder = _temporary[made_of] = Path(tempfile.mkdtemp(prefix="s1ray-rows-"))
    try:
        _make(config, folder, made_of)
    except BaseException as error:
        _forget()
        if isinstance(error, OSError) and not isinstance(error, S1rayError):
            raise ConfigError(
                f"the rows cannot be written to {folder}: {error.strerror}; set TMPDIR to a folder with room for five "
                "bytes a token"
            ) from error
        raise
    made = _stored(folder, made_of)
    assert made is not None
    return made


def keep(training_set: TrainingSet, folder: Location) -> TrainingSet:
    """Take prepared rows into a run folder; those that are there already stay."""
    if training_set.folder == folder:
        return training_set
    names = (ROWS_FILE, EXAMPLES_FILE, VALIDATION_FILE)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for name in reversed(names):
        if (training_set.folder / name).is_file():
            with writing(folder / name) as temporary:
                shutil.copyfile(local_copy(training_set.folder / name), temporary)
    kept = _stored(folder, training_set.made_of)
    assert kept is not None
    _forget()
    return kept


@atexit.register
def _forget() -> None:
    """Delete the rows that this process prepared."""
    for folder in _temporary.values():
        shutil.rmtree(folder, ignore_errors=True)
    _temporary.clear()


def inputs(config: TrainingConfig) -> dict[str, str]:
    """The traces, and the model, the tokenizer and the accuracy's questions where they are files."""
    folders = {"model": config.model, "tokenizer": config.tokenizer}
    traces = {} if is_on_hub(config.traces) else {"traces": config.traces}
    found = traces | {name: path for name, path in folders.items() if path and is_dir(path)}
    if config.accuracy is not None and is_file(config.accuracy.benchmark):
        found["benchmark"] = config.accuracy.benchmark
    return found


def load_renderer(config: TrainingConfig, date: datetime.date | None = None) -> ChatRenderer:
    """The chat template of the run's tokenizer, joined with the config's thinking format.

    Args:
        date: that the template is told, where the config gives none. None: today.

    Raises:
        ConfigError: there is no tokenizer, or it does not fit the template or the format.
    """
    tokenizer = load_tokenizer(config)
    try:
        return ChatRenderer(
            tokenizer,
            config.thinking_format,
            config.conditional_control,
            train_on=config.train_on,
            system_prompt=config.system_prompt,
            date=config.template_date or date,
        )
    except ValueError as error:
        raise ConfigError(f"{_named(config)}, thinking_format {config.thinking_format.name}: {error}") from error


def kept_date(config: TrainingConfig) -> datetime.date | None:
    """The date that the rows in the run folder were made with; None: there are none, or they have no date.

    Raises:
        RunError: whether there are cannot be read.
    """
    text = _read_about(location(config.output))
    if text is None:
        return None
    try:
        about = json.loads(text)
        if about["made_of"] == _made_of(config) and about["template_date"] is not None:
            return datetime.date.fromisoformat(about["template_date"])
    except (ValueError, KeyError, TypeError):
        pass  # Nothing that could be used.
    return None


def load_tokenizer(config: TrainingConfig) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the config's `tokenizer`, or else the model's own.

    Raises:
        ConfigError: there is none.
    """
    from transformers import AutoTokenizer

    name = config.tokenizer or config.model
    cached = only_cached(name, "model" if config.tokenizer is None else "tokenizer")
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=cached)
    except Exception as error:  # Damaged files make it raise all sorts of errors.
        raise ConfigError(
            f"{_named(config)}: no tokenizer could be loaded; give a Hugging Face id that can be reached, or a folder "
            f"with tokenizer files ({why_not_loaded(error)})"
        ) from error


def _named(config: TrainingConfig) -> str:
    return f"model {config.model}" if config.tokenizer is None else f"tokenizer {config.tokenizer}"


def _made_of(config: TrainingConfig) -> str:
    """A digest of all that decides the rows."""
    settings = config.model_dump(mode="json", include=set(ROWS_OF))
    if config.validation is not None:
        settings["validation"] = config.validation.model_dump(mode="json", include={"size", "fraction"})
    tokenizer = config.tokenizer or config.model
    sources = [digest(path) if exists(path) else path for path in (config.traces, tokenizer)]
    return hashlib.sha256(json.dumps([settings, sources], sort_keys=True).encode()).hexdigest()[:16]


def _read_about(folder: Location) -> str | None:
    """The content of a folder's `ROWS_FILE`; None: there is none.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return (folder / ROWS_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{folder / ROWS_FILE}: cannot be read: {error}; run again when it can") from error


def _stored(folder: Location, made_of: str) -> TrainingSet | None:
    """The rows in a folder, where they are there and these."""
    file = folder / ROWS_FILE
    if (text := _read_about(folder)) is None:
        return None
    try:
        about = json.loads(text)
        if about["made_of"] != made_of:
            return None
        unusable = UnusableRows(Unusable(*row) for row in about["unusable"])
        unusable.counts.update(about["further_unusable"])
        traces, largest, date = int(about["traces"]), int(about["largest_id"]), about["template_date"]
        has_held_out = bool(about["held_out"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: damaged ({error!r})") from error
    return TrainingSet(
        examples=Dataset.read(folder / EXAMPLES_FILE),
        held_out=Dataset.read(folder / VALIDATION_FILE) if has_held_out else Dataset([], [], []),
        unusable=unusable,
        num_traces=traces,
        folder=folder,
        made_of=made_of,
        largest_id=largest,
        template_date=date,
    )


def _make(config: TrainingConfig, folder: Path, made_of: str) -> None:
    renderer = load_renderer(config, kept_date(config))
    unusable = UnusableRows()
    groups: list[str] = []
    source = _Counted(config)
    with writing_rows(folder / EXAMPLES_FILE) as writer:
        for row in tokenise(source, renderer, config.max_length):
            if isinstance(row, Unusable):
                unusable.add(row)
                continue
            writer.add(row.id, row.ids, row.mask)
            groups.append(row.group)
    if unusable:
        if config.unusable_rows == "refuse":
            raise ConfigError(
                f"{config.traces}: {explain(unusable)}\nfix the rows, raise max_length where they are too long, or "
                "set unusable_rows: drop"
            )
        log.warning("train: dropping %s", explain(unusable))
    if not groups:
        raise ConfigError(f"{config.traces}: no usable row of {source.done}: {unusable.summary()}")
    if config.validation is not None:
        _divide(folder, held_out(groups, config.validation, config.seed))
    further = unusable.counts - UnusableRows(unusable.first).counts
    write_json(
        folder / ROWS_FILE,
        {
            "made_of": made_of,
            "traces": source.done,
            "largest_id": writer.largest_id,
            "template_date": str(renderer.template.date) if renderer.template.uses_date else None,
            "held_out": config.validation is not None,
            "unusable": [dataclasses.astuple(row) for row in unusable.first],
            "further_unusable": further,
        },
    )


def _divide(folder: Path, chosen: list[int]) -> None:
    """Move the held-out rows into a file of their own."""
    everything, validation = Dataset.read(folder / EXAMPLES_FILE), set(chosen)
    rest = [row for row in range(len(everything)) if row not in validation]
    for name, rows in ((VALIDATION_FILE, chosen), (EXAMPLES_FILE, rest)):
        with writing_rows(folder / name) as writer:
            for key, ids, mask in everything.select(rows):
                writer.add(key, ids, mask)


class _Counted:
    """The conversations, counted, with a line every now and then that says how many are done."""

    def __init__(self, config: TrainingConfig):
        self.done = 0
        self._config = config

    def __iter__(self) -> Iterator[Conversation | Unusable]:
        source, started = open_source(self._config.traces), time.monotonic()
        reported = started
        total = "" if source.rows is None else f" of {source.rows:,}"
        for conversation in conversations_of(source, self._config.columns):
            self.done += 1
            yield conversation
            if (now := time.monotonic()) - reported > REPORT_SECONDS:
                log.info("train: %s%s rows tokenised in %.0f s", f"{self.done:,}", total, now - started)
                reported = now
