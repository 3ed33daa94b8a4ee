//! Callers and their rights: credentials, the roles that they have, and the roles that methods require.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{rate::Rate, refusal::Refusal};

mod access;
mod file;
mod roles;
mod scope;
mod scope_table;
mod token;

pub(crate) use access::Access;
pub use file::{CredentialError, CredentialFile, Entry, NewCredential};
pub(crate) use roles::{publishes, required_role, writes};
pub use scope::Scope;
pub(crate) use scope::ScopeId;
pub use token::Token;

pub use crate::role::{Anonymous, Role};

/// A credential in use. It never changes: a credential that is edited is a new one, and the old one ends.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) entry: Entry,
    rate: Option<Rate>,
    used: AtomicBool,
    ended: AtomicBool,
    end: Notify,
}

impl Credential {
    fn new(entry: Entry, calls_per_second: u32) -> Credential {
        let rate = NonZeroU32::new(calls_per_second).map(Rate::per_second);
        Credential {
            entry,
            rate,
            used: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Ends the credential, because it has expired, was revoked or was changed.
    fn end(&self) {
        self.ended.store(true, Relaxed);
        self.end.notify_waiters();
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    fn mark_used(&self) {
        // Read first: a write would take the cache line from other cores at every call.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Whether the credential was used since this was last called.
    fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Waits until the credential has ended.
    pub(crate) async fn wait_for_end(&self) {
        loop {
            let end = self.end.notified();
            if self.is_ended() {
                return;
            }
            end.await;
        }
    }
}

/// The caller of a call.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The role of the caller. `None` for one that has no credential and may do nothing.
    role: Option<Role>,
    credential: Option<Arc<Credential>>,
}

impl Identity {
    /// The caller of a call that anyone may make.
    pub(crate) const NOBODY: Identity = Identity { role: None, credential: None };

    fn anonymous(role: Option<Role>) -> Identity {
        Identity { role, credential: None }
    }

    fn known(credential: Arc<Credential>) -> Identity {
        credential.mark_used();
        Identity { role: Some(credential.entry.role), credential: Some(credential) }
    }

    /// Returns the credential. Anonymous callers have none.
    pub(crate) fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// Returns the articles that the caller is limited to. `None`: it sees all of them.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.credential.as_ref()?.entry.scope.as_ref()
    }

    /// Checks that the caller is not limited to some articles.
    ///
    /// # Errors
    /// It is; `action` is what it was refused.
    pub(crate) fn require_no_scope(&self, action: &'static str) -> Result<(), Refusal> {
        match self.scope() {
            None => Ok(()),
            Some(_) => Err(self.limited(action)),
        }
    }

    /// Returns the refusal of a call that has no meaning for a caller with a scope.
    pub(crate) fn limited(&self, action: &'static str) -> Refusal {
        Refusal::Limited { caller: self.name().to_owned(), action }
    }

    /// Returns the name of the caller, for logs.
    pub(crate) fn name(&self) -> &str {
        self.credential.as_ref().map_or("anonymous", |credential| &credential.entry.name)
    }

    /// Whether the role of the caller includes another one.
    pub(crate) fn includes(&self, role: Role) -> bool {
        self.role.is_some_and(|own| own >= role)
    }

    /// Checks that the role of the caller includes `required`.
    ///
    /// # Errors
    /// It does not; `action` is what was refused.
    pub(crate) fn require(&self, required: Role, action: &str) -> Result<(), Refusal> {
        match self.role {
            Some(role) if role >= required => Ok(()),
            None => Err(Refusal::Unauthenticated(
                "this node requires a credential: send `authorization: Bearer <token>`",
            )),
            Some(has) => Err(Refusal::Forbidden {
                caller: self.name().to_owned(),
                has,
                required,
                action: action.to_owned(),
            }),
        }
    }

    /// Whether the identity still holds. Marks its credential as used.
    pub(crate) fn is_current(&self) -> bool {
        self.credential.as_ref().is_none_or(|credential| {
            credential.mark_used();
            !credential.is_ended()
        })
    }
}

/// Returns an error with its causes, for a log.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
