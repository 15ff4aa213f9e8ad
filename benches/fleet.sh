#!/usr/bin/env bash
# How srfilter_fleet scales: workers that compute, on a core each, and workers that sleep for two
# seconds a segment in place of the network. Needs two free cores, and Ray from PyPI.
# `benches/fleet.sh computing` or `sleeping` measures one of them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh python3-venv gstreamer1.0-plugins-ugly
SR=$(realpath "${CARGO_TARGET_DIR:-target}/release/sr")
export SR
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet ray==2.60.0 pytest==8.4.2
"$venv/bin/python" fleet/tests/scaling.py "$@"
