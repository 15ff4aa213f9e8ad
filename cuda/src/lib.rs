//! CUDA's libraries, found when the program runs instead of when it loads.
//!
//! candle's CUDA support is linked against libcuda, libcublas and libcurand,
//! cuDNN's bindings (feature `cudnn`) against libcudnn: a program or plugin
//! built with them does not even load on a machine without. This crate *defines* every function of
//! those libraries that candle can reach, each one as a jump through a slot,
//! so that the linker, which is told to drop libraries that nothing needs,
//! drops them all. Until [`load`] has found the real libraries, every slot
//! holds a function that does nothing but return `CUDA_ERROR_NO_DEVICE`.
//!
//! [`load`] must have succeeded before anything of candle's CUDA backend is
//! called.
//!
//! Linux on x86-64 and AArch64; elsewhere the crate is empty.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

mod stubs;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;
use stubs::{Origin, STUBS};

/// The environment variable that names further folders to look in, separated
/// as in `PATH`.
pub const PATH_VARIABLE: &str = "SRFILTER_CUDA_PATH";

/// The version of CUDA that kernels are compiled for: what the driver must
/// support, as `cuDriverGetVersion` says it.
const VERSION: c_int = 13_000;

/// The first driver that supports it.
const DRIVER: &str = "580";

/// Why CUDA cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library that is not there.
    #[error("{what} is missing ({problem}): install it, or name its folder in {PATH_VARIABLE}")]
    Missing {
        /// The library, in words.
        what: &'static str,
        /// What the system says.
        problem: String,
    },
    /// A library without a function that every version of it has.
    #[error("{what} has no function {function}: it is broken, install it again")]
    Broken {
        /// The library, in words.
        what: &'static str,
        /// The function.
        function: &'static str,
    },
    /// A driver that does not work.
    #[error("NVIDIA's driver is there but does not work ({function}: {problem})")]
    Driver {
        /// What was called.
        function: &'static str,
        /// What came back, in words.
        problem: String,
    },
    /// A driver that is too old.
    #[error(
        "NVIDIA's driver supports CUDA {}.{}, CUDA {}.{} is needed: install driver {DRIVER} or \
         later",
        .found / 1000, .found % 1000 / 10, VERSION / 1000, VERSION % 1000 / 10
    )]
    Old {
        /// What `cuDriverGetVersion` says.
        found: c_int,
    },
}

/// A library and its file.
struct Wanted {
    origin: Origin,
    what: &'static str,
    file: &'static str,
}

const NEEDED: [Wanted; 4] = [
    Wanted {
        origin: Origin::Cuda,
        what: "NVIDIA's driver (libcuda.so.1)",
        file: "libcuda.so.1",
    },
    Wanted {
        origin: Origin::Cublas,
        what: "cuBLAS (libcublas.so.13)",
        file: "libcublas.so.13",
    },
    Wanted {
        origin: Origin::CublasLt,
        what: "cuBLAS (libcublasLt.so.13)",
        file: "libcublasLt.so.13",
    },
    Wanted {
        origin: Origin::Curand,
        what: "cuRAND (libcurand.so.10)",
        file: "libcurand.so.10",
    },
];

/// cuDNN, after its parts: it looks for those when it is called, and ends the
/// process where one is missing.
#[cfg(feature = "cudnn")]
const CUDNN: [Wanted; 7] = {
    const fn part(what: &'static str, file: &'static str) -> Wanted {
        Wanted {
            origin: Origin::Cudnn,
            what,
            file,
        }
    }
    [
        part("cuDNN's part libcudnn_graph.so.9", "libcudnn_graph.so.9"),
        part("cuDNN's part libcudnn_ops.so.9", "libcudnn_ops.so.9"),
        part("cuDNN's part libcudnn_cnn.so.9", "libcudnn_cnn.so.9"),
        part(
            "cuDNN's part libcudnn_heuristic.so.9",
            "libcudnn_heuristic.so.9",
        ),
        part(
            "cuDNN's part libcudnn_engines_precompiled.so.9",
            "libcudnn_engines_precompiled.so.9",
        ),
        part(
            "cuDNN's part libcudnn_engines_runtime_compiled.so.9",
            "libcudnn_engines_runtime_compiled.so.9",
        ),
        part("cuDNN (libcudnn.so.9)", "libcudnn.so.9"),
    ]
};

/// Finds the libraries, once, and sees to it that the driver works.
///
/// # Errors
///
/// What is missing, broken or too old. Nothing was changed then.
pub fn load() -> Result<(), Error> {
    static LOADED: OnceLock<Result<(), Error>> = OnceLock::new();
    LOADED.get_or_init(load_once).clone()
}

fn load_once() -> Result<(), Error> {
    let mut found = Vec::new();
    for wanted in &NEEDED {
        let library = open(wanted)?;
        if wanted.origin == Origin::Cuda {
            check_driver(&library, wanted.what)?;
        }
        found.push((wanted.origin, library));
    }
    // All or nothing: with half of the slots filled, candle would believe in a
    // device and take the other half's answer for one of another kind.
    for (origin, library) in found {
        fill(origin, library);
    }
    Ok(())
}

/// Lets the slots of a library's functions point into it.
fn fill(origin: Origin, library: Library) {
    for stub in STUBS.iter().filter(|stub| stub.origin == origin) {
        // SAFETY: the symbol is only looked up; what it is called with is
        // what candle would call the library with, had it been linked.
        let symbol = unsafe { library.get::<*mut ()>(stub.name.as_bytes()) };
        // A function that only newer versions have keeps its stand-in.
        if let Ok(symbol) = symbol {
            stub.fill(symbol.as_raw_ptr());
        }
    }
    // It stays for good.
    std::mem::forget(library);
}

/// Finds cuDNN, once, after [`load`]. Nothing of it may be called before.
///
/// # Errors
///
/// As [`load`].
#[cfg(feature = "cudnn")]
pub fn cudnn() -> Result<(), Error> {
    static FOUND: OnceLock<Result<(), Error>> = OnceLock::new();
    let find = || {
        load()?;
        let [parts @ .., whole] = &CUDNN;
        for part in parts {
            // They stay for good as well.
            std::mem::forget(open(part)?);
        }
        let library = open(whole)?;
        let broken = |function| Error::Broken {
            what: whole.what,
            function,
        };
        // SAFETY: the signature is that of cudnn_version.h.
        let version =
            unsafe { library.get::<unsafe extern "C" fn() -> usize>(b"cudnnGetCudartVersion") };
        let version = version.map_err(|_| broken("cudnnGetCudartVersion"))?;
        // SAFETY: the signature is that of cudnn_version.h; it takes nothing.
        let found = unsafe { version() };
        if found / 1000 != VERSION as usize / 1000 {
            return Err(Error::Missing {
                what: whole.what,
                problem: format!("the one that is there is for CUDA {}", found / 1000),
            });
        }
        fill(whole.origin, library);
        Ok(())
    };
    FOUND.get_or_init(find).clone()
}

/// Opens a library from the folders of [`PATH_VARIABLE`], else from where the
/// system looks.
fn open(wanted: &Wanted) -> Result<Library, Error> {
    let folders = std::env::var_os(PATH_VARIABLE).unwrap_or_default();
    let folders = std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty());
    let in_folders = folders.map(|folder| folder.join(wanted.file));
    let mut problem = String::new();
    for path in in_folders.chain([wanted.file.into()]) {
        // SAFETY: NVIDIA's libraries run nothing when they are loaded that
        // they would not if they had been linked.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => return Ok(library),
            // What the system says is beneath.
            Err(error) => problem = error.source().unwrap_or(&error).to_string(),
        }
    }
    Err(Error::Missing {
        what: wanted.what,
        problem,
    })
}

/// Whether the driver works and is new enough.
fn check_driver(library: &Library, what: &'static str) -> Result<(), Error> {
    let function = |function: &'static str| Error::Broken { what, function };
    // SAFETY: the signatures are those of cuda.h.
    let (init, version) = unsafe {
        (
            library.get::<unsafe extern "C" fn(u32) -> c_int>(b"cuInit"),
            library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cuDriverGetVersion"),
        )
    };
    let init = init.map_err(|_| function("cuInit"))?;
    let version = version.map_err(|_| function("cuDriverGetVersion"))?;
    let check = |name, code| match code {
        0 => Ok(()),
        code => Err(Error::Driver {
            function: name,
            problem: in_words(library, code),
        }),
    };
    // SAFETY: no flags are defined: the argument must be 0, and is.
    check("cuInit", unsafe { init(0) })?;
    let mut found = 0;
    // SAFETY: the pointer is to a number that lives through the call.
    check("cuDriverGetVersion", unsafe { version(&raw mut found) })?;
    match found {
        VERSION.. => Ok(()),
        found => Err(Error::Old { found }),
    }
}

/// What the driver says of one of its errors.
fn in_words(library: &Library, code: c_int) -> String {
    type Describe = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
    let mut text = std::ptr::null();
    // SAFETY: the signature is that of cuda.h.
    if let Ok(describe) = unsafe { library.get::<Describe>(b"cuGetErrorString") } {
        // SAFETY: it writes a pointer to a text of its own, or null.
        unsafe { describe(code, &raw mut text) };
    }
    if text.is_null() {
        return format!("error {code}");
    }
    // SAFETY: it is not null, so a text that ends with a zero and stays.
    let text = unsafe { CStr::from_ptr(text) };
    format!("error {code}, {}", text.to_string_lossy())
}
