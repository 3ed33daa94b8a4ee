//! Sends spans to a collector by OTLP over gRPC, on a thread of its own.

use std::{
    error::Error,
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{self as otlp, ResourceSpans, ScopeSpans, span, status},
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use super::super::request_id;
use crate::telemetry::{Attribute, Metrics, Span, SpanKind};

const THREAD_NAME: &str = "traces";

/// The maximum number of spans in one request.
const MAX_BATCH: usize = 512;

/// How long a span waits for others. It also bounds what is sent: `MAX_BATCH` spans in this time.
const INTERVAL: Duration = Duration::from_millis(250);

/// The maximum time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a batch is sent before it is dropped, and the pause after the first failure, which doubles.
const MAX_TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The maximum time for the spans that wait when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The time until a stopping node ignores an exporter that hangs.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// Bit 0 is W3C's flag of a recorded trace.
const SAMPLED: u32 = 1;

/// The handle of the thread. If it is dropped, the thread ends once it has no more spans.
pub(super) struct Exporter {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    /// Starts the thread. The collector need not be there.
    pub(super) fn start(
        endpoint: &str,
        queue: mpsc::Receiver<Span>,
        metrics: &Metrics,
    ) -> Result<Exporter, Box<dyn Error + Send + Sync>> {
        let mut target = Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(REQUEST_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("cable/", env!("CARGO_PKG_VERSION")))?;
        if endpoint.starts_with("https://") {
            target = target.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (exported, dropped) = (metrics.spans_exported.clone(), metrics.spans_dropped.clone());
        let endpoint = endpoint.to_owned();
        thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
            runtime.block_on(async {
                let client = TraceServiceClient::new(target.connect_lazy());
                let sender = Sender {
                    client,
                    endpoint,
                    queue,
                    batch: Vec::with_capacity(MAX_BATCH),
                    is_failing: false,
                    exported,
                    dropped,
                };
                sender.run(stopped).await;
            });
            drop(end);
        })?;
        Ok(Exporter { stop, ended })
    }

    /// Sends the spans that wait, for a limited time.
    pub(super) async fn stop(self) {
        // The thread has ended if it does not receive this.
        let _ended = self.stop.send(());
        let _hangs = timeout(STOP_TIMEOUT + STOP_MARGIN, self.ended).await;
    }
}

/// Sends batches of spans.
struct Sender {
    client: TraceServiceClient<Channel>,
    endpoint: String,
    queue: mpsc::Receiver<Span>,
    /// The spans that are being sent.
    batch: Vec<Span>,
    /// Whether the last request failed.
    is_failing: bool,
    exported: Counter,
    dropped: Counter,
}

impl Sender {
    /// Sends spans until the node stops, then the rest of them, and counts those that there is no time for.
    async fn run(mut self, stopped: oneshot::Receiver<()>) {
        // Dropping the handle is a stop, too.
        let stopped = async {
            let _either = stopped.await;
        };
        tokio::select! {
            () = self.send_all() => return,
            () = stopped => {}
        }
        self.queue.close();
        let _too_late = timeout(STOP_TIMEOUT, self.send_rest()).await;
        let lost = self.batch.len() + self.queue.len();
        if lost > 0 {
            self.dropped.inc_by(lost as u64);
            tracing::warn!(endpoint = self.endpoint, lost, "the collector has not taken the last spans");
        }
    }

    async fn send_all(&mut self) {
        while self.queue.recv_many(&mut self.batch, MAX_BATCH).await > 0 {
            sleep(INTERVAL).await;
            self.fill();
            self.send().await;
        }
    }

    /// Sends the batch that the stop interrupted, and what is left in the queue.
    async fn send_rest(&mut self) {
        loop {
            self.fill();
            if self.batch.is_empty() {
                return;
            }
            self.send().await;
        }
    }

    /// Adds the spans that wait to the batch, as far as there is room.
    fn fill(&mut self) {
        while self.batch.len() < MAX_BATCH
            && let Ok(span) = self.queue.try_recv()
        {
            self.batch.push(span);
        }
    }

    /// Sends the batch, and drops it if the collector does not take it.
    async fn send(&mut self) {
        let request = request(&self.batch);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=MAX_TRIES {
            match self.client.export(request.clone()).await {
                Ok(response) => {
                    let partial = response.into_inner().partial_success.unwrap_or_default();
                    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
                    self.finish(rejected.min(self.batch.len() as u64));
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
                    }
                    return;
                }
                Err(status) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let error = describe(&status);
                        let endpoint = &self.endpoint;
                        tracing::warn!(endpoint, error, "the collector takes no spans");
                    }
                    if !may_retry(status.code()) {
                        break;
                    }
                    if attempt < MAX_TRIES {
                        sleep(pause).await;
                        pause *= 2;
                    }
                }
            }
        }
        self.finish(self.batch.len() as u64);
    }

    /// Counts the spans of the batch, of which some were not taken, and empties it.
    fn finish(&mut self, rejected: u64) {
        self.exported.inc_by(self.batch.len() as u64 - rejected);
        self.dropped.inc_by(rejected);
        self.batch.clear();
    }
}

/// Whether the specification of OTLP allows to send a request again.
fn may_retry(code: Code) -> bool {
    use Code::{
        Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable, Unknown,
    };
    // `Unknown` is how the transport reports a connection that broke.
    matches!(
        code,
        Aborted
            | Cancelled
            | DataLoss
            | DeadlineExceeded
            | OutOfRange
            | ResourceExhausted
            | Unavailable
            | Unknown
    )
}

/// Returns the message of an error with its causes.
fn describe(status: &Status) -> String {
    let mut text = format!("{}: {}", cable_proto::code_name(status.code() as i32), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn request(spans: &[Span]) -> ExportTraceServiceRequest {
    let text = |text: &str| Attribute::Text(text.to_owned());
    let resource = Resource {
        attributes: vec![
            attribute("service.name", &Attribute::Static("cable")),
            attribute("service.version", &Attribute::Static(env!("CARGO_PKG_VERSION"))),
            // Made request ids begin with it.
            attribute("service.instance.id", &text(request_id::process())),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "cable".to_owned(), ..InstrumentationScope::default() };
    let spans = spans.iter().map(encode).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

fn encode(span: &Span) -> otlp::Span {
    let end = span.end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = end.saturating_sub(span.duration);
    let kind = match span.kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Internal => span::SpanKind::Internal,
    };
    let failed = otlp::Status { code: status::StatusCode::Error.into(), ..otlp::Status::default() };
    otlp::Span {
        trace_id: span.context.trace.to_vec(),
        span_id: span.context.span.to_vec(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end),
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        status: span.failed.then_some(failed),
        ..otlp::Span::default()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(key: &str, value: &Attribute) -> KeyValue {
    let value = match value {
        Attribute::Static(text) => Value::StringValue((*text).to_owned()),
        Attribute::Text(text) => Value::StringValue(text.clone()),
        Attribute::Integer(number) => Value::IntValue(*number),
        Attribute::Float(number) => Value::DoubleValue(*number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
