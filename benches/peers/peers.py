#!/usr/bin/env python3
"""Times our engine against its peers: same weights, same frames, one run."""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import models
from worker import Worker

OURS = "srfilter"
PYTORCH = [
    "pytorch",
    "pytorch-channels-last",
    "pytorch-compiled",
    "pytorch-compiled-channels-last",
]

# The share of full scale that a row may differ by: f32 must agree, the others
# say what they cost.
BOUNDS = {"f32": 1e-3, "bf16": 3e-2, "int8": 1e-1}

# How long an engine computes in a round: one call if it is slow, some if it
# is fast.
TURN_MS = 200.0
MOST_CALLS = 10

# Rest between engines: the threads of the last one spin for a while.
REST_S = 0.02


class WorkerEngine:
    """An engine in a worker, which calls it NAME or NAME.PRECISION."""

    def __init__(self, worker, work, engine, folder):
        self.worker, self.work, self.engine = worker, work, engine
        self.name, _, precision = engine.partition(".")
        self.precision = precision or "f32"
        self.file = folder / f"{work}.{engine}"
        worker.ask("load", work, engine)

    def run(self):
        return float(self.worker.ask("run", self.work, self.engine))

    def output(self):
        return np.fromfile(self.file, "<f4")


@dataclass
class Row:
    """One engine at one work."""

    precision: str
    engine: object
    deviation: float = 0.0
    times: list = field(default_factory=list)

    @property
    def agrees(self):
        return self.deviation < BOUNDS[self.precision]

    @property
    def best(self):
        return min(self.times)


class Bench:
    """A run over some works."""

    def __init__(self, args):
        self.folder = args.folder
        self.rounds = args.rounds
        self.threads = len(os.sched_getaffinity(0))
        self.worker = Worker([args.worker, args.folder], self.threads)
        self.pytorch = None
        self.peaks = {1: 0.0, self.threads: 0.0}
        table = self.worker.ask("works")
        (args.folder / "works.json").write_text(table)
        works = {work["name"]: work for work in json.loads(table)}
        names = args.work.split(",") if args.work else works
        unknown = [name for name in names if name not in works]
        if unknown:
            raise SystemExit(f"no work {', '.join(unknown)}; there are {', '.join(works)}")
        self.works = [works[name] for name in names]
        if args.pytorch:
            script = Path(__file__).with_name("training.py")
            self.pytorch = Worker([args.pytorch, script, args.folder], self.threads)

    def prepare(self, work):
        """Writes weights, picture and models."""
        self.worker.ask("make", work["name"])
        if work["peers"]:
            weights, picture = self.path(work, "safetensors"), self.picture(work)
            plain = self.path(work, "onnx")
            models.build(work, weights, plain)
            models.quantise(plain, picture, self.path(work, "int8.onnx"))
            models.quantise_openvino(plain, picture, self.path(work, "int8.xml"))
            plain = self.path(work, "ncnn")
            models.build_ncnn(work, weights, plain)
            largest = models.Ncnn(plain, picture, self.threads, "f32").largest()
            models.build_ncnn(work, weights, self.path(work, "int8.ncnn"), largest)

    def drop(self):
        for worker in (self.worker, self.pytorch):
            if worker:
                worker.ask("drop")

    def path(self, work, end):
        return str(self.folder / f"{work['name']}.{end}")

    def picture(self, work):
        values = np.fromfile(self.path(work, "input"), "<f4")
        return values.reshape(work["input"])

    def rows(self, work):
        """Every engine that does the work, ready to run; our own first."""
        mine = [
            WorkerEngine(self.worker, work["name"], engine, self.folder)
            for engine in work["engines"]
        ]
        rows = [Row(engine.precision, engine) for engine in mine]
        if work["kind"] == "training" and self.pytorch:
            same = (self.pytorch, work["name"])
            rows += [Row("f32", WorkerEngine(*same, engine, self.folder)) for engine in PYTORCH]
        if work["peers"]:
            plain, int8 = self.path(work, "onnx"), self.path(work, "int8.onnx")
            picture = self.picture(work)
            same = (picture, work["output"], self.threads)
            rows += [
                Row("f32", models.OnnxRuntime(plain, *same)),
                Row("f32", models.OpenVino(plain, *same, "f32")),
                Row("int8", models.OnnxRuntime(int8, *same)),
                # What stays in floating point between the 8-bit layers.
                Row("int8", models.OpenVino(self.path(work, "int8.xml"), *same, "f32")),
            ]
            for precision, end in (("f32", "ncnn"), ("int8", "int8.ncnn")):
                engine = models.Ncnn(self.path(work, end), picture, self.threads, precision)
                rows.append(Row(precision, engine))
            if models.OpenVino.has_bf16():
                rows.append(Row("bf16", models.OpenVino(plain, *same, "bf16")))
        return rows

    def compare(self, work, rows):
        """Measures how far every row is from the reference; whether f32 agrees."""
        outputs = [row.engine.output().ravel() for row in rows]
        # ONNX Runtime where it takes part, else the last one in f32.
        pairs = zip(rows, outputs)
        plain = {row.engine.name: output for row, output in pairs if row.precision == "f32"}
        reference = plain.get("onnxruntime", list(plain.values())[-1])
        scale = np.abs(reference).max()
        fine = True
        for row, output in zip(rows, outputs):
            row.deviation = float(np.abs(output - reference).max() / scale)
            # Written so that a NaN is wrong too.
            if row.precision == "f32" and not row.agrees:
                fine = False
                print(
                    f"{work['name']}: {row.engine.name} is off by {row.deviation:.2g} of full scale",
                    file=sys.stderr,
                )
        return fine

    def measure_peak(self):
        for threads in self.peaks:
            peak = float(self.worker.ask("peak", threads))
            self.peaks[threads] = max(self.peaks[threads], peak)

    def time(self, rows):
        """Round by round, everybody in turn, another one first each time."""
        for turn in range(self.rounds):
            first = turn % len(rows)
            for row in rows[first:] + rows[:first]:
                time.sleep(REST_S)
                spent, calls = 0.0, 0
                while calls == 0 or (spent < TURN_MS and calls < MOST_CALLS):
                    row.times.append(row.engine.run())
                    spent += row.times[-1]
                    calls += 1

    def run(self):
        """All works' rows, timed; None if pictures differ."""
        fine = True
        for work in self.works:
            self.prepare(work)
            rows = self.rows(work)
            fine = self.compare(work, rows) and fine
            del rows
            self.drop()
        if not fine:
            return None
        results = []
        for work in self.works:
            rows = self.rows(work)
            self.compare(work, rows)
            self.measure_peak()
            self.time(rows)
            self.measure_peak()
            results.append((work, rows))
            for row in rows:
                # Only the name is needed from here on, the memory is not.
                row.engine = row.engine.name
            self.drop()
            print(f"{work['name']} done", file=sys.stderr)
        return results


def ours(rows, precision):
    """Our row of that precision, or our f32 one."""
    mine = {row.precision: row for row in rows if row.engine == OURS}
    return mine.get(precision) or mine.get("f32")


def table(results, peaks):
    """The results for people."""
    threads = max(peaks)
    each = ", ".join(f"{n} thread{'s' * (n > 1)} {peaks[n]:.0f}" for n in sorted(peaks))
    lines = [f"f32 FMA peak, GMAC/s: {each}", ""]
    heads = ("work", "type", "engine", "best ms", "median", "GMAC/s", "of peak", "x ours", "off by")
    widths = (22, 5, 30, 9, 9, 8, 8, 7, 8)

    def line(cells):
        left, right = zip(cells[:3], widths[:3]), zip(cells[3:], widths[3:])
        parts = [f"{c:<{w}}" for c, w in left] + [f"{c:>{w}}" for c, w in right]
        lines.append(" ".join(parts).rstrip())

    line(heads)
    for work, rows in results:
        for row in sorted(rows, key=lambda row: list(BOUNDS).index(row.precision)):
            speed = work["gmac"] / row.best * 1e3
            base = ours(rows, row.precision)
            line((
                work["name"],
                row.precision,
                row.engine,
                f"{row.best:.2f}",
                f"{statistics.median(row.times):.2f}",
                f"{speed:.1f}",
                f"{speed / peaks[threads]:.0%}",
                f"{row.best / base.best:.2f}" if base else "",
                f"{row.deviation:.0e}" + ("" if row.agrees else " !"),
            ))
    return "\n".join(lines)


def as_json(results):
    """The results for programs."""
    return [
        {
            "work": work["name"],
            "precision": row.precision,
            "engine": row.engine,
            "best_ms": row.best,
            "median_ms": statistics.median(row.times),
            "gmacs": work["gmac"] / row.best * 1e3,
            "agrees": row.agrees,
        }
        for work, rows in results
        for row in rows
    ]


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__)
    parser.add_argument("--work", metavar="NAME,...", help="only these")
    parser.add_argument("--rounds", type=int, default=7, help="at least 5; %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    parser.add_argument("--worker", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--pytorch", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < 5:
        parser.error("fewer than 5 rounds tell nothing")
    bench = Bench(args)
    results = bench.run()
    if results is None:
        sys.exit("the pictures differ: nothing was timed")
    print(table(results, bench.peaks))
    if args.json:
        args.json.write_text(json.dumps(as_json(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
