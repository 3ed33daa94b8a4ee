//! The credentials that a running node accepts, and what callers without one may do.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use subtle::ConstantTimeEq as _;

use super::{
    Anonymous, AnonymousGrant, Credential, CredentialError, CredentialFile, Ending, Identity, Role,
    file::Proof,
    token::{Token, TokenHash},
};
use crate::{
    audit::{Audit, Event},
    clock::Clock,
    config,
    rate::{NetworkRates, network},
    refusal::Refusal,
    reload::{Requests, Settings},
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
    /// Whether there have been credentials. It closes the node to anonymous callers for good.
    closed: AtomicBool,
    grant: RwLock<Option<Arc<AnonymousGrant>>>,
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
type Stamp = Option<(i64, i64, u64, u64)>;

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
            closed: AtomicBool::new(false),
            grant: RwLock::default(),
            accepted: RwLock::default(),
            first_stamp,
        };
        access.reload()?;
        Ok(access)
    }

    /// Whether anyone can call the node.
    pub(crate) fn is_usable(&self) -> bool {
        self.grant().is_some() || self.accepted().all().next().is_some()
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
        let is_valid = |credential: &&Arc<Credential>| !credential.ending.is_ended();
        let mut subjects = subjects.into_iter();
        match subjects.find_map(|subject| accepted.certificates.get(&subject).filter(is_valid)) {
            Some(credential) => Ok(Identity::known(credential.clone())),
            None => Ok(self.anonymous()),
        }
    }

    /// Counts a call of a caller at an address.
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn count_call(&self, caller: &Identity, address: IpAddr) -> Result<(), Refusal> {
        let (checked, maximum) = match (caller.credential(), &self.rates.anonymous) {
            (Some(credential), _) => match &credential.rate {
                Some(rate) => (rate.check(), self.rates.credential_calls),
                None => return Ok(()),
            },
            (None, Some(rates)) => (rates.check(network(address)), self.rates.address_calls),
            (None, None) => return Ok(()),
        };
        checked.map_err(|retry_after| Refusal::RateLimited {
            what: "calls",
            maximum: format!("{maximum} a second"),
            retry_after,
        })
    }

    /// Counts a refused credential of an address. Returns the refusal to send. A secret of 256 bits cannot be
    /// guessed; the limit slows down those who try, and makes clients with a wrong token wait.
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
        self.grant().map_or(Identity::Nobody, Identity::Anonymous)
    }

    fn grant(&self) -> Option<Arc<AnonymousGrant>> {
        self.grant.read().unwrap_or_else(PoisonError::into_inner).clone()
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
            Some((_, credential)) if credential.ending.is_ended() => {
                Err(Refusal::Unauthenticated("the token has expired"))
            }
            Some((_, credential)) => Ok(Identity::known(credential.clone())),
        }
    }

    fn accepted(&self) -> Arc<Accepted> {
        self.accepted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again. Credentials that are no longer in it, or have changed, end. A file that is missing takes no
    /// credential away.
    ///
    /// # Errors
    /// The file cannot be read, or is not valid. The credentials in use remain.
    pub(crate) fn reload(&self) -> Result<(), CredentialError> {
        self.grant_anonymous();
        let Some(entries) = self.file.read_if_exists()? else { return Ok(()) };
        let now = self.clock.now();
        let old = self.accepted();
        let mut known: HashMap<&str, &Arc<Credential>> =
            old.all().map(|credential| (&credential.entry.id[..], credential)).collect();
        let (mut accepted, mut ended) = (Accepted::default(), Vec::new());
        for entry in entries {
            let credential = match known.remove(&entry.id[..]) {
                Some(credential) if credential.entry == entry => credential.clone(),
                changed => {
                    ended.extend(changed.cloned());
                    Arc::new(Credential::new(entry, self.rates.credential_calls))
                }
            };
            ended.extend(accepted.add(credential, now));
        }
        ended.extend(known.into_values().cloned());
        *self.accepted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(accepted);
        ended.iter().for_each(|credential| credential.ending.end());
        self.end_expired();
        Ok(())
    }

    /// Decides which rights anonymous callers have.
    fn grant_anonymous(&self) {
        if self.file.had_credentials() {
            self.closed.store(true, Relaxed);
        }
        let role = match self.anonymous {
            Anonymous::Nothing => None,
            Anonymous::Role(role) => Some(role),
            Anonymous::Auto => (self.loopback && !self.closed.load(Relaxed)).then_some(Role::Admin),
        };
        let mut grant = self.grant.write().unwrap_or_else(PoisonError::into_inner);
        if grant.as_ref().map(|grant| grant.role) != role {
            let can_end = self.anonymous == Anonymous::Auto;
            let new =
                role.map(|role| AnonymousGrant { role, can_end, ending: Ending::default() }).map(Arc::new);
            if let Some(old) = std::mem::replace(&mut *grant, new) {
                old.ending.end();
            }
        }
    }

    fn end_expired(&self) {
        let now = self.clock.now();
        for credential in self.accepted().all().filter(|credential| !credential.entry.is_valid(now)) {
            if !credential.ending.is_ended() {
                credential.ending.end();
            }
        }
    }

    /// Follows the file, and ends credentials that expire. Never returns.
    pub(crate) async fn run(self: Arc<Access>, mut requests: Requests, audit: Arc<Audit>) {
        let (mut seen, mut uses) = (self.first_stamp, self.file.last_uses());
        // The failure of the last attempt, which is repeated until it succeeds.
        let mut failure: Option<String> = None;
        loop {
            let requested = tokio::select! {
                () = requests.next() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            self.end_expired();
            self.grant_anonymous();
            self.rates.shrink();
            self.record_uses(&mut uses);
            let now = stamp(&self.file);
            if (now.is_none() && seen.is_none()) || (now == seen && !requested && failure.is_none()) {
                continue;
            }
            seen = now;
            let error = match now {
                Some(_) => self.reload().err().map(|error| super::describe(&error)),
                None => Some(format!("{} is missing", self.file.path().display())),
            };
            match &error {
                None => tracing::info!(credentials = self.count(), "credentials reloaded"),
                Some(_) if error == failure => continue,
                Some(error) => tracing::error!(error, "credentials not reloaded"),
            }
            let settings = if requested { requests.settings() } else { Settings::Valid };
            audit.submit(Event::Reload { credentials: error.is_none().then(|| self.count()), settings });
            failure = error;
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
    // The time of the last change of the owner or the mode counts, too: it can make the file readable.
    Some((metadata.ctime(), metadata.ctime_nsec(), metadata.ino(), metadata.len()))
}

impl Accepted {
    /// Adds a credential. Returns the one that cannot be used because another has the same certificate: the one that has
    /// expired, else the earlier one.
    fn add(&mut self, credential: Arc<Credential>, now: i64) -> Option<Arc<Credential>> {
        match credential.entry.proof.clone() {
            Proof::Token(hash) => {
                self.tokens.insert(credential.entry.id.clone(), (hash, credential));
                None
            }
            Proof::Certificate(subject) => {
                let earlier = self.certificates.get(&subject);
                if earlier.is_some_and(|_| !credential.entry.is_valid(now)) {
                    return Some(credential);
                }
                self.certificates.insert(subject, credential)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::NewCredential;

    /// Only an edit by hand maps a certificate twice.
    #[test]
    fn of_two_credentials_with_one_certificate_the_later_valid_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = CredentialFile::new(dir.path().join("credentials.toml"));
        let (clock, _hands) = Clock::manual(1_800_000_000_000_000);
        let new = |name: &str, role, certificate: &str| NewCredential {
            name: name.to_owned(),
            role,
            filter: None,
            lifetime: None,
            certificate: Some(certificate.to_owned()),
        };
        file.create(new("a", Role::Publisher, "CN:desk"), clock.now()).unwrap();
        let open = || {
            let limits = config::Rate::default();
            Access::open(file.clone(), clock.clone(), Anonymous::Nothing, true, &limits).unwrap()
        };
        let access = open();
        let first = access.identify(None, ["CN:desk".to_owned()]).unwrap();
        file.create(new("b", Role::Reader, "CN:other"), clock.now()).unwrap();
        let text = fs::read_to_string(file.path()).unwrap().replace("CN:other", "CN:desk");
        fs::write(file.path(), text).unwrap();
        access.reload().unwrap();
        assert!(!first.is_current(), "the credential that cannot be used has ended");
        for access in [access, open()] {
            let names = ["CN:desk".to_owned(), "URI:unknown".to_owned()];
            assert_eq!(access.identify(None, names).unwrap().name(), "b");
        }
    }
}
