//! Replaces the certificate, the key and the client CA of a running node when their files change.

use std::{sync::Arc, time::Duration};

use super::{
    Tls,
    files::{Contents, Error, Files, Loaded},
};
use crate::{clock::Clock, server::Requests, telemetry::Metrics};

/// The pause between two reads of the files. They are used once two reads are equal: a file that is being written, and
/// a pair of which one file is still to be replaced, mostly differ.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// The maximum number of such reads. Files that change all the time are then used as they are.
const MAX_READS: usize = 5;

/// The files of a node, and what is in use of them.
pub(crate) struct Reloader {
    tls: Arc<Tls>,
    files: Files,
    clock: Clock,
    /// Identifies the content in use.
    digest: [u8; 32],
    /// The last error, until the files are valid again.
    error: Option<String>,
}

impl Reloader {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// They are not valid.
    pub(crate) fn load(files: Files, clock: Clock, metrics: Arc<Metrics>) -> Result<Reloader, Error> {
        let Loaded { config, expires, digest } = files.load(&clock)?;
        let tls = Arc::new(Tls::new(config, metrics));
        let reloader = Reloader { tls, files, clock, digest, error: None };
        reloader.record(expires);
        Ok(reloader)
    }

    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.tls.clone()
    }

    /// Loads the files again whenever they have changed, and at each request. Never returns.
    pub(crate) async fn run(mut self, interval: Duration, mut requests: Requests) {
        loop {
            let requested = tokio::select! {
                () = requests.next() => true,
                () = tokio::time::sleep(interval) => false,
            };
            match self.read_settled().await {
                Ok(contents) => self.check(&contents, requested),
                Err(error) => self.report(&error, requested),
            }
        }
    }

    async fn read_settled(&self) -> Result<Contents, Error> {
        let mut last = self.read().await;
        for _ in 1..MAX_READS {
            if last.as_ref().is_ok_and(|contents| contents.digest() == self.digest) {
                break;
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
            let next = self.read().await;
            let settled = matches!((&last, &next), (Ok(last), Ok(next)) if last == next);
            last = next;
            if settled {
                break;
            }
        }
        last
    }

    /// Reads the files on another thread, because the disk may be slow.
    async fn read(&self) -> Result<Contents, Error> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        read.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    fn check(&mut self, contents: &Contents, requested: bool) {
        if contents.digest() == self.digest {
            if self.error.take().is_some() {
                tracing::info!("TLS files valid again: the certificate in use");
            }
            return;
        }
        match self.files.check(contents, &self.clock) {
            Ok(Loaded { config, expires, digest }) => {
                self.tls.replace(config);
                (self.digest, self.error) = (digest, None);
                self.record(expires);
                tracing::info!("TLS certificate reloaded");
            }
            Err(error) => self.report(&error, requested),
        }
    }

    fn record(&self, expires: i64) {
        self.tls.metrics.tls_certificate_expiry.set(u64::try_from(expires).unwrap_or(0));
        self.tls.metrics.tls_reload_time.set(u64::try_from(self.clock.now() / 1_000_000).unwrap_or(0));
    }

    /// Logs and counts an error, unless it is that of the last read. The previous certificate remains in use.
    fn report(&mut self, error: &Error, requested: bool) {
        let text = describe(error);
        if requested || self.error.as_ref() != Some(&text) {
            self.tls.metrics.tls_reload_failures.inc();
            tracing::error!(error = text, "TLS files not loaded: the previous certificate remains in use");
            self.error = Some(text);
        }
    }
}

/// Returns the text of an error with its causes.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
