"""What a worker does: one segment at a time, by ``sr``."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from . import __version__
from .sr import SrError, run, segment_files, version


class Worker:
    """Computes segments with some cores, or a GPU, of a machine.

    It gets a plan, packets and weights, writes them to a folder of its own under names of its
    own, and returns the files of the segment.
    """

    def __init__(self, program: str, threads: int, device: str) -> None:
        self.program, self.threads, self.device = program, threads, device

    def versions(self) -> tuple[str, str]:
        """Of this package and of ``sr``; raises SrError if that cannot be run."""
        return __version__, version(self.program)

    def compute(
        self, plan: bytes, index: int, packets: bytes, weights: bytes | None
    ) -> tuple[str | None, bytes, bytes]:
        """An error, or packets and manifest of a segment."""
        try:
            with tempfile.TemporaryDirectory(prefix="srfilter-") as name:
                return None, *self._compute(Path(name), plan, index, packets, weights)
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
