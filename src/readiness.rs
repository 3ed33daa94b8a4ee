//! The response of `/readyz`, as a node writes it and as a monitor reads it.

use std::fmt::{self, Display};

use http::StatusCode;

/// The name of the condition of a node that stops as requested.
pub const DRAINING: &str = "draining";

const READY: &str = "ready";
const NOT_READY: &str = "not ready";

/// Whether a node serves reads, and the names of the conditions that hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the node serves reads.
    pub is_ready: bool,
    /// The names of the conditions, such as `disk_full`.
    pub conditions: Vec<String>,
}

impl Readiness {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    /// Parses a response. `None` if it is not one of a node.
    #[must_use]
    pub fn parse(status: u16, text: &str) -> Option<Readiness> {
        let mut lines = text.lines();
        let is_ready = match lines.next()? {
            READY => true,
            NOT_READY => false,
            _ => return None,
        };
        let readiness = Readiness { is_ready, conditions: lines.map(str::to_owned).collect() };
        (readiness.status() == status).then_some(readiness)
    }
}

impl Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready { READY } else { NOT_READY })?;
        self.conditions.iter().try_for_each(|condition| writeln!(f, "{condition}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_parses_as_what_was_written() {
        for is_ready in [false, true] {
            for conditions in [Vec::new(), vec![DRAINING.to_owned(), "disk_full".to_owned()]] {
                let readiness = Readiness { is_ready, conditions };
                let (status, text) = (readiness.status().as_u16(), readiness.to_string());
                assert_eq!(Readiness::parse(status, &text), Some(readiness.clone()));
                assert_eq!(Readiness::parse(404, &text), None);
                assert_eq!(
                    Readiness::parse(Readiness { is_ready: !is_ready, ..readiness }.status().as_u16(), &text),
                    None
                );
            }
        }
        assert_eq!(Readiness::parse(200, ""), None);
        assert_eq!(Readiness::parse(200, "<html>"), None);
    }
}
