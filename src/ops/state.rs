//! The state of a node in words: whether it serves, why not, and what needs attention.

use crate::{
    health::{Condition, Conditions},
    ops::words,
    telemetry::{Metrics, panic_count},
};

/// Notices appear at the limits of the alerts in `deploy/prometheus/alerts.yml`, and without their delay. No alert is
/// about the lag of feeds.
const OVERDUE_SECS: f64 = 60.0;
const CERTIFICATE_SECS: u64 = 14 * 86_400;
const LAG_REVISIONS: u64 = 1_000;
const RESERVES: u64 = 2;

/// Whether a node serves, in a word or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Serving,
    RefusingWrites,
    Draining,
    NotServing,
}

impl State {
    pub(super) fn of(conditions: &Conditions) -> State {
        let serves = |service| conditions.is_serving(service);
        match (serves(""), serves("cable.v1.PublishingService")) {
            _ if conditions.is_active(Condition::Draining) => State::Draining,
            (false, _) => State::NotServing,
            (true, false) => State::RefusingWrites,
            (true, true) => State::Serving,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            State::Serving => "Serving",
            State::RefusingWrites => "Refusing writes",
            State::Draining => "Draining",
            State::NotServing => "Not serving",
        }
    }

    /// Returns the class of the state in the style.
    pub(super) fn class(self) -> &'static str {
        match self {
            State::Serving => "good",
            State::RefusingWrites | State::Draining => "warn",
            State::NotServing => "bad",
        }
    }

    /// Returns a sentence for a node without a condition, whose state needs no reason.
    pub(super) fn summary(self) -> Option<&'static str> {
        (self == State::Serving).then_some("Reads, writes and feeds are served.")
    }
}

/// Returns the meaning of a condition and the way out. Its cause is only in the log: it may name files.
pub(super) fn reason(condition: Condition) -> &'static str {
    match condition {
        Condition::Draining => {
            "The node is shutting down. It serves calls for server.lame_duck, then stops listening; calls in flight end."
        }
        Condition::TaskFailed => {
            "A part of the node has failed, and the node ends. The log names it; the service manager restarts it."
        }
        Condition::DatabaseCorrupt => {
            "The database is damaged or its disk cannot be read. Look at the log of the kernel, then restore a backup."
        }
        Condition::SyncFailed => {
            "A sync to the disk failed, so writes may be lost. Run cable verify, then restart the node. Reads continue."
        }
        Condition::DiskFull => {
            "The disk has less free space than its reserve. Puts are refused, removals and kills are not. Free space: \
             writes resume by themselves."
        }
        Condition::AuditFailed => {
            "The audit log cannot be written, so no write is accepted, no kill either. Free space on its disk. Reads \
             continue."
        }
    }
}

/// Returns what needs attention although the node serves, at a time in seconds since 1970.
pub(super) fn notices(metrics: &Metrics, now: u64) -> Vec<String> {
    let overdue = metrics.pending_overdue_seconds.get();
    let lag = metrics.feed_lag_revisions.get();
    let (free, reserve) = (metrics.disk_free_bytes.get(), metrics.disk_reserve_bytes.get());
    let damaged = metrics.store_damaged_records.get();
    let expiry = metrics.tls_certificate_expiry.get();
    let conflicts = metrics.pending_path_conflicts.get();
    let panics = panic_count();
    let notices = [
        memory(metrics.memory_step.get()),
        (overdue > OVERDUE_SECS)
            .then(|| format!("A publication or an expiry is overdue by {}.", words::long(overdue))),
        (lag > LAG_REVISIONS)
            .then(|| format!("The feed furthest behind lags by {}.", words::plural(lag, "revision"))),
        (free < RESERVES * reserve).then(|| {
            let (free, reserve) = (words::bytes(free as f64), words::bytes(reserve as f64));
            format!("The disk has {free} free. Below {reserve}, puts are refused.")
        }),
        (damaged > 0).then(|| format!("The last scrub found {}.", words::plural(damaged, "damaged record"))),
        (expiry > 0 && expiry <= now).then(|| "The certificate has expired.".to_owned()),
        (expiry > now && expiry - now < CERTIFICATE_SECS)
            .then(|| format!("The certificate expires in {}.", words::long((expiry - now) as f64))),
        (conflicts > 0).then(|| {
            let versions = words::plural(conflicts, "pending version");
            format!("{versions} will take the path of a live article.")
        }),
        (panics > 0).then(|| format!("{} since the start: report the log.", words::plural(panics, "panic"))),
    ];
    notices.into_iter().flatten().collect()
}

fn memory(step: u64) -> Option<String> {
    let refused = match step {
        0 => return None,
        1 => "the cache shrinks",
        2 => "new streams are refused",
        _ => "reads of the store are refused",
    };
    Some(format!("Memory is short: {refused}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;

    #[test]
    fn each_condition_has_its_state() {
        for (condition, state) in [
            (Condition::DiskFull, State::RefusingWrites),
            (Condition::AuditFailed, State::RefusingWrites),
            (Condition::SyncFailed, State::RefusingWrites),
            (Condition::TaskFailed, State::NotServing),
            (Condition::DatabaseCorrupt, State::NotServing),
            (Condition::Draining, State::Draining),
        ] {
            let health = Health::default();
            assert_eq!(State::of(&health.conditions()), State::Serving);
            health.report(condition, "a test");
            assert_eq!(State::of(&health.conditions()), state, "{condition:?}");
            assert!(reason(condition).ends_with('.'));
        }
    }

    #[test]
    fn notices_name_what_needs_attention() {
        let metrics = Metrics::new();
        let now = 1_000_000_000;
        let of_panics = |notices: Vec<String>| notices.into_iter().filter(|text| !text.contains("panic"));
        let found = || of_panics(notices(&metrics, now)).collect::<Vec<_>>();
        assert_eq!(found(), Vec::<String>::new());
        metrics.memory_step.set(2);
        metrics.pending_overdue_seconds.set(61.0);
        metrics.feed_lag_revisions.set(1_001);
        metrics.disk_reserve_bytes.set(64 << 20);
        metrics.disk_free_bytes.set(127 << 20);
        metrics.store_damaged_records.set(1);
        metrics.pending_path_conflicts.set(2);
        metrics.tls_certificate_expiry.set(now + 86_400 + 3_600);
        assert_eq!(
            found(),
            [
                "Memory is short: new streams are refused.",
                "A publication or an expiry is overdue by 1 min.",
                "The feed furthest behind lags by 1,001 revisions.",
                "The disk has 127 MiB free. Below 64.0 MiB, puts are refused.",
                "The last scrub found 1 damaged record.",
                "The certificate expires in 1 day 1 h.",
                "2 pending versions will take the path of a live article.",
            ]
        );
        metrics.tls_certificate_expiry.set(now);
        assert!(found().contains(&"The certificate has expired.".to_owned()));
    }
}
