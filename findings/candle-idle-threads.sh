#!/usr/bin/env bash
# candle-core 0.11.1: threads of its own compute for a while after each operation on the CPU.
#
# Guess: between two element-wise operations a program that sleeps needs no processor time.
# Seen: after an addition of 2^18 floats candle's worker threads spin (25,000 rounds) before they
# sleep. On 2 cores 1000 additions with a pause of 2 ms after each took 0.94 s of processor time, 0.08 s
# with CANDLE_NUM_THREADS=1, which leaves none to spin, and 0.20 s with CANDLE_BARRIER_POOL_SPIN_LIMIT=1,
# with which they sleep at once. In training, where other threads compute between candle's operations, they
# take a core from them.
# What srfilter does: `train` sets CANDLE_NUM_THREADS=1 unless it is set.
#
# Needs Rust, a C compiler, the network for crates and 2 cores or more; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat > "$dir/Cargo.toml" <<'END'
[package]
name = "look"
version = "0.0.0"
edition = "2024"
[dependencies]
candle-core = "=0.11.1"
END
cat > "$dir/src/main.rs" <<'END'
use candle_core::{DType, Device, Tensor};
use std::time::Duration;

/// Hundredths of a second of processor time of this process.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn main() {
    let x = Tensor::zeros(1 << 18, DType::F32, &Device::Cpu).unwrap();
    let before = processor_time();
    for _ in 0..1000 {
        (&x + &x).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("{}", processor_time() - before);
}
END
cargo build --quiet --release --manifest-path "$dir/Cargo.toml" --target-dir "$dir/target"
look() { env "$@" "$dir/target/release/look"; }
plain=$(look RAYON_NUM_THREADS=2)
one=$(look RAYON_NUM_THREADS=2 CANDLE_NUM_THREADS=1)
asleep=$(look RAYON_NUM_THREADS=2 CANDLE_BARRIER_POOL_SPIN_LIMIT=1)
echo "1000 additions, hundredths of a second of processor time: $plain; with one thread $one, without spinning $asleep"
[ "$plain" -gt $((2 * one)) ] && [ "$plain" -gt $((2 * asleep)) ] || {
    echo "this has changed" >&2
    exit 1
}
