#!/usr/bin/env bash
# Builds what a bare machine with a GPU needs to run scripts/gpu-check: the
# plugin, `sr`, `train`, the tests of the kernels, and a GStreamer to run them
# in. Needs no GPU. Writes target/gpu-bundle.tar.xz; there:
#
#   tar xf gpu-bundle.tar.xz && gpu-bundle/gpu-check
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:$HOME/.cargo/bin
scripts/setup.sh g++ python3-venv xz-utils

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/cuda-toolkit.sh "$target/cuda-toolkit"
. "$target/cuda-toolkit/env.sh"
# A folder of its own: candle is compiled with other features.
export CARGO_TARGET_DIR=$target/cuda
features=srfilter/cudnn,gst-plugin-srfilter/cuda,srfilter-cli/cuda,srfilter-train/cuda
cargo build --release --workspace --features "$features"
# The test binaries, by source file.
tests=$(cargo test --release --workspace --features "$features" --test gpu --test golden \
    --test cuda_memory --test on_gpu --no-run --message-format json | python3 -c '
import json, sys
for line in map(json.loads, sys.stdin):
    if line.get("executable"):
        print(line["target"]["src_path"], line["executable"])')

bundle=$target/gpu-bundle
rm -rf "$bundle"
mkdir -p "$bundle"/{bin,plugins,lib}
cp "$CARGO_TARGET_DIR"/release/{sr,train} "$bundle/bin/"
for test in tests/{gpu,golden,cuda_memory} train/tests/{golden,on_gpu}; do
    name=$(tr -d / <<<"${test/tests/}")
    cp "$(grep "^$PWD/$test.rs " <<<"$tests" | cut -d' ' -f2)" "$bundle/bin/$name-test"
done
cp -r "${SRFILTER_GOLDEN:-tests/golden}" "$bundle/golden"
cp "$CARGO_TARGET_DIR/release/libgstsrfilter.so" "$bundle/plugins/"
strip "$bundle"/bin/* "$bundle"/plugins/*
cp "$(command -v gst-launch-1.0)" "$bundle/bin/"
installed=$(pkg-config --variable=pluginsdir gstreamer-1.0)
for plugin in coreelements videotestsrc videoconvertscale app nvcodec; do
    cp "$installed/libgst$plugin.so" "$bundle/plugins/"
done
# Every library that they need, except those of any Linux.
ldd "$bundle"/bin/* "$bundle"/plugins/* | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
    grep -vE '/(ld-linux|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+)[-.]' |
    while read -r library; do cp -L "$library" "$bundle/lib/"; done
cp scripts/gpu-check "$bundle/"
git describe --always --dirty >"$bundle/commit" 2>/dev/null || echo unknown >"$bundle/commit"

archive=$target/gpu-bundle.tar.xz
# All binaries contain the kernels: a window that spans them stores these once.
tar -C "$target" -c gpu-bundle | xz -T1 --lzma2=preset=6,dict=192MiB >"$archive"
size=$(($(stat -c %s "$archive") >> 20))
echo "$archive: $size MiB"
[ "$size" -le 40 ] || { echo "the bundle is larger than 40 MiB" >&2; exit 1; }
