#!/usr/bin/env bash
# Builds the Python wheel into target/wheels, for Python 3.10 and later and the C library of this
# system or later.
#
# scripts/wheel.sh try: also installs it in a new environment, runs its tests there against `sr`,
# and prints its size, the time of the import, and the time of a frame of 1920x1080 beside that of
# the engine (benches/python).
set -euo pipefail
cd "$(dirname "$0")/.."
maturin=1.16.0 numpy=2.4.6
export PATH=$PATH:$HOME/.cargo/bin
unset CARGO_TARGET_DIR
scripts/setup.sh python3-venv
tools=target/tools/wheel
if [ "$("$tools/bin/maturin" --version 2>/dev/null)" != "maturin $maturin" ]; then
    python3 -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check maturin==$maturin
fi
rm -f target/wheels/srfilter-*.whl
. scripts/dist-env.sh
scripts/licences.sh
scripts/sbom.sh
cp LICENSE-* python/
cp target/licences.txt python/LICENSE-crates.txt
"$tools/bin/maturin" build --quiet --locked --compression-level 9 --manifest-path python/Cargo.toml \
    --sbom-include "$PWD/target/sbom/srfilter-python.cdx.json" --out target/wheels
wheel=$(ls target/wheels/srfilter-*.whl)
echo "$wheel: $(du --apparent-size -h "$wheel" | cut -f1)"
[ "${1:-}" = try ] || exit 0

[ "$(stat -c %s "$wheel")" -lt 12000000 ] || { echo "the wheel has 12 MB or more" >&2; exit 1; }
# The commands and the bench as they are built otherwise.
unset RUSTFLAGS CFLAGS
scripts/build.sh --bins
worker=$(cargo build --release --bench python --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"python".*"executable":"\([^"]*\)".*/\1/p')
clean=target/tools/wheel-try
rm -rf "$clean"
python3 -m venv "$clean"
"$clean/bin/pip" install --quiet --disable-pip-version-check "$wheel" numpy==$numpy
SR=$PWD/target/release/sr "$clean/bin/python" python/tests/test_srfilter.py
"$clean/bin/python" benches/python/bench.py "$worker"
