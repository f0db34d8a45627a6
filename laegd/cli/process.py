"""The process that a command runs in: its standard streams, and the signals that ask it to end.

Imports nothing heavy, so that a signal is answered from the first moments on.
"""

import codecs
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from laegd.graphs.signals import ENDING

EXIT_PREEMPTED = 75
"""After SIGTERM or SIGHUP: what was finished is kept, the same command goes on; a scheduler may start it again."""
EXIT_INTERRUPTED = 130
LEAST_COLUMNS = 8

# What laegd prints beyond ASCII, for terminals that have no more.
_PLAIN = {
    "\u00b1": "+-", "\u00b5": "u", "\u00b7": ".", "\u00d7": "x",
    "\u2013": "-", "\u2026": "...", "\u2192": "->", "\u2212": "-",
}  # fmt: skip
_BOXES = range(0x2500, 0x2580)


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP of a closed terminal, answered like Ctrl-C."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(ending(number))


def ending(number: int) -> str:
    """Says what a signal did."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def own_process() -> None:
    """Prepares a process that runs one command and nothing else; to be called before all else."""
    _answer_signals_at_once()
    _open_standard_streams()
    codecs.register_error("laegd", _plain)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="laegd")  # pyright: ignore[reportAttributeAccessIssue]
    # 0 or nothing means unknown, as where the variable is missing; in a few columns help cannot be laid out.
    for name, least in (("COLUMNS", LEAST_COLUMNS), ("LINES", 1)):
        value = os.environ.get(name, "") or "0"
        if value.isdecimal() and int(value) < least:
            os.environ.pop(name, None)


def _answer_signals_at_once() -> None:
    for number in ENDING:
        if not _ignored(number):
            signal.signal(number, _end_at_once)


def _ignored(number: int) -> bool:
    """Tells whether whoever started this process has it ignore the signal, as nohup does."""
    return signal.getsignal(number) == signal.SIG_IGN


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    with suppress(OSError):
        os.write(2, f"laegd: {ending(number)}\n".encode())
    os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_PREEMPTED)


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Turns signals that ask to end into KeyboardInterrupt and Terminated, so that what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in ENDING if not _ignored(number)}
    for number in previous:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    if _imports(frame):
        _end_at_once(number, frame)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _imports(frame: FrameType | None) -> bool:
    """Tells whether a module is being imported: native ones turn an exception into errors of their own, or lose it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _open_standard_streams() -> None:
    """Opens those that are closed on nothing: else a file opened later gets the number, and what is printed there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which takes the lowest free number, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Writes characters that an output's encoding lacks with those that it has."""
    assert isinstance(error, UnicodeEncodeError)
    text = "".join(_in_ascii(character) for character in error.object[error.start : error.end])
    return text, error.end


def _in_ascii(character: str) -> str:
    if ord(character) in _BOXES:
        return "|" if character in "\u2502\u2503" else "-"
    return _PLAIN.get(character) or character.encode("unicode_escape").decode()
