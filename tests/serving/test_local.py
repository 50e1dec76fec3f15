from __future__ import annotations

import socket

from s1ray.serving.local import error_tail, free_port


def test_the_tail_of_an_error_has_the_message_and_no_frames() -> None:
    message = (
        "Failed to start:\nTraceback (most recent call last):\n"
        '  File "a.py", line 3, in start\n    engine.run()\n    ^^^^^^\n'
        "RuntimeError: not enough memory\n"
    )
    assert error_tail(message) == "Failed to start:\n    RuntimeError: not enough memory"
    assert error_tail("") == "(no message)"
    assert error_tail("\n".join("abc"), lines=2) == "b\n    c"


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
