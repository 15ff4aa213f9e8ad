#!/usr/bin/env python3
"""The Python module beside the engine: time of the import, and of a frame of 1920x1080.

bench.py WORKER, as `scripts/wheel.sh try` runs it, in an environment with the module. The engine
is timed by WORKER, in turns with the module; the best of each counts.
"""

import subprocess
import sys
import time

import numpy as np
import srfilter

ROUNDS = 12
MODELS = ("espcn", "espcn-fast", "bicubic")
TYPES = {"u8": np.uint8, "u16": np.uint16}
# Bars, of time over that of the engine, and of seconds.
MOST, MOST_IMPORT = 1.03, 0.2


def best_import():
    """Seconds that `import srfilter` adds to starting Python, the best of some."""
    code = "import time; start = time.perf_counter(); import srfilter; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def main():
    took = best_import()
    print(f"import: {1000 * took:.1f} ms")
    slow = took > MOST_IMPORT
    rng = np.random.default_rng(1)
    for model in MODELS:
        for name, dtype in TYPES.items():
            with subprocess.Popen(
                [sys.argv[1], model, name, "1920", "1080"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as engine:
                upscaler = srfilter.Upscaler(model, 2)
                image = rng.integers(0, np.iinfo(dtype).max, (1080, 1920, 3), dtype)
                ours, theirs = [], []
                for _ in range(ROUNDS):
                    start = time.perf_counter()
                    upscaler.upscale(image)
                    ours.append(time.perf_counter() - start)
                    engine.stdin.write("\n")
                    engine.stdin.flush()
                    theirs.append(float(engine.stdout.readline()))
                engine.stdin.close()
            ratio = min(ours) / min(theirs)
            print(
                f"{model} {name}: module {1000 * min(ours):.1f} ms, "
                f"engine {1000 * min(theirs):.1f} ms, ratio {ratio:.3f}"
            )
            slow |= name == "u8" and ratio > MOST
    sys.exit(slow)


if __name__ == "__main__":
    main()
