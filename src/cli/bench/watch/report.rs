//! The report of a measurement of followers.

use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::Ledger;
use crate::cli::bench::report::{
    INTERRUPTED_NOTE, SATURATED_NOTE, Tally, Told, client, cpu_each, is_saturated, noted, per_second,
    problems, quantiles, tenths, thousandths,
};

/// A measurement that has ended.
#[derive(Debug)]
pub(in crate::cli::bench) struct Report {
    /// Figures that describe the request.
    pub(super) setting: Vec<(&'static str, Value)>,
    /// The calls that published; `None` if others published.
    pub(super) publishes: Option<Tally>,
    pub(super) ledger: Ledger,
    /// Time from when all followers had caught up until they had received everything, or the wait ended.
    pub(super) elapsed: Duration,
    /// CPU time of this process in that time.
    pub(super) cpu: Duration,
    pub(super) interrupted: bool,
    /// Whether an interrupt ended the wait for outstanding changes.
    pub(super) cut_short: bool,
    /// Articles that were published and could not be removed.
    pub(super) left: u64,
}

impl Told for Report {
    fn figures(&self) -> Vec<(&'static str, Value)> {
        let (ledger, counts) = (&self.ledger, &self.ledger.counts);
        let mut all = vec![("bench", "watch".into())];
        all.extend(self.setting.iter().cloned());
        all.extend([
            ("elapsed_s", thousandths(self.elapsed.as_secs_f64())),
            ("interrupted", self.interrupted.into()),
        ]);
        if let Some(tally) = &self.publishes {
            all.extend([
                ("publishes", tally.ok().into()),
                ("publishing", tally.counts().into_iter().map(|(name, n)| (name.to_owned(), n)).collect()),
                ("publishing_us", quantiles(tally.latency())),
                ("articles_left", self.left.into()),
            ]);
        }
        all.extend([
            ("changes", ledger.changes().into()),
            ("messages", counts.messages.into()),
            ("deliveries", counts.deliveries.into()),
            ("bytes", counts.bytes.into()),
            ("lost", ledger.lost().into()),
            ("twice", counts.twice.into()),
            ("out_of_order", counts.out_of_order.into()),
            ("wrong", sum(&counts.wrong).into()),
            ("wrong_by_reason", json!(counts.wrong)),
            ("reconnects", counts.reconnects.into()),
            ("streams_broken", sum(&counts.broken).into()),
            ("broken_by_reason", json!(counts.broken)),
            ("feeds_ended", sum(&counts.ended).into()),
            ("ended_by_reason", json!(counts.ended)),
            ("deliveries_per_s", tenths(per_second(counts.deliveries as f64, self.elapsed))),
            ("latency_us", quantiles(&ledger.each)),
            ("last_follower_us", quantiles(&ledger.last)),
            ("mean_of_each_follower_us", quantiles(&ledger.means())),
            ("client_cpu_us_per_delivery", cpu_each(self.cpu, counts.deliveries)),
        ]);
        all.extend(client(self.cpu, self.elapsed));
        all
    }

    fn notes(&self) -> Vec<&'static str> {
        noted([
            (
                self.publishes.is_none(),
                "latency is from the service's clock to this one: right only if they are the same",
            ),
            (
                self.publishes.is_none() && self.ledger.changes() == 0,
                "nothing was published that matches: there was nothing to measure",
            ),
            (
                self.publishes.as_ref().is_some_and(Tally::is_late),
                "publishes started late: there was no processor for them, or too many were under way",
            ),
            (self.ledger.lost() > 0, "latencies are those of what came: what was lost is not among them"),
            (is_saturated(self.cpu, self.elapsed), SATURATED_NOTE),
            (self.interrupted, INTERRUPTED_NOTE),
        ])
    }

    fn problem(&self) -> Option<String> {
        let (ledger, counts) = (&self.ledger, &self.ledger.counts);
        let lost = if self.cut_short { 0 } else { ledger.lost() };
        let publishes = |of: fn(&Tally) -> u64| self.publishes.as_ref().map_or(0, of);
        let unanswered = if self.interrupted { 0 } else { publishes(Tally::unanswered) };
        problems([
            (publishes(Tally::failed), "publishes failed"),
            (unanswered, "publishes were not answered"),
            (lost, "deliveries were lost"),
            (counts.twice, "came twice"),
            (counts.out_of_order, "came out of order"),
            (sum(&counts.wrong), "were wrong"),
            (sum(&counts.ended), "feeds ended"),
            (self.left, "published articles could not be removed"),
        ])
    }
}

fn sum<'a, K: 'a>(of: impl IntoIterator<Item = (&'a K, &'a u64)>) -> u64 {
    of.into_iter().map(|(_, n)| n).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::watch::ledger::Heard;

    /// Returns a report of two changes and two followers, the second of which has not received the second change.
    fn report() -> Report {
        let mut ledger = Ledger::new(2);
        ledger.begin();
        for (follower, revision) in [(0, 6), (1, 6), (0, 7)] {
            let latency = Duration::from_millis(3);
            ledger.hear(follower, &Heard { revision, name: "a", hash: 1, bytes: 9, leaves: false, latency });
        }
        Report {
            setting: vec![("followers", 2.into())],
            publishes: None,
            ledger,
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(3),
            interrupted: false,
            cut_short: false,
            left: 0,
        }
    }

    #[test]
    fn what_is_lost_is_a_problem_unless_nobody_waited_for_it() {
        let mut report = report();
        let json = report.json();
        assert_eq!((&json["changes"], &json["deliveries"], &json["lost"]), (&json!(2), &json!(3), &json!(1)));
        assert_eq!(json["client_cpu_us_per_delivery"], json!(1_000.0));
        assert_eq!(report.problem().unwrap(), "1 deliveries were lost");
        report.cut_short = true;
        assert_eq!(report.problem(), None);
    }

    #[test]
    fn faults_are_told_each_with_its_number() {
        let mut report = report();
        report.cut_short = true;
        report.ledger.counts.twice = 2;
        report.ledger.counts.ended.insert("OUT_OF_RANGE".into(), 1);
        report.left = 4;
        let told = "2 came twice, 1 feeds ended, 4 published articles could not be removed";
        assert_eq!(report.problem().unwrap(), told);
    }

    #[test]
    fn whoever_measures_the_publishes_of_others_is_told_of_the_clocks() {
        assert!(report().notes()[0].contains("clock"));
        let own = Report { publishes: Some(Tally::new()), ..report() };
        assert!(!own.notes().iter().any(|note| note.contains("clock")));
    }
}
