//! Where the computation runs.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The device that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if this build has support for one and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// That GPU and no other device.
    Cuda(usize),
}

impl DeviceChoice {
    /// The name of the device that serves this choice.
    ///
    /// # Errors
    ///
    /// A device that this build cannot use.
    pub fn resolve(self) -> Result<&'static str> {
        match self {
            Self::Auto | Self::Cpu => Ok("cpu"),
            Self::Cuda(_) => Err(Error::Setting(format!(
                "device {self} was asked for, but this build of srfilter has no CUDA support: \
                 use device=auto or device=cpu"
            ))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let index = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => index(text).map(Self::Cuda).ok_or_else(|| {
                let problem = format!("there is no device '{text}': use auto, cpu, cuda or cuda:N");
                Error::Setting(problem)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
        assert_eq!(DeviceChoice::Auto.resolve().unwrap(), "cpu");
        let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
        assert!(error.contains("device=cpu"), "{error}");
    }
}
