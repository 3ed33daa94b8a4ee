//! `cable serve`: runs a node until a signal stops it, and the demo.

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::mpsc, time::Duration};

use cable::{
    admin,
    clock::Clock,
    config::{Config, Effective, Flag, Layers},
    server::{self, Control, Reload},
    systemd::Notifier,
    telemetry::{self, LogLevel},
};
use cable_client::{Cable, RawRecord, v1::ImportOutcome};
use cable_import::jsonl::RecordJson;
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use listenfd::ListenFd;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{
    DEFAULT_ENDPOINT, Error,
    config::{self, Settings},
    note,
    output::Output,
};

/// A future that resolves with the name of the signal when the node must stop.
type Stop = BoxFuture<'static, &'static str>;

/// The time that the process has to end by itself after a second signal.
const ABORT_TIME: Duration = Duration::from_secs(1);

const DEMO_RECORDS: &str = include_str!("../../demo/newsroom.jsonl");

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Serve a small newsroom of sample articles from a temporary store, which is removed at the end.
    #[arg(long, conflicts_with = "data")]
    demo: bool,
    /// Address of gRPC and gRPC-Web.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of metrics and health over plain HTTP, or `off`.
    #[arg(long, value_name = "ADDRESS")]
    ops_listen: Option<String>,
    /// Serve addresses that other machines can reach without TLS.
    #[arg(long)]
    plaintext: bool,
    #[command(flatten)]
    data: Data,
}

/// The options that select a store.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// Directory of the data.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Data {
    /// Returns whether an option selects a store.
    pub(crate) fn is_given(&self) -> bool {
        self.data.is_some() || self.settings.is_given()
    }

    /// Returns the directory, by flag or by settings.
    pub(crate) fn dir(self) -> Result<PathBuf, Error> {
        Ok(self.config()?.store.dir)
    }

    /// Returns the settings of the node that uses the directory.
    pub(crate) fn config(self) -> Result<Config, Error> {
        Ok(config::load(self.layers(Vec::new()))?.into_config())
    }

    fn layers(self, mut flags: Vec<Flag>) -> Layers {
        flags.extend(self.data.map(|value| Flag { name: "--data", key: "store.dir", value }));
        self.settings.layers(flags)
    }
}

impl Serve {
    fn layers(self) -> Layers {
        let flag = |name, key| move |value| Flag { name, key, value };
        let flags = [
            self.listen.map(flag("--listen", "server.listen")),
            self.ops_listen.map(flag("--ops-listen", "server.ops_listen")),
            self.plaintext.then(|| flag("--plaintext", "server.plaintext")("true".to_owned())),
        ];
        self.data.layers(flags.into_iter().flatten().collect())
    }
}

/// Runs the command.
pub(crate) async fn run(serve: Serve, output: &mut Output) -> Result<(), Error> {
    let demo = serve.demo;
    let layers = serve.layers();
    let config = config::load(layers.clone())?.into_config();
    // The first lines of the demo are for people, who have no use for its log.
    let level = if demo && config.log.level == "info" { "warn,audit=off" } else { &config.log.level };
    let log_level = telemetry::init(level, config.log.format);
    // Check before the node listens: a client must not wait for a store that is refused.
    if !demo {
        admin::check_log_intact(&config.store.dir)?;
    }
    if demo {
        return serve_demo(config, output).await;
    }
    let variable = |name: &str| std::env::var(name).ok();
    let notifier = Notifier::from_variables(variable)
        .map_err(|source| Error::io("reach systemd at $NOTIFY_SOCKET", source))?;
    let reload = Reload::default();
    let reloader = Reloader {
        layers,
        running: config.clone(),
        log_level,
        node: reload.clone(),
        notifier: notifier.clone(),
    };
    let signals = Signals::listen(Hangup::Reload(Box::new(reloader)))?;
    let listener = listen(&config).await?;
    let node = |shutdown| {
        let control = Control { shutdown, reload, notifier };
        server::run(config, Clock::system(), listener, control)
    };
    run_until_stopped(node, std::future::pending(), signals).await
}

/// Returns the listener that systemd has passed, or else a new one.
async fn listen(config: &Config) -> Result<TcpListener, Error> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(server::listen("server.listen", config.server.listen).await?);
    }
    if passed.len() > 1 {
        return Err(Error::Usage(format!("expected one TCP socket from systemd, not {}", passed.len())));
    }
    let Some(listener) = passed.take_tcp_listener(0).ok().flatten() else {
        let problem =
            "the socket from systemd is not a TCP listener: set `ListenStream` to an address and a port";
        return Err(Error::Usage(problem.to_owned()));
    };
    let adopted = listener.local_addr().and_then(|address| {
        listener.set_nonblocking(true)?;
        Ok((address, TcpListener::from_std(listener)?))
    });
    let (address, listener) = adopted.map_err(|source| Error::io("use the socket from systemd", source))?;
    // The checks of the settings, such as the one for addresses without TLS, apply to `server.listen`.
    match address == config.server.listen {
        true => Ok(listener),
        false => Err(Error::Usage(format!(
            "the socket from systemd listens at {address}, but `server.listen` is {}: set both to the same address",
            config.server.listen
        ))),
    }
}

async fn serve_demo(mut config: Config, output: &mut Output) -> Result<(), Error> {
    if config.tls.certificate.is_some() {
        let problem = "the demo is served without TLS: remove `tls.certificate` and `tls.key`, or serve a store (`--data`)";
        return Err(Error::Usage(problem.to_owned()));
    }
    let signals = Signals::listen(Hangup::Stop)?;
    let listener = server::listen("server.listen", config.server.listen).await?;
    let address = listener.local_addr().map_err(|source| Error::io("listen", source))?;
    let store = tempfile::tempdir().map_err(|source| Error::io("create a directory for the demo", source))?;
    config.store.dir = store.path().join("store");
    config.store.reserve_bytes = 0;
    let node = |stop: Stop| server::run(config, Clock::system(), listener, stop.map(drop));
    run_until_stopped(node, load_demo(address, output), signals).await
}

/// The effect of SIGHUP.
enum Hangup {
    /// The node reads its files again. A service must not end because its operator has logged out.
    Reload(Box<Reloader>),
    /// The node stops. A demo ends with its terminal.
    Stop,
}

/// Reads again at a reload: the settings, and the files that the parts of the node read.
struct Reloader {
    layers: Layers,
    /// The settings that the node was started with.
    running: Config,
    log_level: LogLevel,
    node: Reload,
    notifier: Notifier,
}

impl Reloader {
    /// Takes over the settings that can change while the node runs, and names the others. The node reads its other
    /// files again even if the settings are invalid: a new certificate must not wait for a mistake there.
    fn reload(&self) {
        self.notifier.reloading();
        match Effective::load_again(self.layers.clone()) {
            Ok(loaded) => {
                self.take_over(&loaded);
                self.node.request();
            }
            Err(error) => {
                for error in error.each() {
                    let error = error as &dyn std::error::Error;
                    tracing::error!(error, "reload: invalid settings; the previous ones remain in effect");
                }
                self.node.request_without_settings();
            }
        }
        self.notifier.ready();
    }

    fn take_over(&self, loaded: &Effective) {
        let level = &loaded.config().log.level;
        // Before and after the change, because one of the levels may omit these lines.
        tracing::info!(level, "reloading");
        if let Err(error) = self.log_level.set(level) {
            tracing::error!(error, "reload: the log level cannot change");
        }
        let needing_restart = loaded.needing_restart(&self.running);
        if !needing_restart.is_empty() {
            let settings = needing_restart.join(" ");
            tracing::warn!(
                settings,
                "reload: these settings have changed; they take effect at the next start"
            );
        }
        tracing::info!(level, "reloaded");
    }
}

/// The signals that a node handles.
struct Signals {
    interrupts: Signal,
    terminations: Signal,
    hangups: Signal,
    hangup: Hangup,
}

impl Signals {
    fn listen(hangup: Hangup) -> Result<Signals, Error> {
        let failed = |source| Error::io("listen for signals", source);
        let signals = Signals {
            interrupts: signal(SignalKind::interrupt()).map_err(failed)?,
            terminations: signal(SignalKind::terminate()).map_err(failed)?,
            hangups: signal(SignalKind::hangup()).map_err(failed)?,
            hangup,
        };
        end_after_second_signal().map_err(failed)?;
        Ok(signals)
    }

    /// Waits for a signal that ends the node. Returns its name.
    async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupts.recv() => return "SIGINT",
                _ = self.terminations.recv() => return "SIGTERM",
                _ = self.hangups.recv() => match &self.hangup {
                    Hangup::Stop => return "SIGHUP",
                    Hangup::Reload(reloader) => reloader.reload(),
                },
            }
        }
    }
}

/// Starts a thread that ends the process after a second SIGTERM or SIGINT, even if all other threads are blocked: by a
/// disk that does not respond, or by a standard error that no process reads. Returns once it listens.
#[expect(clippy::exit, reason = "the main thread may be blocked, too")]
fn end_after_second_signal() -> io::Result<()> {
    let (listening, listens) = mpsc::channel();
    let listen = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(context);
        io::Result::Ok((runtime, signals))
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let (runtime, (mut interrupts, mut terminations)) = match listen() {
            Ok(listening) => listening,
            Err(error) => {
                let _ = listening.send(Err(error));
                return;
            }
        };
        let _ = listening.send(Ok(()));
        runtime.block_on(async {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
            }
            tokio::time::sleep(ABORT_TIME).await;
        });
        // Nothing is logged: that could block this thread, too.
        std::process::exit(1);
    })?;
    listens.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
}

/// Runs a node and `side_task`, until a signal arrives or `side_task` fails. The first signal drains the node; the second
/// one aborts the calls in flight.
async fn run_until_stopped<N>(
    node: impl FnOnce(Stop) -> N,
    side_task: impl Future<Output = Result<(), Error>>,
    mut signals: Signals,
) -> Result<(), Error>
where
    N: Future<Output = Result<(), server::Error>>,
{
    let (stop, stopped) = oneshot::channel();
    // Dropping the sender stops the node as well.
    let mut node = Box::pin(node(Box::pin(stopped.map(|signal| signal.unwrap_or("demo")))));
    let side_task = async {
        side_task.await?;
        std::future::pending::<Result<(), Error>>().await
    };
    let outcome = tokio::select! {
        ended = &mut node => return Ok(ended?),
        failed = side_task => {
            drop(stop);
            failed
        }
        signal = signals.stop() => {
            tracing::info!(signal, "stopping; a second signal aborts calls in flight");
            let _ended = stop.send(signal);
            Ok(())
        }
    };
    tokio::select! {
        ended = &mut node => outcome.and(ended.map_err(Error::from)),
        signal = signals.stop() => {
            outcome.and(Err(Error::Incomplete(format!("stopped by a second signal ({signal}) while draining"))))
        }
    }
}

/// Publishes the newsroom as an import does, then prints commands to try.
async fn load_demo(address: SocketAddr, output: &mut Output) -> Result<(), Error> {
    let endpoint = format!("http://{address}");
    let accepted = publish(&Cable::builder(endpoint.as_str()).build()?).await?;
    let printed = output.text(&greeting(&endpoint, accepted));
    // The demo continues even if its output has no reader.
    if let Err(Error::ClosedPipe) = printed { Ok(()) } else { printed }
}

/// Imports the newsroom and returns the number of records that the service has accepted.
async fn publish(cable: &Cable) -> Result<usize, Error> {
    let json = RecordJson::new();
    let encoded = DEMO_RECORDS.lines().map(|line| json.from_line(line));
    let records: Vec<Vec<u8>> =
        encoded.collect::<Result<_, _>>().map_err(|error| Error::Incomplete(error.to_string()))?;
    let mut acks = cable.import(stream::iter(records).map(|record| RawRecord::from_bytes(record.into())));
    let mut accepted = 0;
    while let Some(ack) = acks.next().await.transpose()? {
        let (refused, rest): (Vec<_>, Vec<_>) =
            ack.results.into_iter().partition(|result| result.outcome() == ImportOutcome::Refused);
        accepted += rest.len();
        for result in refused {
            note(&format!("{}: {}", result.name, result.error.unwrap_or_default().message))?;
        }
    }
    Ok(accepted)
}

fn greeting(endpoint: &str, records: usize) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "cable".to_owned());
    let option = if endpoint == DEFAULT_ENDPOINT { String::new() } else { format!(" --endpoint {endpoint}") };
    format!(
        "The Averil Packet, a newsroom of {records} records, is served at {endpoint} until you press Ctrl-C.\n\
         Open it in a browser, or try in another terminal:\n\n\
         \x20 {program} article ls --tag russia{option}\n\
         \x20 {program} article get station-lamp-23{option}\n\
         \x20 {program} collection get front{option}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_commands_refer_to_demo_records() {
        for name in ["tags/russia", "articles/station-lamp-23", "collections/front"] {
            assert!(DEMO_RECORDS.contains(&format!("{{\"name\":\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn only_another_endpoint_is_in_the_suggested_commands() {
        assert!(!greeting(DEFAULT_ENDPOINT, 1).contains("--endpoint"));
        assert_eq!(greeting("http://127.0.0.1:9", 1).matches("--endpoint http://127.0.0.1:9").count(), 3);
    }

    fn signals() -> Signals {
        Signals::listen(Hangup::Stop).unwrap()
    }

    #[tokio::test]
    async fn a_node_that_fails_ends_the_command() {
        let failed = || server::Error::Serve("broken".into());
        let node = |_stop| async move { Err(failed()) };
        assert!(matches!(
            run_until_stopped(node, std::future::pending(), signals()).await,
            Err(Error::Server(_))
        ));
    }

    #[tokio::test]
    async fn a_demo_that_fails_to_load_stops_its_node() {
        let node = |stop: Stop| async move {
            stop.await;
            Ok(())
        };
        let loading = async { Err(Error::Incomplete("no".into())) };
        assert!(matches!(run_until_stopped(node, loading, signals()).await, Err(Error::Incomplete(_))));
    }
}
