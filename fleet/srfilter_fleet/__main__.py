"""``python3 -m srfilter_fleet IN OUT``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from . import __version__
from .cluster import ClusterError, connect
from .job import Job
from .sr import SrError, version

EXTENSIONS = {
    ".mkv", ".webm", ".mp4", ".m4v", ".mov", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg",
    ".vob", ".ogv", ".flv", ".wmv", ".mxf", ".3gp",
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="srfilter_fleet",
        description="Upscale a video file, or those of a folder, on the machines of a Ray "
        "cluster. Interrupted work goes on with the same command. All other options are those of "
        "'sr video plan': --model, --scale, --encoder, --seconds and so on.",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="video file, or a folder of them")
    parser.add_argument("output", metavar="OUT", type=Path, help="output file or folder")
    parser.add_argument(
        "--address",
        default="local",
        help="address of the cluster; auto: of this machine; local: start one (default)",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="address of this machine at which a cluster that is started may be joined by others "
        "[default: loopback only]",
    )
    parser.add_argument(
        "--cores", metavar="N", type=int, default=2, help="cores of a worker (default: 2)"
    )
    parser.add_argument("--gpus", action="store_true", help="a worker for each GPU")
    parser.add_argument("--container", default="mkv", help="of a folder's outputs (default: mkv)")
    parser.add_argument("--sr", metavar="PROGRAM", default="sr", help="sr on all machines")
    parser.add_argument("--drop", action="store_true", help="leave out what OUT cannot hold")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--json", action="store_true", help="print lines of JSON")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def pairs(input: Path, output: Path, container: str) -> list[tuple[Path, Path]]:
    """Inputs and their outputs; raises SrError if they are not there, or two are the same."""
    if not input.is_dir():
        if not input.is_file():
            raise SrError(f"cannot find {input}: no such file")
        return [(input, output)]
    files = sorted(f for f in input.iterdir() if f.is_file() and f.suffix.lower() in EXTENSIONS)
    if not files:
        raise SrError(f"{input} has no video files")
    found: dict[Path, Path] = {}
    for file in files:
        target = output / f"{file.stem}.{container}"
        if target in found:
            raise SrError(f"{found[target]} and {file} would both become {target}")
        found[target] = file
    output.mkdir(parents=True, exist_ok=True)
    return [(file, target) for target, file in found.items()]


def run(arguments: argparse.Namespace, plan: list[str]) -> int:
    """Does the work; returns the exit status."""
    if arguments.cores < 1:
        raise SrError("--cores must be 1 or more")
    program = arguments.sr
    known = version(program)
    files = pairs(arguments.input, arguments.output, arguments.container)
    is_folder = arguments.input.is_dir()
    jobs = []
    for input, output in files:
        # In a folder, what is done stays done.
        if is_folder and output.exists() and not arguments.force:
            continue
        jobs.append(Job(program, input, output, arguments.force, arguments.drop))
    # Ray prints what happens in the cluster, which is no output of ours.
    out, sys.stdout = sys.stdout, sys.stderr
    connect(arguments.address, arguments.listen)
    # Imports Ray, which reads its settings then.
    from .driver import Fleet, Log

    device = "auto" if arguments.gpus else "cpu"
    log = Log(out, arguments.json)
    fleet = Fleet(known, program, arguments.cores, device, arguments.gpus, log)
    try:
        failed = fleet.run(jobs, plan)
    finally:
        fleet.close()
        for job in jobs:
            job.close()
    return 1 if failed else 0


def main() -> int:
    """The program."""
    arguments, plan = parser().parse_known_args()
    # As Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(arguments, plan)
    except (SrError, ClusterError, OSError) as error:
        print(f"srfilter_fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("srfilter_fleet: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
