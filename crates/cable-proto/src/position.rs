//! The text form of positions, and the conversions between positions, revisions and freshness.

use std::{error::Error, fmt, str::FromStr};

use crate::{
    number,
    v1::{Freshness, Position},
};

/// The error of a text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsePositionError(());

impl fmt::Display for ParsePositionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a position such as fe49a3a5:7190:{chain in hex}")
    }
}

impl Error for ParsePositionError {}

/// Writes the text of a position: `{log id}:{revision}:{chain in hex}`. Unset parts at either end are omitted.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.log_id.is_empty() {
            write!(f, "{}:", self.log_id)?;
        }
        write!(f, "{}", self.revision)?;
        if !self.chain.is_empty() {
            f.write_str(":")?;
        }
        self.chain.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    /// Parses the text of a position.
    fn from_str(text: &str) -> Result<Position, ParsePositionError> {
        parse(text).ok_or(ParsePositionError(()))
    }
}

fn parse(text: &str) -> Option<Position> {
    let parts: Vec<&str> = text.split(':').collect();
    let (log_id, revision, chain) = match parts[..] {
        [revision] => ("", revision, ""),
        [log_id, revision] => (log_id, revision, ""),
        [log_id, revision, chain] if !chain.is_empty() => (log_id, revision, chain),
        _ => return None,
    };
    let is_log_id = log_id.len() == 8 && log_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() > 1 && !is_log_id {
        return None;
    }
    let chain = number::hex(chain)?.into();
    Some(Position { log_id: log_id.to_owned(), revision: number::decimal(revision)?, chain })
}

impl From<&Position> for Position {
    fn from(position: &Position) -> Self {
        position.clone()
    }
}

impl From<i64> for Position {
    /// Converts a revision to a position without a log id: the revision of any log that the server has.
    fn from(revision: i64) -> Self {
        Position { revision, ..Position::default() }
    }
}

impl From<&Position> for Freshness {
    /// Requires the freshness of this position in its log.
    fn from(position: &Position) -> Self {
        Freshness { at_least_revision: position.revision, log_id: position.log_id.clone(), max_wait: None }
    }
}

impl From<Position> for Freshness {
    fn from(position: Position) -> Self {
        Freshness::from(&position)
    }
}

impl From<i64> for Freshness {
    /// Requires the freshness of this revision, of any log that the server has.
    fn from(revision: i64) -> Self {
        Freshness { at_least_revision: revision, ..Freshness::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_text() {
        let chain = "00ff".repeat(16);
        for text in ["0", "7190", "fe49a3a5:7190", &format!("fe49a3a5:7190:{chain}")] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        let sign = format!("fe49a3a5:7190:+f{}", "00".repeat(31));
        for text in [
            "",
            "+7190",
            "-1",
            "-0",
            "fe49a3a5:+7190",
            "+e49a3a5:7190",
            "fe49a3a5:7190:",
            "fe49a3a5:7190:0",
            &sign,
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
