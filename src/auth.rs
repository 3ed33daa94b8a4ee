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
pub use file::{CredentialError, CredentialFile, Entry, NewCredential, Rotation};
pub(crate) use roles::{audited, publishes, required_role, writes};
pub use scope::Scope;
pub(crate) use scope::ScopeId;
pub use token::Token;

pub use crate::role::{Anonymous, Role};

/// The end of a right, for which those who use the right wait.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    ended: AtomicBool,
    notify: Notify,
}

impl Ending {
    fn end(&self) {
        self.ended.store(true, Relaxed);
        self.notify.notify_waiters();
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    async fn wait(&self) {
        loop {
            let end = self.notify.notified();
            if self.is_ended() {
                return;
            }
            end.await;
        }
    }
}

/// A credential in use. It never changes: a credential that is edited is a new one, and the old one ends.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) entry: Entry,
    rate: Option<Rate>,
    used: AtomicBool,
    ending: Ending,
}

impl Credential {
    fn new(entry: Entry, calls_per_second: u32) -> Credential {
        let rate = NonZeroU32::new(calls_per_second).map(Rate::per_second);
        Credential { entry, rate, used: AtomicBool::new(false), ending: Ending::default() }
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
}

/// The rights of anonymous callers, which end when a node closes to them.
#[derive(Debug)]
pub(crate) struct AnonymousGrant {
    role: Role,
    /// Whether the node closes once it has a credential.
    can_end: bool,
    ending: Ending,
}

/// The caller of a call.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// A caller without any right. It may call only methods that need no role.
    Nobody,
    Anonymous(Arc<AnonymousGrant>),
    Known(Arc<Credential>),
}

impl Identity {
    fn known(credential: Arc<Credential>) -> Identity {
        credential.mark_used();
        Identity::Known(credential)
    }

    /// Returns the role. `None` for a caller without any right.
    fn role(&self) -> Option<Role> {
        match self {
            Identity::Nobody => None,
            Identity::Anonymous(grant) => Some(grant.role),
            Identity::Known(credential) => Some(credential.entry.role),
        }
    }

    /// Returns the credential. Anonymous callers have none.
    pub(crate) fn credential(&self) -> Option<&Credential> {
        match self {
            Identity::Known(credential) => Some(credential),
            _ => None,
        }
    }

    fn ending(&self) -> Option<&Ending> {
        match self {
            Identity::Nobody => None,
            Identity::Anonymous(grant) => Some(&grant.ending),
            Identity::Known(credential) => Some(&credential.ending),
        }
    }

    /// Whether the rights of the caller can end while the node runs.
    pub(crate) fn can_end(&self) -> bool {
        match self {
            Identity::Nobody => false,
            Identity::Anonymous(grant) => grant.can_end,
            Identity::Known(_) => true,
        }
    }

    /// Waits until the rights of the caller have ended: they have expired, were revoked or have changed.
    pub(crate) async fn wait_for_end(&self) {
        match self.ending() {
            Some(ending) => ending.wait().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the articles that the caller is limited to. `None`: it sees all of them.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.credential()?.entry.scope.as_ref()
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
        self.credential().map_or("anonymous", |credential| &credential.entry.name)
    }

    /// Whether the role of the caller includes another one.
    pub(crate) fn includes(&self, role: Role) -> bool {
        self.role().is_some_and(|own| own >= role)
    }

    /// Checks that the role of the caller includes `required`.
    ///
    /// # Errors
    /// It does not; `action` is what was refused.
    pub(crate) fn require(&self, required: Role, action: &str) -> Result<(), Refusal> {
        match self.role() {
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

    /// Whether the rights of the caller still hold. Marks its credential as used.
    pub(crate) fn is_current(&self) -> bool {
        if let Identity::Known(credential) = self {
            credential.mark_used();
        }
        self.ending().is_some_and(|ending| !ending.is_ended())
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
