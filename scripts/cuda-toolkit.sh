#!/usr/bin/env bash
# Assembles what a build with the feature `cuda` needs, from NVIDIA's Python
# wheels: compiler, headers, and stubs for the linker. Needs no GPU, driver or
# root; about 300 MB. Does nothing if it is complete.
#
#   scripts/cuda-toolkit.sh [FOLDER]      default: target/cuda-toolkit
#   . FOLDER/env.sh
#   cargo build --release --features cuda
#
# The folder must not be moved afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/cuda-toolkit}")
# Versions that belong together: CUDA 13.0, update 2.
wheels=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85
)
stamp="${wheels[*]}"
if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

for tool in python3 g++ gcc; do
    command -v "$tool" >/dev/null || { echo "$tool is needed: apt-get install python3-venv g++" >&2; exit 1; }
done
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python's venv is needed: apt-get install python3-venv" >&2
    exit 1
fi

rm -rf "$folder"
mkdir -p "$folder"
python3 -m venv "$folder/python"
# --no-deps: the compiler needs none of the libraries that the wheels ask for.
"$folder/python/bin/pip" install -q --disable-pip-version-check --no-deps "${wheels[@]}"
site=$("$folder/python/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cuda=$site/nvidia/cu13
for part in bin nvvm include; do
    ln -s "$cuda/$part" "$folder/$part"
done

# The linker needs a file for every library on its command line. They are
# empty: srfilter-cuda defines their functions and loads the real libraries at
# run time (cuda/src/lib.rs).
stubs=$folder/lib64
mkdir -p "$stubs"
ln -s lib64 "$folder/lib"
for library in cuda cublas cublasLt curand cudnn nvrtc; do
    gcc -shared -x c /dev/null -o "$stubs/lib$library.so" -Wl,-soname,"lib$library-stub.so"
done
# candle's kernels link the CUDA runtime dynamically: here it is the static
# archive, so that the binaries load without it.
ln -s "$cuda/lib/libcudart_static.a" "$stubs/libcudart.a"

cat > "$folder/env.sh" <<ENV
export CUDA_HOME='$folder' CUDA_PATH='$folder' PATH='$folder/bin':"\$PATH"
# PTX for this one runs on every later GPU too, compiled by the driver when it
# is first used; that for 90 would run on 9.0 alone.
export CUDA_COMPUTE_CAP=80
# The bindings to take: CUDA 13.0.
export CUDARC_CUDA_VERSION=13000
export CUDAFORGE_THREADS="\${CUDAFORGE_THREADS:-\$(nproc)}"
ENV
echo "$stamp" > "$folder/stamp"
"$folder/bin/nvcc" --version | tail -n 2 | head -n 1
