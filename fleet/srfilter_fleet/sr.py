"""Calls of the ``sr`` program."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path


class SrError(Exception):
    """``sr`` failed; the message is its own."""


class SrKilled(SrError):
    """``sr`` was killed, by the kernel when memory ran out for example."""


def _command(program: str) -> list[str]:
    """The command, which the kernel kills with its parent where there is ``setpriv`` (Linux).

    ``preexec_fn`` is not safe in processes with threads, such as Ray's.
    """
    path = shutil.which(program)
    if path is None:
        raise SrError(f"cannot run {program}: no such program")
    setpriv = shutil.which("setpriv")
    return [path] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--", path]


def run(program: str, *arguments: object) -> str:
    """Standard output of ``sr`` with these arguments.

    Raises SrError if it fails or is not installed, SrKilled if it is killed.
    """
    command = [*_command(program), *map(str, arguments)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise SrError(f"cannot run {program}: {error.strerror}") from None
    if done.returncode < 0:
        raise SrKilled(f"{program} was killed by {signal.Signals(-done.returncode).name}")
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
