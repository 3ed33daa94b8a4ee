//! The documentation of the metrics, from the registry itself.

use std::time::Duration;

use super::{Metrics, Outcome, Queue, metrics::ConsumerName};
use crate::health::Conditions;

/// A family of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name, without the suffixes of its samples.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The description of its value, in a sentence.
    pub help: String,
    /// The names of its labels, without those of buckets.
    pub labels: Vec<String>,
}

/// Returns the documentation of all metrics of a node, in the order in which it reports them.
#[must_use]
pub fn describe() -> Vec<Description> {
    let metrics = Metrics::new();
    metrics.add_samples();
    parse(&metrics.to_text())
}

impl Metrics {
    /// Gives each family with labels a sample.
    fn add_samples(&self) {
        for (method, streams) in [("GetArticle", false), ("Watch", true)] {
            let calls = self.for_method(method, streams);
            calls.start();
            calls.record(0, Duration::ZERO, None, 0);
        }
        self.set_conditions(&Conditions::default());
        self.count_denial("UNAUTHENTICATED");
        self.count_refused_write("STORE_FULL");
        drop(self.queue_length.get_or_create(&Queue::READ));
        drop(self.queue_refused.get_or_create(&Queue::READ));
        drop(self.queue_delay_seconds.get_or_create(&Queue::SERVE));
        drop(self.shed_calls("memory"));
        self.set_consumers(0, &[(ConsumerName::default(), (0, 0.0))].into());
        drop(self.backups.get_or_create(&Outcome { outcome: "sent" }));
    }
}

/// Returns the families of an OpenMetrics text.
fn parse(text: &str) -> Vec<Description> {
    let mut families: Vec<Description> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => families.push(Description {
                name: name.to_owned(),
                help: help.to_owned(),
                kind: String::new(),
                labels: Vec::new(),
            }),
            (Some("#"), Some("TYPE"), Some(_), Some(kind)) => {
                families
                    .iter_mut()
                    .next_back()
                    .into_iter()
                    .for_each(|family| kind.clone_into(&mut family.kind));
            }
            (Some(sample), ..) if sample != "#" => {
                families.iter_mut().next_back().into_iter().for_each(|family| family.add_labels(sample));
            }
            _ => {}
        }
    }
    families
}

impl Description {
    /// Adds the labels of a sample, such as `cable_rpc_total{method="Watch"}`. No label value of ours has a comma.
    fn add_labels(&mut self, sample: &str) {
        let Some((_, labels)) = sample.trim_end_matches('}').split_once('{') else { return };
        let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        for name in names.filter(|name| *name != "le") {
            if !self.labels.iter().any(|known| known == name) {
                self.labels.push(name.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::metrics::{Declaration, declarations},
        *,
    };

    #[test]
    fn each_family_is_described_with_its_labels() {
        let families = describe();
        let find = |name: &str| families.iter().find(|family| family.name == name).unwrap();
        let rpc = find("cable_rpc");
        assert_eq!((rpc.kind.as_str(), &rpc.labels[..]), ("counter", &["method".into(), "code".into()][..]));
        let seconds = find("cable_rpc_seconds");
        assert_eq!((seconds.kind.as_str(), &seconds.labels[..]), ("histogram", &["method".into()][..]));
        assert!(find("cable_connections").labels.is_empty());
        for family in &families {
            assert!(!family.kind.is_empty() && family.help.ends_with('.'), "{family:?}");
        }
    }

    /// A family without a sample would be described without its labels.
    #[test]
    fn each_family_has_a_sample() {
        let metrics = Metrics::new();
        metrics.add_samples();
        let text = metrics.to_text();
        let names: Vec<_> = describe().into_iter().map(|family| family.name).collect();
        for Declaration { name, .. } in declarations() {
            let name = name.trim_end_matches("_info");
            assert!(
                names.iter().any(|described| described.starts_with(name)),
                "{name}: extend `add_samples`"
            );
        }
        for family in describe() {
            let is_sample = |line: &str| line.starts_with(&family.name);
            assert!(text.lines().any(is_sample), "{}: extend `add_samples`", family.name);
        }
    }
}
