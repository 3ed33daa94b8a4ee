//! Roles: the rights that a caller can have.

use std::{fmt, str::FromStr};

/// The rights of a caller. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads and follows what is published.
    Reader,
    /// Also sees pending versions.
    Editor,
    /// Also writes: publishes, schedules, removes, kills and imports.
    Publisher,
    /// Also operates the node.
    Admin,
}

impl Role {
    pub(crate) const ALL: [Role; 4] = [Role::Reader, Role::Editor, Role::Publisher, Role::Admin];

    /// Returns the name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Editor => "editor",
            Role::Publisher => "publisher",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let role = Role::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| "expected reader, editor, publisher or admin".to_owned())
    }
}

/// The rights of callers without a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Everything, on a node that only this machine can reach and that has no credentials; otherwise nothing.
    #[default]
    Auto,
    /// Nothing, except health checks.
    Nothing,
    /// Everything that a role may do.
    Role(Role),
}

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anonymous::Auto => f.write_str("auto"),
            Anonymous::Nothing => f.write_str("none"),
            Anonymous::Role(role) => role.fmt(f),
        }
    }
}

impl FromStr for Anonymous {
    type Err = String;

    fn from_str(text: &str) -> Result<Anonymous, String> {
        match text {
            "auto" => Ok(Anonymous::Auto),
            "none" => Ok(Anonymous::Nothing),
            role => role.parse().map(Anonymous::Role).map_err(|error| format!("{error}, none or auto")),
        }
    }
}
