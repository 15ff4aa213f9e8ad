#!/usr/bin/env bash
# The tests of srfilter_fleet, on a Ray cluster of this machine: three minutes. Ray comes from PyPI.
# `scripts/fleet-test.sh -k folder` runs some of them.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh python3-venv iproute2 gstreamer1.0-plugins-ugly
[ -x "${SR:=${CARGO_TARGET_DIR:-target}/release/sr}" ] || scripts/build.sh
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet ray==2.60.0 pytest==8.4.2 psutil==7.1.3
SR=$(realpath "$SR") "$venv/bin/python" -m pytest -p no:cacheprovider --quiet fleet/tests "$@"
