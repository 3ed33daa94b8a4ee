//! The credentials that a running node accepts, and what callers without one may do.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use subtle::ConstantTimeEq as _;

use super::{
    Anonymous, Credential, CredentialError, CredentialFile, Identity, Role,
    file::Proof,
    token::{Token, TokenHash},
};
use crate::{
    audit::{Audit, Event},
    clock::Clock,
    config,
    rate::{NetworkRates, network},
    refusal::Refusal,
    reload::Requests,
    wire::fields,
};

/// How often the node looks for a change of the file and for credentials that have expired. Feeds of a revoked
/// credential end within 5 s.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The start of an `authorization` value. The scheme is case-insensitive (RFC 9110, 11.1).
const SCHEME: &[u8] = b"bearer ";

/// The credentials that a node accepts.
pub(crate) struct Access {
    file: CredentialFile,
    clock: Clock,
    anonymous: Anonymous,
    /// Whether only this machine can reach the node.
    loopback: bool,
    rates: Rates,
    /// The rights of anonymous callers now: 0 for nothing, else the place of the role.
    anonymous_now: AtomicU8,
    accepted: RwLock<Arc<Accepted>>,
    /// The stamp of the file before it was read first, so that no later change is missed.
    first_stamp: Stamp,
}

#[derive(Default)]
struct Accepted {
    tokens: HashMap<String, (TokenHash, Arc<Credential>)>,
    certificates: HashMap<String, Arc<Credential>>,
}

impl Accepted {
    fn all(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.tokens.values().map(|(_, credential)| credential).chain(self.certificates.values())
    }
}

/// The rates at which callers may call, and may send credentials that are not accepted.
struct Rates {
    credential_calls: u32,
    address_calls: u32,
    anonymous: Option<NetworkRates>,
    failures_per_minute: u32,
    failures: Option<NetworkRates>,
}

impl Rates {
    fn new(limits: &config::Rate) -> Rates {
        let config::Rate { credential_calls, address_calls, failures_per_minute } = *limits;
        Rates {
            credential_calls,
            address_calls,
            anonymous: NonZeroU32::new(address_calls).map(NetworkRates::per_second),
            failures_per_minute,
            failures: NonZeroU32::new(failures_per_minute).map(NetworkRates::per_minute),
        }
    }

    fn shrink(&self) {
        self.anonymous.iter().chain(&self.failures).for_each(NetworkRates::shrink);
    }
}

/// The state of a file by which a change shows.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Access {
    /// Reads the credentials.
    ///
    /// # Errors
    /// The file cannot be read, or is not valid.
    pub(crate) fn open(
        file: CredentialFile,
        clock: Clock,
        anonymous: Anonymous,
        loopback: bool,
        limits: &config::Rate,
    ) -> Result<Access, CredentialError> {
        let first_stamp = stamp(&file);
        let access = Access {
            file,
            clock,
            anonymous,
            loopback,
            rates: Rates::new(limits),
            anonymous_now: AtomicU8::new(0),
            accepted: RwLock::default(),
            first_stamp,
        };
        access.reload()?;
        Ok(access)
    }

    /// Whether anyone can call the node.
    pub(crate) fn is_usable(&self) -> bool {
        self.anonymous_role().is_some() || self.accepted().all().next().is_some()
    }

    /// Returns the number of credentials that are accepted.
    pub(crate) fn count(&self) -> usize {
        self.accepted().all().count()
    }

    /// Returns the caller that a call's credentials belong to. A token counts before a certificate.
    ///
    /// # Errors
    /// The value is no token, or the token is not accepted.
    pub(crate) fn identify(
        &self,
        authorization: Option<&[u8]>,
        subjects: impl IntoIterator<Item = String>,
    ) -> Result<Identity, Refusal> {
        if let Some(value) = authorization {
            return self.identify_token(value);
        }
        let accepted = self.accepted();
        let certified = subjects.into_iter().find_map(|subject| accepted.certificates.get(&subject));
        match certified.filter(|credential| !credential.is_ended()) {
            Some(credential) => Ok(Identity::known(credential.clone())),
            None => Ok(self.anonymous()),
        }
    }

    /// Counts a call of a caller at an address.
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn count_call(
        &self,
        caller: &Identity,
        address: impl FnOnce() -> IpAddr,
    ) -> Result<(), Refusal> {
        let (checked, maximum) = match (caller.credential(), &self.rates.anonymous) {
            (Some(credential), _) => match &credential.rate {
                Some(rate) => (rate.check(), self.rates.credential_calls),
                None => return Ok(()),
            },
            (None, Some(rates)) => (rates.check(network(address())), self.rates.address_calls),
            (None, None) => return Ok(()),
        };
        checked.map_err(|retry_after| Refusal::RateLimited {
            what: "calls",
            maximum: format!("{maximum} a second"),
            retry_after,
        })
    }

    /// Counts a refused credential of an address. Returns the refusal to send. A secret of 256 bits cannot be
    /// guessed; the limit bounds the work and the log lines of those who try.
    pub(crate) fn count_failure(&self, address: IpAddr, refusal: Refusal) -> Refusal {
        let Some(failures) = &self.rates.failures else { return refusal };
        match failures.check(network(address)) {
            Ok(()) => refusal,
            Err(retry_after) => Refusal::RateLimited {
                what: "credentials that are not accepted",
                maximum: format!("{} a minute", self.rates.failures_per_minute),
                retry_after,
            },
        }
    }

    /// Returns the identity of callers without a credential.
    pub(crate) fn anonymous(&self) -> Identity {
        Identity::anonymous(self.anonymous_role())
    }

    fn anonymous_role(&self) -> Option<Role> {
        let place = self.anonymous_now.load(Relaxed);
        usize::from(place).checked_sub(1).map(|place| Role::ALL[place])
    }

    fn identify_token(&self, value: &[u8]) -> Result<Identity, Refusal> {
        let (scheme, token) = value.split_at_checked(SCHEME.len()).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Refusal::Unauthenticated(
                "the value of `authorization` must be `Bearer` and a token",
            ));
        }
        let token = Token::parse(token)
            .ok_or(Refusal::Unauthenticated("the value of `authorization` is not a token of Cable"))?;
        let accepted = self.accepted();
        let known = accepted.tokens.get(token.id());
        match known.filter(|(hash, _)| bool::from(hash.ct_eq(&token.hash()))) {
            None => Err(Refusal::Unauthenticated("the token is not known: it may have been revoked")),
            Some((_, credential)) if credential.is_ended() => {
                Err(Refusal::Unauthenticated("the token has expired"))
            }
            Some((_, credential)) => Ok(Identity::known(credential.clone())),
        }
    }

    fn accepted(&self) -> Arc<Accepted> {
        self.accepted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again. Credentials that are no longer in it, or have changed, end.
    ///
    /// # Errors
    /// The file cannot be read, or is not valid. The credentials in use remain.
    pub(crate) fn reload(&self) -> Result<(), CredentialError> {
        let entries = self.file.read()?;
        let old = self.accepted();
        let mut known: HashMap<&str, &Arc<Credential>> =
            old.all().map(|credential| (&credential.entry.id[..], credential)).collect();
        let mut accepted = Accepted::default();
        for entry in entries {
            let credential = match known.remove(&entry.id[..]) {
                Some(credential) if credential.entry == entry => credential.clone(),
                Some(changed) => {
                    changed.end();
                    Arc::new(Credential::new(entry, self.rates.credential_calls))
                }
                None => Arc::new(Credential::new(entry, self.rates.credential_calls)),
            };
            accepted.add(credential);
        }
        known.values().for_each(|removed| removed.end());
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accepted);
        self.set_anonymous();
        self.end_expired();
        Ok(())
    }

    /// Decides what anonymous callers may do. A file of credentials closes the node to them, even an empty one.
    fn set_anonymous(&self) {
        let role = match self.anonymous {
            Anonymous::Nothing => None,
            Anonymous::Role(role) => Some(role),
            Anonymous::Auto => (self.loopback && !self.file.path().exists()).then_some(Role::Admin),
        };
        let place = role.map_or(0, |role| 1 + role as u8);
        self.anonymous_now.store(place, Relaxed);
    }

    fn end_expired(&self) {
        let now = self.clock.now();
        for credential in self.accepted().all().filter(|credential| !credential.entry.is_valid(now)) {
            if !credential.is_ended() {
                credential.end();
            }
        }
    }

    /// Follows the file, and ends credentials that expire. Never returns.
    pub(crate) async fn run(self: Arc<Access>, mut requests: Requests, audit: Arc<Audit>) {
        let (mut seen, mut uses) = (self.first_stamp, self.file.last_uses());
        loop {
            let requested = tokio::select! {
                () = requests.next() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            self.end_expired();
            self.rates.shrink();
            self.record_uses(&mut uses);
            let now = stamp(&self.file);
            // A file that is missing for a moment, or for good, takes no credential away.
            if now.is_none() || (std::mem::replace(&mut seen, now) == now && !requested) {
                continue;
            }
            let reloaded = self.reload();
            audit.submit(Event::Reload { credentials: reloaded.is_ok().then(|| self.count()) });
            match reloaded {
                Ok(()) => tracing::info!(credentials = self.count(), "credentials reloaded"),
                Err(error) => tracing::error!(error = %super::describe(&error), "credentials not reloaded"),
            }
        }
    }

    /// Records the days on which credentials were used, whenever one changes.
    fn record_uses(&self, uses: &mut HashMap<String, String>) {
        let today = fields::timestamp(self.clock.now()).to_string();
        let Some((today, _)) = today.split_once('T') else { return };
        let mut changed = false;
        for credential in self.accepted().all().filter(|credential| credential.take_used()) {
            let day = uses.entry(credential.entry.id.clone()).or_default();
            changed |= day != today;
            today.clone_into(day);
        }
        if !changed {
            return;
        }
        let accepted = self.accepted();
        let known: HashSet<_> = accepted.all().map(|credential| &credential.entry.id).collect();
        uses.retain(|id, _| known.contains(id));
        if let Err(error) = self.file.record_uses(uses) {
            tracing::warn!(%error, "last uses of credentials not recorded");
        }
    }
}

fn stamp(file: &CredentialFile) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(file.path()).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

impl Accepted {
    fn add(&mut self, credential: Arc<Credential>) {
        match credential.entry.proof.clone() {
            Proof::Token(hash) => {
                self.tokens.insert(credential.entry.id.clone(), (hash, credential));
            }
            Proof::Certificate(subject) => {
                self.certificates.insert(subject, credential);
            }
        }
    }
}
