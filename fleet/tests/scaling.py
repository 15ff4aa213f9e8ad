"""How the work scales: 1 and 2 workers that compute, on a core each, and 1 and 4 that sleep.

Run by benches/fleet.sh. Seconds are those of the driver, from the start of the workers on.
"""

import json
import sys
import tempfile
from pathlib import Path

from conftest import SR, Driver, draw, run

#: Seconds that a worker sleeps instead of computing a segment.
SLEEP = 2.0

WRAPPER = """#!/bin/sh
if [ "$1 $2" = "video segment" ]; then
    name=$(printf 'segment-%05d' "$4")
    while [ "$1" != --out ]; do shift; done
    mkdir -p "$2"
    cp {parts}/"$name".* "$2"
    exec sleep {seconds}
fi
exec {sr} "$@"
"""


def seconds(nodes, clip, settings):
    """Seconds of the work on machines with so many cores each, and a worker a core."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for cores in nodes:
            cluster.add_node(num_cpus=cores, **memory)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out.mkv"
            lines = Driver(clip, output, "--address", cluster.address, *settings).finish()
        return json.loads(lines.splitlines()[-1])["seconds"]
    finally:
        cluster.shutdown()


def compare(name, nodes, rounds, clip, settings):
    """Prints the seconds of one worker and of those of the nodes, the best of some in turns."""
    taken = ([], [])
    for _ in range(rounds):
        taken[0].append(seconds([1], clip, settings))
        taken[1].append(seconds(nodes, clip, settings))
    one, many = map(min, taken)
    text = f"{name}: 1 worker {one:.1f} s, {sum(nodes)} {many:.1f} s: {one / many:.2f}x"
    print(text, flush=True)


def main():
    only = sys.argv[1:] or ["computing", "sleeping"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A network that leaves little to the decoder and the encoder, which have more threads.
        clip = draw(folder / "real.mkv", 8, size="320,height=180")
        settings = ["--model", "compact", "--precision", "f32", "--seconds", "1", "--pin"]
        if "computing" in only:
            compare("computing", [2], 2, clip, settings)
        if "sleeping" not in only:
            return
        clip = draw(folder / "in.mkv", 60)
        settings = ["--model", "espcn-fast", "--seconds", "1"]
        plan, parts = folder / "plan.json", folder / "parts"
        plan.write_text(run("video", "plan", clip, *settings))
        for index in range(len(json.loads(plan.read_text())["segments"])):
            run("video", "segment", plan, index, "--out", parts)
        wrapper = folder / "sr"
        wrapper.write_text(WRAPPER.format(parts=parts, seconds=SLEEP, sr=SR))
        wrapper.chmod(0o755)
        compare("sleeping", [1, 1, 1, 1], 1, clip, [*settings, "--sr", wrapper])


if __name__ == "__main__":
    sys.exit(main())
