"""``python3 -m srfilter_fleet IN OUT``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from . import __version__
from .cluster import ClusterError, connect, first_line
from .job import Job
from .sr import SrError, version

EXTENSIONS = {
    ".mkv", ".webm", ".mp4", ".m4v", ".mov", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg",
    ".vob", ".ogv", ".flv", ".wmv", ".mxf", ".3gp",
}  # fmt: skip


#: Options of ``sr video plan`` that have a value.
PLAN_VALUES = (
    ("-m", "--model"), ("-w", "--weights"), ("-s", "--scale"), ("--size",), ("--encoder",),
    ("--quality",), ("--bit-depth",), ("--damage",), ("--start",), ("--end",), ("--precision",),
    ("--segments",), ("--seconds",),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="srfilter_fleet",
        description="Upscale a video file, or those of a folder, on the machines of a Ray "
        "cluster. Interrupted work goes on with the same command.",
        allow_abbrev=False,
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
        help="address of this machine at which others can join a cluster that is started "
        "[default: loopback only]",
    )
    parser.add_argument(
        "--cores", metavar="N", type=int, default=2, help="cores of a worker (default: 2)"
    )
    parser.add_argument(
        "--pin", action="store_true", help="keep each worker to cores of its own (Linux)"
    )
    parser.add_argument("--gpus", action="store_true", help="a worker for each GPU")
    parser.add_argument("--container", default="mkv", help="of a folder's outputs (default: mkv)")
    parser.add_argument("--sr", metavar="PROGRAM", default="sr", help="sr on all machines")
    parser.add_argument("--drop", action="store_true", help="leave out what OUT cannot hold")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--json", action="store_true", help="print lines of JSON")
    parser.add_argument("--version", action="version", version=__version__)
    plan = parser.add_argument_group("options of 'sr video plan', which explains them")
    for names in PLAN_VALUES:
        plan.add_argument(*names, metavar="X")
    plan.add_argument("--deinterlace", action="store_true")
    return parser


def plan_options(arguments: argparse.Namespace) -> list[str]:
    """The options for ``sr video plan``."""
    options = ["--deinterlace"] if arguments.deinterlace else []
    for names in PLAN_VALUES:
        value = getattr(arguments, names[-1][2:].replace("-", "_"))
        if value is not None:
            options += [names[-1], value]
    return options


def pairs(input: Path, output: Path, container: str) -> list[tuple[Path, Path]]:
    """Inputs and their outputs; raises SrError if they are not there, or two are the same."""
    if not input.is_dir():
        if not input.is_file():
            raise SrError(f"cannot find {input}: no such file")
        return [(input, output)]
    if output.exists() and output.samefile(input):
        raise SrError(f"{output} is the folder of the inputs")
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


def run(arguments: argparse.Namespace) -> int:
    """Does the work; returns the exit status."""
    if arguments.cores < 1:
        raise SrError("--cores must be 1 or more")
    program = arguments.sr
    known = version(program)
    files = pairs(arguments.input, arguments.output, arguments.container)
    if arguments.input.is_dir() and not arguments.force:
        # In a folder, what is done stays done.
        left = [(input, output) for input, output in files if not output.exists()]
        if len(left) < len(files):
            print(f"srfilter_fleet: {len(files) - len(left)} files are there", file=sys.stderr)
        files = left
    jobs = [Job(program, *pair, arguments.force, arguments.drop) for pair in files]
    # Ray prints what happens in the cluster, which is no output of ours.
    out, sys.stdout = sys.stdout, sys.stderr
    connect(arguments.address, arguments.listen)
    # As Ctrl-C. Ray has its own way of ending.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Imports Ray, which reads its settings then.
    from ray.exceptions import RayError

    from .driver import Fleet, Log

    log = Log(out, arguments.json)
    fleet = Fleet(known, program, arguments.cores, arguments.gpus, arguments.pin, log)
    try:
        failed = fleet.run(jobs, plan_options(arguments))
    except RayError as error:
        raise ClusterError(f"the Ray cluster failed: {first_line(error)}") from None
    finally:
        fleet.close()
        for job in jobs:
            job.close()
    return 1 if failed else 0


def main() -> int:
    """The program."""
    arguments = parser().parse_args()
    try:
        return run(arguments)
    except (SrError, ClusterError, OSError) as error:
        print(f"srfilter_fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("srfilter_fleet: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
