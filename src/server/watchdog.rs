//! The watchdog: reports to systemd that the node is alive, as long as each thread that serves responds, and the thread
//! that writes responds or works.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::sleep;

use super::cores::Probe;
use crate::{
    log::{self, local::LocalLog},
    systemd::Notifier,
};

/// Pause before a full queue is tried again, and before the progress of the writer is read again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The threads that must respond.
pub(super) struct Threads {
    pub(super) cores: Vec<Probe>,
    pub(super) log: Arc<LocalLog>,
}

impl Threads {
    /// Waits until every thread has responded. A thread that hangs delays it forever. If it takes longer than `patience`,
    /// the threads that have not responded are logged.
    async fn respond(&self, patience: Duration) {
        let named = self.responses().map(|(name, response)| (name, response.map(move |()| name)));
        let (mut waiting, mut responses): (Vec<_>, FuturesUnordered<_>) = named.unzip();
        let (mut late, mut is_late) = (pin!(sleep(patience)), false);
        loop {
            tokio::select! {
                response = responses.next() => match response {
                    Some(name) => waiting.retain(|other| *other != name),
                    None => return,
                },
                () = &mut late, if !is_late => {
                    is_late = true;
                    tracing::error!(threads = waiting.join(" "), "threads do not respond");
                }
            }
        }
    }

    /// Returns the name of each thread with its response.
    fn responses(&self) -> impl Iterator<Item = (&str, BoxFuture<'_, ()>)> {
        let cores = self.cores.iter().map(|core| (core.name(), core.response().boxed()));
        cores.chain([(log::local::THREAD_NAME, writer_response(&self.log).boxed())])
    }
}

/// Waits until the writer has done the jobs before the probe, or has made progress with one of them: a large import or
/// kill may take longer than systemd waits. A full queue is no failure of the writer, but has no place for a probe either.
async fn writer_response(log: &LocalLog) {
    let before = log.pulse();
    let responds = async {
        while log.probe().await.is_err() {
            sleep(RETRY_PAUSE).await;
        }
    };
    let works = async {
        while log.pulse() == before {
            sleep(RETRY_PAUSE).await;
        }
    };
    tokio::select! {
        () = responds => {}
        () = works => {}
    }
}

/// Reports signs of life for as long as the node runs. There is no timer that reports without a response.
pub(super) async fn run(notifier: Notifier, threads: Threads) {
    let Some(limit) = notifier.watchdog() else { return std::future::pending().await };
    // sd_watchdog_enabled(3) recommends half of the limit. Less leaves the rest of it to slow responses.
    let interval = limit / 6;
    loop {
        threads.respond(limit / 2).await;
        notifier.alive();
        sleep(interval).await;
    }
}
