//! Spans of traces: what a node did for a call, and when. They are passed to a collector from a bounded queue, so that
//! no call waits for it.

use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::random;
use crate::config::Share;

/// The maximum number of spans that wait for the collector. Another one is dropped. They occupy some 1 MB.
const MAX_WAITING: usize = 2_048;

/// The place of a span: its trace, and its id in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
}

impl SpanContext {
    /// Returns the place of a new span in the same trace.
    pub(crate) fn child(self) -> SpanContext {
        SpanContext { span: random_id(), ..self }
    }
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) end: SystemTime,
    pub(crate) duration: Duration,
    /// Whether the node failed to do it.
    pub(crate) failed: bool,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
}

/// The side of a call that a span is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    Server,
    Internal,
}

/// The value of an attribute of a span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attribute {
    Static(&'static str),
    Text(String),
    Integer(i64),
    Float(f64),
}

/// Which calls are traced, and the queue of their spans.
#[derive(Debug, Clone)]
pub(crate) struct Spans(Option<Queue>);

#[derive(Debug, Clone)]
struct Queue {
    sender: mpsc::Sender<Span>,
    /// The share of calls without a trace of their caller that are traced.
    ratio: Share,
    dropped: Counter,
}

impl Spans {
    /// Returns spans that no collector takes: no call is traced.
    pub(crate) fn off() -> Spans {
        Spans(None)
    }

    /// Returns spans for a collector, and the end of their queue. `dropped` counts those that do not fit.
    pub(crate) fn new(ratio: Share, dropped: Counter) -> (Spans, mpsc::Receiver<Span>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Spans(Some(Queue { sender, ratio, dropped })), receiver)
    }

    /// Decides whether a call is traced. `parent` is the trace of its caller, and whether the caller records it: if it
    /// does not, the span would be the only one of its trace.
    pub(crate) fn start(&self, parent: Option<([u8; 16], bool)>) -> Option<SpanContext> {
        let queue = self.0.as_ref()?;
        let trace = match parent {
            Some((trace, is_recorded)) => is_recorded.then_some(trace)?,
            None => queue.ratio.takes(|| (random() >> 32) as u32).then(random_id)?,
        };
        Some(SpanContext { trace, span: random_id() })
    }

    /// Passes a span to the collector. It is dropped if too many wait.
    pub(crate) fn record(&self, span: Span) {
        let Some(queue) = &self.0 else { return };
        if queue.sender.try_send(span).is_err() {
            queue.dropped.inc();
        }
    }
}

/// Returns a random id, which is not 0.
fn random_id<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    for part in id.chunks_mut(8) {
        let number = random().max(1).to_be_bytes();
        part.copy_from_slice(&number[..part.len()]);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(ratio: &str) -> (Spans, mpsc::Receiver<Span>, Counter) {
        let dropped = Counter::default();
        let (spans, receiver) = Spans::new(ratio.parse().unwrap(), dropped.clone());
        (spans, receiver, dropped)
    }

    fn span(context: SpanContext) -> Span {
        Span {
            context,
            parent: None,
            name: "a".to_owned(),
            kind: SpanKind::Server,
            end: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            failed: false,
            attributes: vec![("a", Attribute::Static("b"))],
        }
    }

    #[test]
    fn the_flag_of_the_caller_decides_before_the_ratio() {
        for ratio in ["0", "0.5", "1"] {
            let (spans, _receiver, _) = spans(ratio);
            for _ in 0..100 {
                let recorded = spans.start(Some(([7; 16], true))).unwrap();
                assert_eq!(recorded.trace, [7; 16]);
                assert_ne!(recorded.span, [0; 8]);
                assert_eq!(spans.start(Some(([7; 16], false))), None);
            }
        }
        let share = |ratio| {
            let (spans, _receiver, _) = spans(ratio);
            (0..10_000).filter(|_| spans.start(None).is_some()).count()
        };
        assert_eq!((share("0"), share("1")), (0, 10_000));
        assert!((4_500..5_500).contains(&share("0.5")));
        assert_eq!(Spans::off().start(Some(([7; 16], true))), None);
    }

    #[test]
    fn ids_differ() {
        let (spans, _receiver, _) = spans("1");
        let started: Vec<_> = (0..1_000).filter_map(|_| spans.start(None)).collect();
        let traces: std::collections::HashSet<_> = started.iter().map(|context| context.trace).collect();
        let ids: std::collections::HashSet<_> =
            started.iter().flat_map(|context| [context.span, context.child().span]).collect();
        assert_eq!((traces.len(), ids.len()), (1_000, 2_000));
        assert!(started.iter().all(|context| context.child().trace == context.trace));
    }

    #[test]
    fn a_span_that_does_not_fit_is_counted() {
        let (spans, mut receiver, dropped) = spans("1");
        for _ in 0..MAX_WAITING + 3 {
            spans.record(span(spans.start(None).unwrap()));
        }
        assert_eq!(dropped.get(), 3);
        assert_eq!(receiver.try_recv().unwrap().name, "a");
        spans.record(span(spans.start(None).unwrap()));
        drop(receiver);
        spans.record(span(spans.start(None).unwrap()));
        assert_eq!(dropped.get(), 4);
    }
}
