#!/usr/bin/env bash
# Ray asked for 127.0.0.1 listens on all interfaces; a setting for macOS lets it listen on loopback.
#
# ray 2.60.0, Linux. Guess before the run: --node-ip-address=127.0.0.1 binds to the loopback interface.
# Seen: "127.0.0.1" is replaced by the machine's outward address, and the servers of the node listen on
# every interface. With RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, which is read on Linux, too, they listen on
# 127.0.0.1 alone.
set -euo pipefail
dir=$(mktemp -d)
trap 'pkill -KILL -f "$dir/(lib|bin)/" || true; rm -rf "$dir"' EXIT
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet ray==2.60.0
"$dir/bin/ray" --version
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_AUTH_TOKEN
hosts() {
    "$dir/bin/ray" start --head --node-ip-address=127.0.0.1 --port=0 --num-cpus=1 --include-dashboard=false \
        --object-store-memory=100000000 --temp-dir="$dir/t$RANDOM" > /dev/null 2>&1
    sleep 2
    ss -Hltnp | grep -E '"(raylet|gcs_server)"' | awk '{ sub(/:[0-9]+$/, "", $4); print $4 }' | sort -u | tr '\n' ' '
    pkill -KILL -f "$dir/(lib|bin)/" || true
    sleep 2
}
{
    echo "as it is: $(hosts)"
    echo "with the setting: $(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 hosts)"
} | tee "$dir/seen"
diff "$dir/seen" - << 'X'
as it is: * 
with the setting: [::ffff:127.0.0.1] 
X
