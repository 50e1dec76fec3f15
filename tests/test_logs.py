import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s1ray import logs


def test_long_work_is_not_silent_and_the_heartbeat_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(logging.getLogger("s1ray"), "propagate", True)
    beats = threading.Semaphore(0)

    def line(seconds: float) -> str:
        beats.release()
        return f"at work for {seconds:.0f} s"

    with caplog.at_level(logging.INFO, "s1ray"), logs.heartbeat(line):
        assert beats.acquire(timeout=30)
        assert beats.acquire(timeout=30)
    assert caplog.messages[0] == "at work for 0 s"
    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_lines_with_a_text_are_kept_off_standard_error_and_no_others(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.without_lines("restarts > 0"):
        os.write(2, b"a warning\nactors: restarts > 0\n")
        os.write(2, b"another\n")
    os.write(2, b"restarts > 0 again\n")
    assert capfd.readouterr().err == "a warning\nanother\nrestarts > 0 again\n"


def test_lines_of_other_processes_are_relayed_those_of_earlier_blocks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, lines = tmp_path / "responses" / "log.txt", list[str]()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("s1ray")
    monkeypatch.setattr(logger, "handlers", [Kept()])
    for word in ("one", "two"):
        with caplog.at_level(logging.INFO, "s1ray"), logs.relayed(path):
            script = f"import logging, pathlib; from s1ray import logs; logs.log_to(pathlib.Path({str(path)!r})); "
            script += f"logging.getLogger('s1ray').info('batch %s', {word!r})"
            subprocess.run([sys.executable, "-c", script], check=True)
    assert lines == ["batch one", "batch two"]
    assert not any(thread.name == "relay" for thread in threading.enumerate())


CONFIGURES = """
import logging, logging.config, logging.handlers, sys
from s1ray.logs import keeping_handlers
file = logging.FileHandler(sys.argv[1])
logger = logging.getLogger("ray.serve")
logger.addHandler(logging.handlers.MemoryHandler(1, target=file))
def configure():
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
if sys.argv[2] == "kept":
    with keeping_handlers():
        configure()
else:
    configure()
logger.warning("after")
"""


@pytest.mark.parametrize(("how", "text"), [("kept", "after\n"), ("closed", "")])
def test_a_log_outlives_an_import_that_configures_logging(tmp_path: Path, how: str, text: str) -> None:
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", CONFIGURES, str(log), how], check=True)
    assert log.read_text() == text
