"""What a worker does: one segment at a time, by ``sr``."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import __version__
from .sr import SrError, SrKilled, run, segment_files, version


#: What the folders of workers begin with.
PREFIX = "srfilter-worker-"
#: Seconds after which a folder that is not locked is one that a killed worker left.
AGE = 60.0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for a segment; those that killed workers left are removed."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > AGE:
                with _locked(old):
                    shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        with _locked(Path(name)):
            yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder; raises OSError if another process does."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


class Worker:
    """Computes segments with some cores, or a GPU, of a machine.

    It gets a plan, packets and weights, writes them to a folder of its own under names of its
    own, and returns the files of the segment.
    """

    def __init__(self, program: str, threads: int, device: str, slot: int | None) -> None:
        """``slot``: which of the cores are its own, so many as it has threads; ``None``: any."""
        self.program, self.threads, self.device = program, threads, device
        if slot is not None:
            cores = sorted(os.sched_getaffinity(0))[slot * threads : (slot + 1) * threads]
            if cores:
                os.sched_setaffinity(0, cores)

    def versions(self) -> tuple[str, str]:
        """Of this package and of ``sr``; raises SrError if that cannot be run."""
        return __version__, version(self.program)

    def compute(
        self, plan: bytes, index: int, packets: bytes, weights: bytes | None
    ) -> tuple[str | None, bytes, bytes]:
        """An error, or packets and manifest of a segment; raises SrKilled."""
        try:
            with _folder() as folder:
                return None, *self._compute(folder, plan, index, packets, weights)
        except SrKilled:
            raise
        except (SrError, OSError) as error:
            return str(error), b"", b""

    def _compute(
        self, folder: Path, plan: bytes, index: int, packets: bytes, weights: bytes | None
    ) -> tuple[bytes, bytes]:
        (folder / "plan.json").write_bytes(plan)
        (folder / "input.gdp").write_bytes(packets)
        arguments = ["--packets", folder / "input.gdp", "--out", folder / "parts"]
        arguments += ["--threads", self.threads, "--device", self.device]
        if weights is not None:
            # Their name tells the format.
            suffix = Path(json.loads(plan)["settings"]["weights"]).suffix
            suffix = suffix if suffix.isascii() and suffix[1:].isalnum() else ""
            file = folder / f"{hashlib.sha256(weights).hexdigest()}{suffix}"
            file.write_bytes(weights)
            arguments += ["--weights", file]
        run(self.program, "video", "segment", folder / "plan.json", index, *arguments)
        files = [folder / "parts" / name for name in segment_files(index)]
        return files[0].read_bytes(), files[1].read_bytes()
