//! The instruction set that the kernels use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable that forces a [`Level`].
pub const LEVEL_VARIABLE: &str = "SRFILTER_CPU";

/// An instruction set with its own kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Portable Rust: slow, runs everywhere and defines the results.
    Plain,
    /// 256-bit vectors of x86-64, with fused multiply-add.
    Avx2,
    /// 512-bit vectors of x86-64, and 32 registers of 256 bits.
    Avx512,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
}

/// The requested level is unknown, or not available on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no CPU level `{requested}` on this machine; valid: {}", names(&Level::available()))]
pub struct UnknownLevel {
    requested: String,
}

impl Level {
    /// Every level, the slowest first.
    const ALL: [Self; 4] = [Self::Plain, Self::Neon, Self::Avx2, Self::Avx512];

    /// The levels that this machine can run, the slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|level| level.is_available())
            .collect()
    }

    /// Whether this machine can run the level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// The name in [`LEVEL_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The level itself, or an error if this machine cannot run it.
    pub(crate) fn checked(self) -> Result<Self, UnknownLevel> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(UnknownLevel {
                requested: self.name().to_owned(),
            })
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Reads the name of a level that this machine can run.
    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        Self::available()
            .into_iter()
            .find(|level| level.name() == name)
            .ok_or_else(|| UnknownLevel {
                requested: name.to_owned(),
            })
    }
}

/// The level that the process runs on: the one that [`LEVEL_VARIABLE`] names,
/// else the fastest one of this machine. Decided at the first call.
///
/// # Errors
///
/// If the variable holds anything but the name of an available level.
pub fn level() -> Result<Level, UnknownLevel> {
    static LEVEL: OnceLock<Result<Level, UnknownLevel>> = OnceLock::new();
    LEVEL
        .get_or_init(|| choose(std::env::var_os(LEVEL_VARIABLE).as_deref()))
        .clone()
}

fn choose(requested: Option<&std::ffi::OsStr>) -> Result<Level, UnknownLevel> {
    match requested {
        Some(name) => name.to_string_lossy().parse(),
        None => Ok(Level::available().pop().unwrap_or(Level::Plain)),
    }
}

fn names(levels: &[Level]) -> String {
    levels
        .iter()
        .map(|level| level.name())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_level_is_chosen() {
        let best = *Level::available().last().unwrap();
        assert_eq!(choose(None).unwrap(), best);
    }

    #[test]
    fn a_named_level_is_obeyed() {
        for level in Level::available() {
            assert_eq!(choose(Some(level.name().as_ref())).unwrap(), level);
        }
    }

    #[test]
    fn a_wrong_name_is_an_error_that_lists_the_right_ones() {
        let foreign = if cfg!(target_arch = "x86_64") {
            "neon"
        } else {
            "avx2"
        };
        for name in ["", "AVX2", "sse", foreign] {
            let message = choose(Some(name.as_ref())).unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
            assert!(message.contains("plain"), "{message}");
        }
    }
}
