#!/usr/bin/env bash
# openvino 2026.4.1 with openvino-telemetry 2025.2.0 (its dependency): `import openvino` reports the
# import to a server, without being asked.
#
# Guess: a library that computes on this machine opens no connection when it is imported.
# Seen: the import writes an identifier to ~/intel and looks up www.google-analytics.com to
# send an event. CI=true (exactly that) stops both; CI=1 does not.
#
# So benches/peers sets CI=true. Needs Python 3.11 with venv, the network for pip, and strace (apt);
# outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 \
    openvino-telemetry==2025.2.0 numpy==2.4.6
imported() {
    mkdir "$dir/home-$1"
    # The resolver's queries name the server.
    env HOME="$dir/home-$1" CI="$1" strace -f -e trace=sendto,sendmmsg,connect -s 200 -o "$dir/trace-$1" \
        "$dir/venv/bin/python" -c 'import openvino, time; time.sleep(5)'
    asked=$(grep -c 'google-analytics' "$dir/trace-$1" || true)
    files=$(find "$dir/home-$1" -type f | wc -l)
    echo "CI=$1: lookups $((asked > 0)), files $((files > 0))"
}
for value in 0 1 true; do imported "$value"; done | tee "$dir/found"
diff "$dir/found" - <<'END'
CI=0: lookups 1, files 1
CI=1: lookups 1, files 1
CI=true: lookups 0, files 0
END
