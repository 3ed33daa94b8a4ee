//! The report of a measurement of followers.

use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::Ledger;
use crate::report::{
    INTERRUPTED_NOTE, Report, SATURATED_NOTE, Tally, applicable_notes, client_figures, cpu_per_unit,
    is_saturated, join_problems, per_second, quantiles, tenths, thousandths,
};

/// The report of a run of followers.
#[derive(Debug)]
pub struct WatchReport {
    /// Figures that describe the request.
    pub(super) request_figures: Vec<(&'static str, Value)>,
    /// The calls that published; `None` if this run did not publish.
    pub(super) publishes: Option<Tally>,
    pub(super) ledger: Ledger,
    /// Time from when all followers had caught up until they had received everything, or the wait ended.
    pub(super) elapsed: Duration,
    /// CPU time of this process in that time.
    pub(super) cpu: Duration,
    pub(super) interrupted: bool,
    /// Whether an interrupt ended the wait for outstanding changes.
    pub(super) cut_short: bool,
    /// Articles that may be left, because their removal failed or was interrupted.
    pub(super) articles_left: u64,
}

impl Report for WatchReport {
    fn figures(&self) -> Vec<(&'static str, Value)> {
        let (ledger, counts) = (&self.ledger, &self.ledger.counts);
        let mut all = vec![("bench", "watch".into())];
        all.extend(self.request_figures.iter().cloned());
        all.extend([
            ("elapsed_s", thousandths(self.elapsed.as_secs_f64())),
            ("interrupted", self.interrupted.into()),
        ]);
        if let Some(tally) = &self.publishes {
            all.extend([
                ("publishes", tally.ok().into()),
                ("publishing", tally.counts().into_iter().map(|(name, n)| (name.to_owned(), n)).collect()),
                ("publishing_us", quantiles(tally.latency())),
                ("articles_left", self.articles_left.into()),
            ]);
        }
        all.extend([
            ("changes", ledger.changes().into()),
            ("messages", counts.messages.into()),
            ("deliveries", counts.deliveries.into()),
            ("bytes", counts.bytes.into()),
            ("lost", ledger.lost().into()),
            ("twice", counts.duplicates.into()),
            ("out_of_order", counts.out_of_order.into()),
            ("wrong", sum(&counts.wrong).into()),
            ("wrong_by_reason", json!(counts.wrong)),
            ("reconnects", counts.reconnects.into()),
            ("streams_broken", sum(&counts.broken).into()),
            ("broken_by_reason", json!(counts.broken)),
            ("feeds_ended", sum(&counts.ended).into()),
            ("ended_by_reason", json!(counts.ended)),
            ("deliveries_per_s", tenths(per_second(counts.deliveries as f64, self.elapsed))),
            ("latency_us", quantiles(&ledger.delivery_latency)),
            ("last_follower_us", quantiles(&ledger.last_delivery_latency)),
            ("mean_of_each_follower_us", quantiles(&ledger.mean_latencies())),
            ("client_cpu_us_per_delivery", cpu_per_unit(self.cpu, counts.deliveries)),
        ]);
        all.extend(client_figures(self.cpu, self.elapsed));
        all
    }

    fn notes(&self) -> Vec<&'static str> {
        applicable_notes([
            (
                self.publishes.is_none(),
                "latency is from the service's clock to this client's clock: valid only if they agree",
            ),
            (
                self.publishes.is_none() && self.ledger.changes() == 0,
                "no matching change was published: nothing was measured",
            ),
            (
                self.publishes.as_ref().is_some_and(Tally::is_late),
                "publishes started late: this client was short of CPU, or too many were in flight",
            ),
            (self.ledger.lost() > 0, "latencies cover received changes only: lost changes are not included"),
            (is_saturated(self.cpu, self.elapsed), SATURATED_NOTE),
            (self.interrupted, INTERRUPTED_NOTE),
        ])
    }

    fn problem(&self) -> Option<String> {
        let (ledger, counts) = (&self.ledger, &self.ledger.counts);
        let lost = if self.cut_short { 0 } else { ledger.lost() };
        let publishes = |count: fn(&Tally) -> u64| self.publishes.as_ref().map_or(0, count);
        let unanswered = if self.interrupted { 0 } else { publishes(Tally::unanswered) };
        join_problems([
            (publishes(Tally::failed), "publishes failed"),
            (unanswered, "publishes returned no response"),
            (lost, "deliveries lost"),
            (counts.duplicates, "deliveries repeated"),
            (counts.out_of_order, "deliveries out of order"),
            (sum(&counts.wrong), "deliveries wrong"),
            (sum(&counts.ended), "feeds ended"),
            (self.articles_left, "published articles may not have been removed"),
        ])
    }
}

fn sum<'a, K: 'a>(counts: impl IntoIterator<Item = (&'a K, &'a u64)>) -> u64 {
    counts.into_iter().map(|(_, n)| n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::ledger::ReceivedChange;

    /// Returns a report of two changes and two followers, the second of which has not received the second change.
    fn report() -> WatchReport {
        let mut ledger = Ledger::new(2);
        ledger.begin();
        for (follower, revision) in [(0, 6), (1, 6), (0, 7)] {
            let latency = Duration::from_millis(3);
            ledger.record(
                follower,
                &ReceivedChange { revision, name: "a", hash: 1, bytes: 9, is_departure: false, latency },
            );
        }
        WatchReport {
            request_figures: vec![("followers", 2.into())],
            publishes: None,
            ledger,
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(3),
            interrupted: false,
            cut_short: false,
            articles_left: 0,
        }
    }

    #[test]
    fn a_loss_is_a_problem_unless_the_wait_was_cut_short() {
        let mut report = report();
        let json = report.json();
        assert_eq!((&json["changes"], &json["deliveries"], &json["lost"]), (&json!(2), &json!(3), &json!(1)));
        assert_eq!(json["client_cpu_us_per_delivery"], json!(1_000.0));
        assert_eq!(report.problem().unwrap(), "1 deliveries lost");
        report.cut_short = true;
        assert_eq!(report.problem(), None);
    }

    #[test]
    fn problems_are_listed_with_their_counts() {
        let mut report = report();
        report.cut_short = true;
        report.ledger.counts.duplicates = 2;
        report.ledger.counts.ended.insert("OUT_OF_RANGE".into(), 1);
        report.articles_left = 4;
        let problem = "2 deliveries repeated, 1 feeds ended, 4 published articles may not have been removed";
        assert_eq!(report.problem().unwrap(), problem);
    }

    #[test]
    fn a_note_warns_about_clocks_when_others_publish() {
        assert!(report().notes()[0].contains("clock"));
        let own = WatchReport { publishes: Some(Tally::new()), ..report() };
        assert!(!own.notes().iter().any(|note| note.contains("clock")));
    }
}
