#!/usr/bin/env python3
"""Graphs in ONNX by srfilter and by ONNX Runtime: same files, same images, one run."""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

for folder in ("../../tests/reference", "../peers"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
import onnx_graphs
from worker import Worker

# Name, size of the image, function that writes it, its arguments.
GRAPHS = [
    ("espcn", (640, 360), onnx_graphs.espcn_relu, {"mode": "CRD", "width": (64, 32)}),
    ("srcnn", (640, 360), onnx_graphs.srcnn, {"edge": False, "width": (64, 32)}),
    ("acnet", (640, 360), onnx_graphs.acnet, {"full": False, "layers": 9}),
    ("compact", (320, 180), onnx_graphs.compact, {"width": 64, "depth": 16}),
    ("artcnn-c4f16", (640, 360), onnx_graphs.artcnn, {}),
    ("artcnn-c4f32", (640, 360), onnx_graphs.artcnn, {"width": 32}),
    ("fsrcnn", (640, 360), onnx_graphs.fsrcnn, {"width": (56, 12), "depth": 4}),
    ("edsr-baseline", (160, 90), onnx_graphs.edsr, {"width": 64, "blocks": 16}),
    ("span-48", (160, 90), onnx_graphs.span, {"width": 48, "blocks": 6, "factor": 4}),
    ("rrdb", (160, 90), onnx_graphs.rrdb, {"width": 64, "growth": 32, "blocks": 23, "depth": 3, "convs": 4}),
]


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graph", help="names, separated by commas")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    worker = Worker([args.worker, "serve"], threads)
    names = args.graph.split(",") if args.graph else [graph[0] for graph in GRAPHS]
    print(f"{threads} threads, best of {args.rounds} rounds, milliseconds\n")
    print("| graph | input | runs | srfilter | onnxruntime | ratio | off by |")
    print("|---|---|---|---|---|---|---|")
    onnx_graphs.OUT = args.folder
    for name, (width, height), write, settings in GRAPHS:
        if name not in names:
            continue
        # Random weights that keep values near 0 to 1.
        with contextlib.redirect_stdout(sys.stderr):
            write(name, **settings)
        path = args.folder / f"{name}.onnx"
        how = worker.ask("load", name, path, width, height)
        theirs = session(path, threads)
        planes = theirs.get_inputs()[0].shape[1]
        values = ((np.arange(planes * height * width, dtype=np.int64) * 7919 + 31) % 1009) / 1009
        image = values.astype(np.float32).reshape(1, planes, height, width)
        times = {"ours": [], "theirs": []}
        for turn in range(args.rounds):
            for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                time.sleep(0.02)
                spent = 0.0
                while spent < 200:
                    if who == "ours":
                        took = float(worker.ask("run", name))
                    else:
                        start = time.perf_counter()
                        (result,) = theirs.run(None, {"input": image})
                        took = (time.perf_counter() - start) * 1e3
                    times[who].append(took)
                    spent += took
        output = args.folder / f"{name}.output"
        worker.ask("save", name, output)
        ours = np.fromfile(output, "<f4").reshape(result.shape) / 255
        # Random weights know no range: of the largest value.
        off = float(np.abs(ours - result.clip(0, 1)).max() / max(1.0, np.abs(result).max()))
        best = {who: min(all_) for who, all_ in times.items()}
        ratio = best["theirs"] / best["ours"]
        print(f"| {name} | {planes}x{height}x{width} | {how} | {best['ours']:.2f} | {best['theirs']:.2f} | {ratio:.2f} | {off:.1e} |", flush=True)
        if off > 1e-4:
            raise SystemExit(f"{name} is off by {off}")


main()
