//! The records of a node about its calls: the audit log, the access log, ids of calls, metrics.

mod access;
mod audit;
mod canary;
mod dashboards;
mod request_ids;
mod secrets;

use std::path::Path;

use cable::auth::{CredentialFile, NewCredential, Role, Token};

/// Creates a credential in the directory of a store.
pub(crate) fn create(dir: &Path, name: &str, role: Role) -> Token {
    let file = CredentialFile::new(dir.join("credentials.toml"));
    let new = NewCredential { name: name.to_owned(), role, filter: None, lifetime: None, certificate: None };
    file.create(new, 1).unwrap().unwrap()
}
