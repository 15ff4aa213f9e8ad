"""Calls of the ``sr`` program."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


class SrError(Exception):
    """``sr`` failed; the message is its own."""


def _end_with_parent() -> None:
    """Lets the kernel kill a child with its parent (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(program: str, *arguments: object) -> str:
    """Standard output of ``sr`` with these arguments.

    Raises SrError if it fails, is killed or is not installed.
    """
    command = [program, *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise SrError(f"cannot run {program}: {error.strerror}") from None
    if done.returncode < 0:
        raise SrError(f"{program} was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode != 0:
        message = re.sub(r"^sr: ", "", done.stderr.strip(), flags=re.MULTILINE)
        raise SrError(message or f"{program} ended with status {done.returncode}")
    return done.stdout


def version(program: str) -> str:
    """The version of ``sr``."""
    return run(program, "--version").split()[-1]


def finished(program: str, plan: Path, folder: Path, index: int | None = None) -> list[dict]:
    """The segments of a plan in a folder that are whole, by their hashes."""
    which = [] if index is None else [index]
    lines = run(program, "video", "check", plan, folder, *which).splitlines()
    return [json.loads(line) for line in lines]


def segment_files(index: int) -> tuple[str, str]:
    """The names of a segment's files: packets and manifest."""
    return f"segment-{index:05}.packets", f"segment-{index:05}.json"


def write(path: Path, data: bytes) -> None:
    """Writes a file that is there when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
