//! The feed over HTTP of two nodes that must respond alike.

use std::net::SocketAddr;

use serde_json::Value;

use super::{
    client::{Response, Twins},
    live::{Event, Events},
};

/// A function that normalizes a change or a record, or drops it.
pub(crate) type Normalize = fn(Value) -> Option<Value>;

/// A feed that is followed at both nodes.
pub(crate) struct FeedTwins {
    target: String,
    streams: [Events; 2],
    normalize: Normalize,
}

impl FeedTwins {
    /// Starts a feed at both nodes, and compares what they send until it has caught up. A snapshot leaves out what changes
    /// while it is read, so nothing may be written meanwhile.
    pub(crate) async fn open(twins: &Twins, target: String, normalize: Normalize) -> FeedTwins {
        let (first, second) =
            tokio::join!(start(twins, 0, &target, &[], normalize), start(twins, 1, &target, &[], normalize));
        let ((first, start), (second, other_start)) = (first.unwrap(), second.unwrap());
        assert_eq!(start, other_start, "{target}");
        FeedTwins { target, streams: [first, second], normalize }
    }

    /// Reads everything up to a revision, and checks that both nodes have sent the same records and changes. The
    /// division into events depends on timing, so it is not compared.
    pub(crate) async fn compare(&mut self, revision: i64) {
        let [first, second] = &mut self.streams;
        let first = read_up_to(first, revision, self.normalize).await;
        let second = read_up_to(second, revision, self.normalize).await;
        assert_eq!(first, second, "{}", self.target);
    }
}

/// Compares everything that one start sends at once at both nodes: the headers, and the events or the error.
pub(crate) async fn expect_equal(
    twins: &Twins,
    target: &str,
    headers: &[(&str, &str)],
    normalize: Normalize,
) -> Result<Vec<Event>, Response> {
    let (first, second) = tokio::join!(
        read_all(twins, 0, target, headers, normalize),
        read_all(twins, 1, target, headers, normalize)
    );
    assert_eq!(first, second, "{target} {headers:?}");
    first.map(|(_, events)| events)
}

/// The headers of a feed, and its events until it has caught up.
type Received = (Vec<String>, Vec<Event>);

async fn read_all(
    twins: &Twins,
    node: usize,
    target: &str,
    headers: &[(&str, &str)],
    normalize: Normalize,
) -> Result<Received, Response> {
    start(twins, node, target, headers, normalize).await.map(|(_, received)| received)
}

/// Starts a feed, and reads until it has caught up.
async fn start(
    twins: &Twins,
    node: usize,
    target: &str,
    headers: &[(&str, &str)],
    normalize: Normalize,
) -> Result<(Events, Received), Response> {
    let mut stream = open(twins, node, target, headers).await?;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        // The checkpoint of a feed that is still behind is not empty.
        let is_end = event.kind == "checkpoint" && event.data.as_object().unwrap().is_empty();
        events.extend(normalize_event(event, normalize));
        if is_end {
            break;
        }
    }
    let headers = stream.headers();
    Ok((stream, (headers, events)))
}

async fn open(
    twins: &Twins,
    node: usize,
    target: &str,
    headers: &[(&str, &str)],
) -> Result<Events, Response> {
    let (address, token): &(SocketAddr, Option<String>) = &twins.0[node];
    let token = token.as_ref().map(|token| format!("Bearer {token}"));
    let token = token.iter().map(|token| ("authorization", &token[..]));
    // A call without an id gets a new one.
    let id = [("x-request-id", "twin")];
    let headers: Vec<_> = headers.iter().copied().chain(token).chain(id).collect();
    Events::try_open(*address, target, &headers).await
}

/// Returns the list of an event that has records or changes.
fn items(event: &mut Event) -> Option<&mut Vec<Value>> {
    let list = match &event.kind[..] {
        "changes" => "changes",
        "snapshot" => "records",
        _ => return None,
    };
    event.data.get_mut(list).and_then(Value::as_array_mut)
}

/// Returns an event without the chain of its id, and with normalized records or changes. Returns none if none of those
/// is left.
fn normalize_event(mut event: Event, normalize: Normalize) -> Option<Event> {
    event.id = event.id.map(|id| {
        let (position, chain) = id.rsplit_once(':').unwrap();
        // Revision 0 has no chain.
        if chain.len() == 64 { format!("{position} {}", chain.len()) } else { id }
    });
    if let Some(items) = items(&mut event) {
        *items = std::mem::take(items).into_iter().filter_map(normalize).collect();
        if items.is_empty() {
            return None;
        }
    }
    Some(event)
}

async fn read_up_to(stream: &mut Events, revision: i64, normalize: Normalize) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    loop {
        let mut event = stream.next().await.expect("a feed does not end");
        assert_ne!(event.kind, "failed", "{event:?}");
        let kind = event.kind.clone();
        let found = items(&mut event).map(std::mem::take).unwrap_or_default();
        all.extend(found.into_iter().filter_map(normalize).map(|item| (kind.clone(), item)));
        let reached = event.id.as_ref().and_then(|id| id.split(':').nth(1)?.parse::<i64>().ok());
        if reached.is_some_and(|reached| reached >= revision) {
            assert!(!all.is_empty(), "each comparison follows a change that the feed has");
            return all;
        }
    }
}
