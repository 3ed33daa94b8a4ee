//! Traces: a collector receives the spans of calls, and one that does not respond changes nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cable::auth::Role;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::{
    connections::{places::metrics_contain, program::Program},
    raw::{Raw, request_bytes},
    tls::authority::Authority,
    watching::create,
};

/// The maximum time for an event that takes far less.
const PATIENCE: Duration = Duration::from_secs(30);

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f0670011223344";
const TEXT: &str = "canary-of-the-body-6021";
const GET: &str = "cable.v1.ContentService/GetArticle";
const PUT: &str = "cable.v1.PublishingService/PutArticle";

/// A collector, which passes on what it receives.
struct Collector {
    address: String,
    received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    spans: Vec<Span>,
    /// All requests that it received, encoded.
    bytes: Vec<u8>,
}

struct Service(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(tls: Option<Identity>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let mut server = Server::builder();
        if let Some(identity) = tls {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let server = server.add_service(TraceServiceServer::new(Service(sender)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Collector { address, received, spans: Vec::new(), bytes: Vec::new() }
    }

    async fn receive(&mut self) {
        let request = timeout(PATIENCE, self.received.recv()).await.expect("spans arrive").unwrap();
        self.bytes.extend(request.encode_to_vec());
        let resources = request.resource_spans.into_iter();
        self.spans.extend(resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans));
    }

    /// Waits for a span with an attribute. Removes and returns it.
    async fn find(&mut self, name: &str, key: &str, value: &str) -> Span {
        loop {
            let is_wanted = |span: &Span| span.name == name && text(span, key).as_deref() == Some(value);
            if let Some(at) = self.spans.iter().position(is_wanted) {
                return self.spans.remove(at);
            }
            self.receive().await;
        }
    }

    /// Waits for the span with a name that is a child of another.
    async fn child(&mut self, name: &str, parent: &Span) -> Span {
        loop {
            let is_wanted = |span: &Span| span.name == name && span.parent_span_id == parent.span_id;
            if let Some(at) = self.spans.iter().position(is_wanted) {
                return self.spans.remove(at);
            }
            self.receive().await;
        }
    }
}

/// Returns an attribute of a span as text.
fn text(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start(dir: &Path, collector: &str, env: &[(&str, &str)]) -> Program {
    let telemetry =
        [("CABLE__TELEMETRY__OTLP_ENDPOINT", collector), ("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0")];
    Program::start_serving_ops(dir, "true", &[&telemetry, env].concat())
}

async fn connect(program: &Program) -> Raw {
    Raw::at(&format!("http://{}", program.address)).await
}

fn put() -> serde_json::Value {
    let body = json!({"blocks": [{"paragraph": {"spans": [{"text": TEXT}]}}]});
    json!({"article": {"name": "articles/a", "headline": TEXT, "body": body}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_continues_the_trace_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = [create(dir.path(), "desk", Role::Publisher), create(dir.path(), "wire", Role::Reader)];
    let mut collector = Collector::start(None).await;
    let program = start(dir.path(), &collector.address, &[]);
    let raw = connect(&program).await;
    let call = |token: usize, method: &'static str, request, id: &'static str, flags: &'static str| {
        let bearer = format!("Bearer {}", tokens[token].expose());
        let (raw, trace) = (raw.clone(), format!("00-{TRACE}-{PARENT}-{flags}"));
        async move {
            let headers = [("authorization", &bearer[..]), ("x-request-id", id), ("traceparent", &trace)];
            raw.call_with(method, request, &headers).await
        }
    };
    call(0, "PutArticle", put(), "r-put", "01").await.unwrap();
    call(1, "GetArticle", json!({"name": "articles/a"}), "r-unrecorded", "00").await.unwrap();
    call(1, "GetArticle", json!({"name": "articles/a"}), "r-get", "01").await.unwrap();
    call(1, "GetArticle", json!({"name": "articles/b"}), "r-missing", "01").await.unwrap_err();
    call(1, "PutArticle", put(), "r-denied", "01").await.unwrap_err();
    raw.call_with("GetArticle", json!({"name": "articles/a"}), &[("x-request-id", "r-nobody")])
        .await
        .unwrap_err();

    for (name, id, code, principal) in [
        (PUT, "r-put", "OK", "desk"),
        (GET, "r-get", "OK", "wire"),
        (GET, "r-missing", "NOT_FOUND", "wire"),
        (PUT, "r-denied", "PERMISSION_DENIED", "wire"),
    ] {
        let span = collector.find(name, "cable.request_id", id).await;
        assert_eq!(
            (&hexadecimal(&span.trace_id)[..], &hexadecimal(&span.parent_span_id)[..]),
            (TRACE, PARENT)
        );
        assert_eq!(span.kind(), SpanKind::Server);
        assert!(span.end_time_unix_nano > span.start_time_unix_nano, "{span:?}");
        assert!(span.status.is_none(), "the caller's mistake is no failure: {span:?}");
        for (key, value) in [
            ("rpc.system.name", "grpc"),
            ("rpc.method", name),
            ("rpc.response.status_code", code),
            ("cable.principal", principal),
            ("client.address", "127.0.0.1"),
        ] {
            assert_eq!(text(&span, key).as_deref(), Some(value), "{key}: {span:?}");
        }
        if id == "r-put" {
            let append = collector.child("append", &span).await;
            let commit = collector.child("commit", &append).await;
            assert_eq!(text(&append, "cable.revision").as_deref(), Some("1"), "{append:?}");
            assert_eq!(text(&commit, "cable.group_appends").as_deref(), Some("1"), "{commit:?}");
            for child in [&append, &commit] {
                assert_eq!(
                    (hexadecimal(&child.trace_id).as_str(), child.kind()),
                    (TRACE, SpanKind::Internal)
                );
                assert!(child.status.is_none(), "{child:?}");
            }
        }
    }
    let ops = program.ops_address.unwrap();
    while !metrics_contain(ops, "cable_spans_exported_total 6").await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(metrics_contain(ops, "cable_spans_dropped_total 0").await);

    // A node that stops sends the spans that wait.
    call(1, "GetArticle", json!({"name": "articles/a"}), "r-last", "01").await.unwrap();
    program.signal("TERM");
    collector.find(GET, "cable.request_id", "r-last").await;
    assert_eq!(program.wait_for_exit(), Some(0));
    assert!(collector.spans.is_empty(), "calls that are not recorded: {:?}", collector.spans);
    let secrets = tokens.iter().map(|token| token.expose().rsplit_once('_').unwrap().1);
    for canary in secrets.chain([TEXT, "Bearer", "r-unrecorded", "r-nobody"]) {
        let found = collector.bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "{canary} is in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_other_calls_has_traces_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("Averil CA");
    let (roots, pair) = (dir.path().join("ca.pem"), authority.node());
    std::fs::write(&roots, authority.pem()).unwrap();
    let identity = Identity::from_pem(pair.certificate_pem(), pair.key_pem());
    // A collector with TLS. Its authority is among those of the system.
    let mut collector = Collector::start(Some(identity)).await;
    let address = collector.address.replace("127.0.0.1", "localhost");
    let env = [
        ("CABLE__TELEMETRY__OTLP_RATIO", "1"),
        ("CABLE__LOG__ACCESS", "1"),
        ("CABLE__LOG__FORMAT", "json"),
        ("SSL_CERT_FILE", roots.to_str().unwrap()),
    ];
    let program = start(&dir.path().join("store"), &address, &env);
    let raw = connect(&program).await;
    let mut traces = Vec::new();
    for id in ["r-1", "r-2"] {
        let headers = [("x-request-id", id)];
        raw.call_with("GetArticle", json!({"name": "articles/a"}), &headers).await.unwrap_err();
        let span = collector.find(GET, "cable.request_id", id).await;
        assert!(span.parent_span_id.is_empty(), "{span:?}");
        traces.push(hexadecimal(&span.trace_id));
    }
    assert_ne!(traces[0], traces[1]);
    let log = program.lines_within(Duration::from_secs(1)).join("\n");
    for trace in &traces {
        assert!(log.contains(&format!("\"trace_id\":\"{trace}\"")), "{trace} is not in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_does_not_respond_delays_no_call_and_no_stop() {
    // Connections are established, and no byte is read.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for collector in [silent.local_addr().unwrap(), closed] {
        let dir = tempfile::tempdir().unwrap();
        let env = [("CABLE__TELEMETRY__OTLP_RATIO", "1")];
        let program = start(dir.path(), &format!("http://{collector}"), &env);
        let raw = connect(&program).await;
        raw.call("PutArticle", put()).await.unwrap();
        let request = request_bytes("GetArticle", json!({"name": "articles/a"}));
        // More than the queue and a batch hold.
        for _ in 0..40 {
            let calls = (0..100).map(|_| raw.send_bytes("GetArticle", request.clone()));
            let replies =
                timeout(PATIENCE, futures_util::future::join_all(calls)).await.expect("no call waits");
            assert!(replies.iter().all(Result::is_ok));
        }
        let ops = program.ops_address.unwrap();
        assert!(metrics_contain(ops, "cable_spans_exported_total 0").await, "{collector}");
        assert!(!metrics_contain(ops, "cable_spans_dropped_total 0").await, "{collector}");
        let stop = Instant::now();
        program.signal("TERM");
        drop(raw);
        if collector != closed {
            program.wait_for_line("the collector has not taken the last spans");
        }
        assert_eq!(program.wait_for_exit(), Some(0));
        assert!(stop.elapsed() < PATIENCE, "{:?}", stop.elapsed());
    }
}
