//! Compiles the kernels of src/ops/cuda to PTX with the feature `cuda`.

use std::path::PathBuf;
use std::process::Command;

/// The oldest supported GPUs (Ampere); the driver compiles the PTX for later ones.
const ARCHITECTURE: &str = "-arch=compute_80";

fn main() {
    println!("cargo:rerun-if-changed=src/ops/cuda");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    let nvcc = home.map_or_else(|| "nvcc".into(), |home| home.join("bin/nvcc"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut command = Command::new(&nvcc);
    command
        .args(["--ptx", ARCHITECTURE, "-O3", "-std=c++17", "-o"])
        .arg(out.join("kernels.ptx"))
        .arg("src/ops/cuda/kernels.cu");
    let remedy =
        "scripts/cuda-toolkit.sh assembles CUDA's compiler: then . target/cuda-toolkit/env.sh";
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?}: {status}; {remedy}"),
        Err(error) => panic!("{}: {error}; {remedy}", nvcc.display()),
    }
}
