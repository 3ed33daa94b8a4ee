//! A proxy for HTTP/2 that knows calls: it fails single ones by rule, and records all of them.
//!
//! It is between the TCP proxy and the node in the cases that need it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A rule that makes calls fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The method, such as `PutArticle`.
    pub(crate) method: String,
    /// The number of calls that the rule applies to.
    #[serde(default = "once")]
    pub(crate) times: u32,
    /// The way in which these calls fail.
    pub(crate) fault: Fault,
}

fn once() -> u32 {
    1
}

/// The ways in which a call can fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The response is this status. The node does not see the call.
    Status {
        /// The number of the code.
        code: i32,
        /// The reason without prefix.
        reason: String,
        /// The delay that RetryInfo requests, in milliseconds.
        retry_ms: Option<u64>,
    },
    /// The node carries the call out, and its response is lost with the connection.
    LoseResponse,
    /// The node carries the call out, and its response never comes.
    KeepResponse,
}

/// A call that passed the gate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) at: Instant,
    /// The message of a unary call.
    pub(crate) message: Bytes,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
}

/// A gate on a port of its own. Dropping it closes everything.
pub(crate) struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    upstream: Arc<watch::Sender<SocketAddr>>,
    task: AbortHandle,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Gate {
    /// Starts a gate for a node at this address.
    pub(crate) async fn start(upstream: SocketAddr) -> io::Result<Gate> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let upstream = Arc::new(watch::Sender::new(upstream));
        let task = tokio::spawn(accept(listener, Arc::clone(&upstream), Arc::clone(&state))).abort_handle();
        Ok(Gate { address, state, upstream, task })
    }

    /// The address to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the node that new connections lead to.
    pub(crate) fn set_upstream(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Adds a rule. The first rule with the method of a call applies to it.
    pub(crate) fn add(&self, rule: Rule) {
        lock(&self.state).rules.push(rule);
    }

    /// Removes all rules.
    pub(crate) fn open(&self) {
        lock(&self.state).rules.clear();
    }

    /// The calls of a method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.state).calls.iter().filter(|call| call.method == method).cloned().collect()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, upstream: Arc<watch::Sender<SocketAddr>>, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let (address, state) = (*upstream.borrow(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(node) = TcpStream::connect(address).await else { return };
            let (_slower, _slower_too) = (client.set_nodelay(true), node.set_nodelay(true));
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(node));
            let Ok((sender, to_node)) = handshake.await else { return };
            let (cut, mut is_cut) = watch::channel(false);
            let service = hyper::service::service_fn(move |request| {
                respond(request, address, sender.clone(), Arc::clone(&state), cut.clone())
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let served = builder.serve_connection(TokioIo::new(client), service);
            tokio::select! {
                _closed = served => {}
                _lost = to_node => {}
                _cut = is_cut.wait_for(|cut| *cut) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Responds to a call by a rule or, without one, as the node does. An error closes the stream.
async fn respond(
    request: Request<Incoming>,
    node: SocketAddr,
    mut sender: SendRequest<Full<Bytes>>,
    state: Arc<Mutex<State>>,
    cut: watch::Sender<bool>,
) -> Result<Response<Body>, hyper::Error> {
    let (mut head, body) = request.into_parts();
    // Every call of the suite has one message.
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path().to_owned();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    let fault = record(&state, &method, &head.headers, &body);
    if let Some(Fault::Status { code, reason, retry_ms }) = &fault {
        return Ok(refusal(*code, reason, *retry_ms, head.headers.get(header::CONTENT_TYPE)));
    }
    head.version = Version::HTTP_2;
    head.uri = format!("http://{node}{path}").parse().unwrap_or_default();
    for name in [header::CONNECTION, header::HOST, header::TRANSFER_ENCODING, header::UPGRADE] {
        head.headers.remove(name);
    }
    let response = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
    match fault {
        None => Ok(response.map(BodyExt::boxed)),
        Some(lost) => {
            // The call has been carried out once its response is complete.
            let _response = response.into_body().collect().await?;
            if let Fault::LoseResponse = lost {
                cut.send_replace(true);
            }
            std::future::pending().await
        }
    }
}

/// Records a call, and returns what happens to it.
fn record(state: &Mutex<State>, method: &str, headers: &HeaderMap, body: &Bytes) -> Option<Fault> {
    let mut state = lock(state);
    // The length and the flag of compression come before the message.
    let message = body.slice(body.len().min(5)..);
    let (method, headers) = (method.to_owned(), headers.clone());
    let index = state.rules.iter().position(|rule| rule.method == method && rule.times > 0);
    state.calls.push(Call { method, at: Instant::now(), message, headers });
    let rule = state.rules.get_mut(index?)?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

/// Returns the response that consists of a status only.
fn refusal(
    code: i32,
    reason: &str,
    retry_ms: Option<u64>,
    content_type: Option<&HeaderValue>,
) -> Response<Body> {
    let mut details = ErrorDetails::with_error_info(reason, "cable.v1", std::collections::HashMap::new());
    if let Some(delay) = retry_ms {
        details.set_retry_info(Some(Duration::from_millis(delay)));
    }
    let status = Status::with_error_details(Code::from_i32(code), "refused by the suite", details);
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    let _header_of_the_suite = status.add_header(response.headers_mut());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    response
}
