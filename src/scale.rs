//! The upscaling factor, as an exact fraction.

use crate::{Error, Result};
use std::{cmp::Ordering, fmt, str::FromStr};

/// The factor of width and height: a positive fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scale {
    num: u32,
    den: u32,
}

impl Scale {
    /// The factor 1.
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// The largest supported factor.
    pub const MAX: Self = Self { num: 16, den: 1 };

    /// The fraction `num / den`.
    ///
    /// # Errors
    ///
    /// `num` or `den` is zero.
    pub fn new(num: u32, den: u32) -> Result<Self> {
        if num == 0 || den == 0 {
            return Err(Error::Setting(format!(
                "{num}/{den} is no scale: both numbers must be at least 1"
            )));
        }
        let gcd = gcd(num, den);
        Ok(Self {
            num: num / gcd,
            den: den / gcd,
        })
    }

    /// An integer factor; zero counts as one.
    pub const fn whole(num: u32) -> Self {
        Self {
            num: if num == 0 { 1 } else { num },
            den: 1,
        }
    }

    /// Numerator of the reduced fraction.
    pub const fn num(self) -> u32 {
        self.num
    }

    /// Denominator of the reduced fraction.
    pub const fn den(self) -> u32 {
        self.den
    }

    /// The factor as a floating-point number.
    pub fn factor(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// A length in pixels times this factor, rounded to nearest, at least 1.
    pub fn apply(self, length: usize) -> usize {
        let (num, den) = (u128::from(self.num), u128::from(self.den));
        let scaled = (length as u128 * num + den / 2) / den;
        usize::try_from(scaled).unwrap_or(usize::MAX).max(1)
    }

    /// The product of two factors, or `None` on overflow.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let num = u64::from(self.num) * u64::from(other.num);
        let den = u64::from(self.den) * u64::from(other.den);
        let gcd = gcd(num, den);
        Some(Self {
            num: u32::try_from(num / gcd).ok()?,
            den: u32::try_from(den / gcd).ok()?,
        })
    }
}

impl TryFrom<u32> for Scale {
    type Error = Error;

    /// An integer factor.
    fn try_from(factor: u32) -> Result<Self> {
        Self::new(factor, 1)
    }
}

impl Ord for Scale {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u64::from(self.num) * u64::from(other.den);
        let right = u64::from(other.num) * u64::from(self.den);
        left.cmp(&right)
    }
}

impl PartialOrd for Scale {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 {
            write!(f, "{}", self.num)
        } else {
            write!(f, "{}/{}", self.num, self.den)
        }
    }
}

impl FromStr for Scale {
    type Err = Error;

    /// Reads `2`, `3/2` or `1.5`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::Setting(format!(
                "'{text}' is no scale: write 2, 3/2 or 1.5 (at most {})",
                Self::MAX
            ))
        };
        let (num, den) = if let Some((num, den)) = text.split_once('/') {
            (parse(num).ok_or_else(bad)?, parse(den).ok_or_else(bad)?)
        } else if let Some((whole, decimals)) = text.split_once('.') {
            let den = 10u32
                .checked_pow(u32::try_from(decimals.len()).map_err(|_| bad())?)
                .ok_or_else(bad)?;
            (parse(&format!("{whole}{decimals}")).ok_or_else(bad)?, den)
        } else {
            (parse(text).ok_or_else(bad)?, 1)
        };
        let scale = Self::new(num, den).map_err(|_| bad())?;
        if scale > Self::MAX {
            return Err(bad());
        }
        Ok(scale)
    }
}

impl serde::Serialize for Scale {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Scale {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Scale;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scale such as 2, 2.5 or \"3/2\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scale, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Scale, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scale, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scale, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Decimal digits only: no sign, no space.
fn parse(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn gcd<T: Copy + PartialEq + Default + std::ops::Rem<Output = T>>(mut a: T, mut b: T) -> T {
    while b != T::default() {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, shown) in [
            ("2", "2"),
            ("3/2", "3/2"),
            ("6/4", "3/2"),
            ("1.5", "3/2"),
            ("2.25", "9/4"),
            ("16", "16"),
        ] {
            assert_eq!(text.parse::<Scale>().unwrap().to_string(), shown);
        }
        for text in [
            "", "0", "2/0", "-2", "x2", "17", "1e1", "+2", "2.", "1/", "2.5/2",
        ] {
            let scale = text.parse::<Scale>();
            match text {
                "2." => assert_eq!(scale.unwrap(), Scale::whole(2)),
                _ => assert!(scale.unwrap_err().to_string().contains("is no scale")),
            }
        }
    }

    #[test]
    fn applies_with_rounding() {
        let scale = Scale::new(3, 2).unwrap();
        assert_eq!(scale.apply(321), 482);
        assert_eq!(scale.apply(1), 2);
        assert_eq!(Scale::new(1, 8).unwrap().apply(1), 1);
        assert_eq!(scale.checked_mul(Scale::whole(2)), Some(Scale::whole(3)));
    }
}
