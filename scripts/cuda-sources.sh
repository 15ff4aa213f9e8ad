#!/usr/bin/env bash
# Prints a hash of the GPU code, of what calls it, of its tests (not those of the CPU's units),
# and of the crates that they are built with. .ci/run compares it with tests/cuda/passed, which scripts/cuda-test.sh writes.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
crates() {
    cargo tree --locked --prefix none --edges normal,build,dev \
        -p srfilter -p gst-plugin-srfilter -p srfilter-train | awk '{ print $1, $2 }' | LC_ALL=C sort -u
}
files() {
    find cuda src/chain src/engine src/ops tests/cuda \
        plugin/src/srfilter/{cuda,allocation,host_memory,pipelining}.rs \
        testing/src/emulated.rs tests/{gpu,cuda_memory,golden}.rs plugin/tests/{host_memory,overlap}.rs \
        train/tests/{golden,on_gpu}.rs -type f ! -path tests/cuda/passed ! -name '*tests.rs' -print0 \
        | LC_ALL=C sort -z | xargs -0 sha256sum
}
{
    crates
    files
} | sha256sum | cut -d' ' -f1
