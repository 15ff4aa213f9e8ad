//! Finding the libraries, with libraries made for the purpose: each case runs
//! in a child process, for they are looked for once.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::ffi::c_int;
use std::path::Path;
use std::process::Command;

/// Set where this process is the one that looks.
const LOOKS: &str = "SRFILTER_CUDA_TEST_LOOKS";

/// A driver that works, supports CUDA 13.1, and knows seven GPUs.
const DRIVER: &str = "
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13010; return 0; }
int cuDeviceGetCount(int *count) { *count = 7; return 0; }
";

unsafe extern "C" {
    fn cuDeviceGetCount(count: *mut c_int) -> c_int;
}

/// What candle would get of the driver.
fn count() -> (c_int, c_int) {
    let mut count = 0;
    // SAFETY: the signature is that of cuda.h.
    let code = unsafe { cuDeviceGetCount(&raw mut count) };
    (code, count)
}

#[test]
#[ignore = "run by the other tests, in a child process"]
fn looks() {
    assert!(std::env::var_os(LOOKS).is_some());
    let before = count();
    let loaded = srfilter_cuda::load();
    assert_eq!(srfilter_cuda::load(), loaded);
    #[cfg(feature = "cudnn")]
    match srfilter_cuda::cudnn() {
        Ok(()) => println!("cuDNN is there"),
        Err(error) => println!("without: {error}"),
    }
    match loaded {
        Ok(()) => println!("loaded, {before:?} then {:?}", count()),
        Err(error) => println!("error: {error}, {before:?} then {:?}", count()),
    }
}

/// Makes libraries of C code and says what looking for them came to.
fn look(libraries: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (file, code) in libraries {
        let source = dir.path().join("library.c");
        std::fs::write(&source, code).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]);
        let made = compiler.arg(dir.path().join(file)).arg(&source).status();
        assert!(made.unwrap().success());
    }
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "looks", "--ignored", "--nocapture"])
        .env(LOOKS, "1")
        .env(srfilter_cuda::PATH_VARIABLE, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

fn is_there(library: &str) -> bool {
    let mut folders = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"].iter();
    folders.any(|folder| Path::new(folder).join(library).exists())
}

#[test]
fn a_machine_without_a_driver_hears_what_to_do() {
    if is_there("libcuda.so.1") {
        eprintln!("skipped: there is a driver");
        return;
    }
    let said = look(&[]);
    for part in [
        "error: NVIDIA's driver (libcuda.so.1) is missing",
        "cannot open shared object file",
        "name its folder in SRFILTER_CUDA_PATH",
        // CUDA_ERROR_NO_DEVICE from first to last.
        "(100, 0) then (100, 0)",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_driver_that_fails_every_call_is_an_error_in_words() {
    let said = look(&[(
        "libcuda.so.1",
        "int cuInit(unsigned f) { return 999; } int cuDriverGetVersion(int *v) { return 999; }",
    )]);
    let expected = "error: NVIDIA's driver is there but does not work (cuInit: error 999)";
    assert!(said.contains(expected), "{said}");
    let describes = "
int cuInit(unsigned flags) { return 999; }
int cuDriverGetVersion(int *version) { return 999; }
int cuGetErrorString(int code, const char **text) { *text = \"unknown error\"; return 0; }
";
    let said = look(&[("libcuda.so.1", describes)]);
    assert!(
        said.contains("(cuInit: error 999, unknown error)"),
        "{said}"
    );
}

#[test]
fn a_driver_that_is_too_old_hears_which_it_takes() {
    let old = DRIVER.replace("13010", "12040");
    let said = look(&[("libcuda.so.1", &old)]);
    let expected = "supports CUDA 12.4, CUDA 13.0 is needed: install driver 580 or later";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn something_else_of_that_name_is_called_broken() {
    let said = look(&[("libcuda.so.1", "int nothing;")]);
    assert!(said.contains("has no function cuInit"), "{said}");
}

#[test]
fn a_driver_alone_is_not_enough_and_changes_nothing() {
    if is_there("libcublas.so.13") {
        eprintln!("skipped: there is a cuBLAS");
        return;
    }
    let said = look(&[("libcuda.so.1", DRIVER)]);
    assert!(
        said.contains("error: cuBLAS (libcublas.so.13) is missing"),
        "{said}"
    );
    assert!(said.contains("(100, 0) then (100, 0)"), "{said}");
}

#[test]
fn calls_reach_the_libraries_once_all_are_found() {
    let empty = "int nothing;";
    let mut libraries = vec![
        ("libcuda.so.1", DRIVER),
        ("libcublas.so.13", empty),
        ("libcublasLt.so.13", empty),
        ("libcurand.so.10", empty),
    ];
    let said = look(&libraries);
    assert!(said.contains("loaded, (100, 0) then (0, 7)"), "{said}");
    if !cfg!(feature = "cudnn") {
        return;
    }
    // What is there without cuDNN is there, and what is missing is said.
    libraries.push((
        "libcudnn.so.9",
        "long cudnnGetCudartVersion(void) { return 13000; }",
    ));
    for part in [
        "graph",
        "ops",
        "cnn",
        "heuristic",
        "engines_precompiled",
        "engines_runtime_compiled",
    ] {
        let file = format!("libcudnn_{part}.so.9");
        let said = look(&libraries);
        let missing = format!("without: cuDNN's part {file} is missing");
        assert!(is_there(&file) || said.contains(&missing), "{said}");
        libraries.push((file.leak(), empty));
    }
    assert!(look(&libraries).contains("cuDNN is there"));
    for (library, code) in &mut libraries {
        if *library == "libcudnn.so.9" {
            *code = "long cudnnGetCudartVersion(void) { return 12090; }";
        }
    }
    let said = look(&libraries);
    let old = "the one that is there is for CUDA 12";
    assert!(said.contains(old), "{said}");
}
