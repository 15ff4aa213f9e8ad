//! Runs tests on a GPU, or on what `tests/cuda` makes of the CPU.
#![allow(dead_code)] // Not every test uses all of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set where this process is the one that uses the GPU.
pub(crate) const INSIDE: &str = "SRFILTER_GPU_TEST_INSIDE";

/// The libraries that a GPU's are stood in for by, made once.
fn libraries() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated-cuda");
        std::fs::create_dir_all(&dir).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let make = |source: &str, library: &str| {
            // Under a name of its own first: tests run side by side.
            let made = dir.join(format!("{library}.{}", std::process::id()));
            let status = Command::new("g++")
                .args(["-O2", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off"])
                .arg("-DSRFILTER_EMULATED")
                .arg(format!("-I{}", root.join("tests/cuda").display()))
                .arg(format!("-I{}", root.join("src/ops/cuda").display()))
                .arg(root.join("tests/cuda").join(source))
                .arg("-o")
                .arg(&made)
                .status();
            assert!(status.expect("g++ runs").success());
            std::fs::rename(made, dir.join(library)).unwrap();
        };
        make("driver.cpp", "libcuda.so.1");
        for library in [
            "libcublas.so.13",
            "libcublasLt.so.13",
            "libcurand.so.10",
            "libnvcuvid.so.1",
        ] {
            make("others.cpp", library);
        }
        dir
    })
}

/// Runs a test of this file in a process of its own, on the emulated GPU.
pub(crate) fn run(test: &str, settings: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .env("SRFILTER_CUDA_PATH", libraries())
        // For GStreamer, which looks for the driver itself.
        .env("LD_LIBRARY_PATH", libraries())
        .env("GST_REGISTRY", libraries().join("registry.bin"))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    print!("{said}");
}
