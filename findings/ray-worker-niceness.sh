#!/usr/bin/env bash
# Ray runs its workers, and what they start, at niceness 15.
#
# ray 2.60.0, Linux. Guess before the run: workers have the niceness of `ray start`, 0.
# Seen: 15. RAY_worker_niceness, in the environment of the node, sets another one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet ray==2.60.0
"$dir/bin/ray" --version
cat > "$dir/nice.py" << 'P'
import os, subprocess, ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error",
         object_store_memory=100_000_000)
started = ray.remote(lambda: subprocess.run(["nice"], capture_output=True, text=True).stdout.strip())
print("driver", os.nice(0), "worker's process", ray.get(started.remote()))
P
export RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
{
    nice -n 0 "$dir/bin/python" "$dir/nice.py" 2> /dev/null
    RAY_worker_niceness=0 "$dir/bin/python" "$dir/nice.py" 2> /dev/null
} | tee "$dir/seen"
diff "$dir/seen" - << 'X'
driver 0 worker's process 15
driver 0 worker's process 0
X
