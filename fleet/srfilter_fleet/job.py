"""A file that is upscaled: its plan, and the folder of its segments."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from . import sr


class Job:
    """One input and its output, with ``OUT.parts`` as ``sr video`` has it."""

    def __init__(self, program: str, input: Path, output: Path, force: bool, drop: bool) -> None:
        self.program, self.input, self.output, self.drop = program, input, output, drop
        if output.exists() and output.samefile(input):
            raise sr.SrError(f"{output} is the input")
        if output.exists() and not force:
            raise sr.SrError(f"{output} exists; overwrite it with --force")
        self.parts = output.with_name(output.name + ".parts")
        self.temporary = tempfile.TemporaryDirectory(
            prefix="srfilter-", ignore_cleanup_errors=True
        )
        self.plan_file = Path(self.temporary.name) / "plan.json"
        self.plan_text = b""
        self.weights: bytes | None = None
        #: Frames of each segment.
        self.frames: list[int] = []
        #: Segments that are whole, with what ``sr video check`` says.
        self.finished: dict[int, dict] = {}
        self._lock: int | None = None

    def plan(self, arguments: list[str]) -> None:
        """Plans the work, locks the folder, and finds what is finished."""
        drop = ["--drop"] if self.drop else []
        out = ["--output", self.output, *drop]
        text = sr.run(self.program, "video", "plan", self.input, *out, *arguments)
        self.plan_text = text.encode()
        self.plan_file.write_bytes(self.plan_text)
        plan = json.loads(text)
        self.frames = [segment["packets"] for segment in plan["segments"]]
        if weights := plan["settings"]["weights"]:
            self.weights = Path(weights).read_bytes()
        self.parts.mkdir(exist_ok=True)
        folder = os.open(self.parts, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise sr.SrError(f"another run is writing to {self.parts}") from None
        except OSError:
            # File systems without locks lock nothing.
            pass
        self._lock = folder
        for line in sr.finished(self.program, self.plan_file, self.parts):
            self.finished[line["index"]] = line

    def cut(self, index: int) -> bytes:
        """The packets that a segment is decoded from."""
        file = Path(self.temporary.name) / f"{index}.gdp"
        sr.run(self.program, "video", "cut", self.plan_file, index, "--out", file)
        try:
            return file.read_bytes()
        finally:
            file.unlink()

    def take(self, index: int, packets: bytes, manifest: bytes) -> dict:
        """Writes a segment of a worker, and checks it; raises SrError if it is not the plan's."""
        for name, data in zip(sr.segment_files(index), (packets, manifest)):
            sr.write(self.parts / name, data)
        found = sr.finished(self.program, self.plan_file, self.parts, index)
        if not found:
            raise sr.SrError(f"segment {index} is damaged, or of another plan")
        self.finished[index] = found[0]
        return found[0]

    def forget(self, index: int) -> None:
        """Removes a segment."""
        self.finished.pop(index, None)
        for name in sr.segment_files(index):
            (self.parts / name).unlink(missing_ok=True)

    @property
    def is_finished(self) -> bool:
        """Whether all segments are there."""
        return len(self.finished) == len(self.frames)

    def join(self) -> None:
        """Writes the output, and removes the segments."""
        drop = ["--drop"] if self.drop else []
        sr.run(
            self.program, "video", "join", self.plan_file, self.parts, self.output, "--force", *drop
        )
        for index in range(len(self.frames)):
            for name in sr.segment_files(index):
                (self.parts / name).unlink(missing_ok=True)
        # Of a run that was killed.
        for file in self.parts.glob(".segment-*.partial"):
            file.unlink()
        self.close()

    def close(self) -> None:
        """Removes the folder if it is empty, and unlocks it."""
        if self._lock is not None:
            # There are segments in it.
            with suppress(OSError):
                self.parts.rmdir()
            os.close(self._lock)
            self._lock = None
        self.temporary.cleanup()
