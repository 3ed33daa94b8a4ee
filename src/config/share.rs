//! A share of a whole.

use std::{fmt, str::FromStr};

/// The steps between nothing and everything: shares have up to six decimal places.
const WHOLE: u32 = 1_000_000;

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);

    /// Whether the share contains an element with a random number. Nothing and everything need none.
    pub(crate) fn takes(self, random: impl FnOnce() -> u32) -> bool {
        match self.0 {
            0 => false,
            WHOLE => true,
            share => (u64::from(random()) * u64::from(WHOLE)) >> 32 < u64::from(share),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let number = text.parse().ok().filter(|number: &f64| (0.0..=1.0).contains(number));
        let number = number.ok_or("expected a number from 0 to 1")?;
        Ok(Share((number * f64::from(WHOLE)).round() as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // TOML distinguishes integers from other numbers.
        write!(f, "{:?}", f64::from(self.0) / f64::from(WHOLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        for (text, shown) in [("0", "0.0"), ("0.01", "0.01"), ("1", "1.0"), ("1e-3", "0.001"), (".5", "0.5")]
        {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), shown);
        }
        for text in ["", "-0.1", "1.1", "NaN", "inf", "1%", "a"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
