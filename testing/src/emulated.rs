//! Runs tests on an emulated GPU: `tests/cuda` compiles the kernels for the CPU
//! and replaces CUDA's libraries. A process loads those only once, so every
//! such test runs in a child process.

use crate::workspace;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set in the process that uses the GPU.
pub const CHILD: &str = "SRFILTER_GPU_TEST_CHILD";

/// The modules of candle's kernels that srfilter uses, and whether their threads
/// synchronise.
const CANDLE: [(&str, bool); 9] = [
    ("affine", false),
    ("binary", false),
    ("cast", false),
    ("conv", false),
    ("fill", false),
    ("indexing", false),
    ("reduce", true),
    ("ternary", false),
    ("unary", false),
];

/// Set if that GPU is emulated.
pub const EMULATED: &str = "SRFILTER_EMULATED";

/// The folder of the libraries that replace CUDA's, compiled once for all test
/// files: its name has the hash of the sources.
fn libraries() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let all = target().join("tmp/emulated-cuda");
        let dir = all.join(format!("{:016x}", hash_of_sources()));
        if dir.exists() {
            return dir;
        }
        // A separate folder for each process: tests may run in parallel.
        let temp = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&temp).unwrap();
        compile_libraries(&temp);
        if std::fs::rename(&temp, &dir).is_err() {
            assert!(dir.exists(), "another process has compiled them");
            std::fs::remove_dir_all(temp).unwrap();
        }
        dir
    })
}

/// The hash of all that the libraries are compiled from, this file included.
fn hash_of_sources() -> u64 {
    let mut hasher = DefaultHasher::new();
    include_str!("emulated.rs").hash(&mut hasher);
    let candle = candle_kernels();
    (&candle, toolkit()).hash(&mut hasher);
    for folder in ["tests/cuda", "src/ops/cuda"] {
        let entries = std::fs::read_dir(workspace().join(folder)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            (file.file_name(), std::fs::read(file).unwrap()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Compiles the libraries into a folder.
fn compile_libraries(dir: &Path) {
    let candle = candle_kernels();
    let objects_dir = dir.join("objects");
    std::fs::create_dir_all(&objects_dir).unwrap();
    let mut objects = vec![objects_dir.join("driver.o")];
    compile(&["-c".into(), source("driver.cpp")], &objects[0]);
    for (module, waits) in CANDLE {
        let object = objects_dir.join(format!("{module}.o"));
        let names = objects_dir.join(format!("{module}.names"));
        let include = format!("-I{}", candle.display());
        let define = format!("-DMODULE=\"{module}.cu\"");
        let of_module = [include, define, source("candle.cpp"), "-w".into()];
        // The preprocessed source names the functions.
        compile(&[&of_module[..], &["-E".into()]].concat(), &names);
        let text = std::fs::read_to_string(&names).unwrap();
        std::fs::write(&names, functions(&text)).unwrap();
        let registers = [
            format!("-DNAMES=\"{}\"", names.display()),
            format!("-DWAITS={waits}"),
            "-c".into(),
            // Compiles in half the time.
            "-O1".into(),
        ];
        compile(&[&of_module[..], &registers[..]].concat(), &object);
        objects.push(object);
    }
    let objects: Vec<String> = objects.iter().map(|o| o.display().to_string()).collect();
    let shared = |of: &[String], library: &str| {
        // candle's modules define the same helpers.
        let options = ["-shared".into(), "-Wl,-z,muldefs".into()];
        compile(&[&options, of].concat(), &dir.join(library));
    };
    shared(&objects, "libcuda.so.1");
    for library in [
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcurand.so.10",
        "libnvcuvid.so.1",
    ] {
        shared(&[source("others.cpp")], library);
    }
    // In a separate folder: cuDNN is optional.
    std::fs::create_dir_all(dir.join("cudnn")).unwrap();
    for part in [
        "",
        "_graph",
        "_ops",
        "_cnn",
        "_heuristic",
        "_engines_precompiled",
        "_engines_runtime_compiled",
    ] {
        let library = format!("cudnn/libcudnn{part}.so.9");
        shared(&[source("others.cpp")], &library);
    }
    std::fs::remove_dir_all(objects_dir).unwrap();
}

/// CUDA's headers.
fn toolkit() -> String {
    std::env::var("CUDA_HOME").unwrap_or_else(|_| "/usr/local/cuda".into())
}

/// Cargo's target folder: tests are `TARGET/PROFILE/deps/TEST`.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).expect("cargo runs it").to_owned()
}

fn source(name: &str) -> String {
    workspace()
        .join("tests/cuda")
        .join(name)
        .display()
        .to_string()
}

/// Runs the host compiler.
fn compile(arguments: &[String], output: &Path) {
    let root = workspace();
    let toolkit = toolkit();
    let status = Command::new("g++")
        .args(["-O2", "-std=c++17", "-fPIC", "-ffp-contract=off"])
        .arg("-DSRFILTER_EMULATED")
        .arg(format!("-I{}", root.join("tests/cuda").display()))
        .arg(format!("-I{}", root.join("src/ops/cuda").display()))
        .args([
            format!("-I{toolkit}/include"),
            format!("-I{toolkit}/include/cccl"),
        ])
        .args(arguments)
        .arg("-o")
        .arg(output)
        .status();
    assert!(status.expect("g++ runs").success());
}

/// Where cargo keeps the sources of candle's kernels.
fn candle_kernels() -> PathBuf {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args([
            "--features",
            "srfilter/cuda",
            "--filter-platform",
            &platform,
        ])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let manifest = text
        .split('"')
        .find(|part| part.contains("/candle-kernels-") && part.ends_with("Cargo.toml"));
    let manifest = manifest.expect("cargo knows candle-kernels");
    Path::new(manifest).parent().unwrap().join("src")
}

/// The kernels of a preprocessed source, one `NAMED(kernel)` a line.
fn functions(preprocessed: &str) -> String {
    let mut names = String::new();
    for rest in preprocessed.split("extern \"C\"").skip(1) {
        let head = rest.split('(').next().unwrap_or_default();
        let words: Vec<_> = head.split_whitespace().collect();
        if let ["void", name] = words[..] {
            names += &format!("NAMED({name})\n");
        }
    }
    names
}

/// Declares tests that run an ignored test of the same file on the emulated GPU
/// with some settings: `name [setting, ...] => other_child;`.
#[macro_export]
macro_rules! emulated {
    ($($(#[$doc:meta])* $name:ident $settings:expr => $child:ident;)+) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            $crate::emulated::run(stringify!($child), &$settings);
        }
    )+};
}

/// The setting for execution only on synchronisation.
pub const LAZY: (&str, &str) = ("SRFILTER_EMULATED_LAZY", "1");

/// The setting for a machine without cuDNN.
pub const NO_CUDNN: (&str, &str) = ("SRFILTER_EMULATED_NO_CUDNN", "1");

/// Runs a test of this file in a child process, on the emulated GPU.
pub fn run(test: &str, settings: &[(&str, &str)]) {
    let mut folders = vec![libraries().to_owned()];
    if !settings.contains(&NO_CUDNN) {
        folders.push(libraries().join("cudnn"));
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(CHILD, "1")
        .env(EMULATED, "1")
        .env("SRFILTER_CUDA_PATH", std::env::join_paths(folders).unwrap())
        // For GStreamer, which loads the driver itself.
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
