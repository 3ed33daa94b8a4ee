//! The servers that Cable is compared with, each as its own process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::available_parallelism,
};

use super::{
    Content, grpc_go,
    tls::{SERVER_CORE, Tls},
    tools::{self, installed},
};
use crate::{
    Outcome,
    node::Program,
    process::{Process, free_address},
};

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

/// The inputs for starting the servers.
#[derive(Debug)]
pub(super) struct Rivals {
    root: PathBuf,
    tools: PathBuf,
    /// The limit's program.
    limit: PathBuf,
    scratch: PathBuf,
    /// The file of articles in the form for an import.
    records: PathBuf,
    /// The file of articles in the served form, each after its length.
    articles: PathBuf,
    /// Whether the servers run with TLS, and then on one core.
    tls: Option<Tls>,
}

/// The length of the prefix of each message in gRPC.
const PREFIX: u64 = 5;
/// The maximum size of a message in bytes. A larger body is one of several messages.
const LARGEST_MESSAGE: u64 = 1 << 20;

/// The path of the file that file servers serve.
pub(super) const FILE: &str = "/answer";

impl Rivals {
    pub(super) fn new(root: &Path, program: &Program, scratch: &Path, content: &Content) -> Rivals {
        let (root, scratch) = (root.to_owned(), scratch.to_owned());
        let (tools, limit) = (tools::home(program), program.limit());
        let (records, articles) = (content.records.clone(), content.articles.clone());
        Rivals { root, tools, limit, scratch, records, articles, tls: None }
    }

    /// Starts grpc-go and nginx with this certificate, each on one core.
    pub(super) fn with_tls(self, tls: Tls) -> Rivals {
        Rivals { tls: Some(tls), ..self }
    }

    /// Starts hyper with a body of about `bytes` bytes, framed in advance.
    pub(super) fn limit(&self, bytes: u64) -> Outcome<Server> {
        let messages = bytes.div_ceil(LARGEST_MESSAGE);
        let size = bytes / messages - PREFIX;
        start(|address| {
            let mut command = Command::new(&self.limit);
            command.args(["--listen", &address.to_string()]);
            command.args(["--size", &size.to_string(), "--messages", &messages.to_string()]);
            Ok(command)
        })
    }

    /// Starts an ordinary tonic service.
    pub(super) fn ordinary(&self) -> Outcome<Server> {
        start(|address| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["ordinary", "--listen", &address.to_string(), "--file"]).arg(&self.records);
            Ok(command)
        })
    }

    /// Starts grpc-go with a map; `codec` is `proto` or `encoded`.
    pub(super) fn grpc_go(&self, codec: &str) -> Outcome<Server> {
        let program = grpc_go::build(&self.root, &self.tools)?;
        start(|address| {
            let mut command = self.command(&program);
            command.args(["-listen", &address.to_string(), "-codec", codec, "-file"]).arg(&self.articles);
            if let Some(Tls { certificate, key, .. }) = &self.tls {
                command.arg("-certificate").arg(certificate).arg("-key").arg(key);
            }
            Ok(command)
        })
    }

    /// Starts nginx with a file of `size` bytes. It is faster with sendfile, but version 1.22 stops responding when 50
    /// connections make one request each.
    pub(super) fn nginx(&self, size: u64, sendfile: bool) -> Outcome<Server> {
        let sendfile = if sendfile { "on" } else { "off" };
        let home = self.home(&format!("nginx-sendfile-{sendfile}"), size)?;
        let program = installed("nginx", "nginx-light")?;
        start(|address| {
            let config = home.join("nginx.conf");
            fs::write(&config, nginx_config(&home, address, sendfile, self.tls.as_ref()))?;
            let mut command = self.command(&program);
            command.arg("-p").arg(&home).arg("-c").arg(&config).args(["-e", "stderr"]);
            Ok(command)
        })
    }

    /// Starts nghttpd with a file of `size` bytes.
    pub(super) fn nghttpd(&self, size: u64) -> Outcome<Server> {
        let (program, home) = (installed("nghttpd", "nghttp2-server")?, self.home("nghttpd", size)?);
        start(|address| {
            let mut command = Command::new(program);
            command.args([
                "--no-tls",
                "--address",
                &address.ip().to_string(),
                "-n",
                &cores().to_string(),
                "-d",
            ]);
            command.arg(home.join("www")).arg(address.port().to_string());
            Ok(command)
        })
    }

    /// Returns a command for a program, on the core of the servers with TLS.
    fn command(&self, program: &Path) -> Command {
        if self.tls.is_none() {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).arg(program);
        command
    }

    /// Creates a directory with a file to serve.
    fn home(&self, name: &str, size: u64) -> Outcome<PathBuf> {
        let home = self.scratch.join(name);
        fs::create_dir_all(home.join("www"))?;
        fs::write(home.join("www").join(&FILE[1..]), vec![b'x'; usize::try_from(size)?])?;
        Ok(home)
    }
}

fn start(command: impl FnOnce(SocketAddr) -> Outcome<Command>) -> Outcome<Server> {
    let address = free_address()?;
    let mut command = command(address)?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(Server { process: Process::serving(&mut command, address)?, address })
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Returns a configuration that is typical for fast serving of small files. By default nginx closes a connection after
/// 1,000 requests.
fn nginx_config(home: &Path, address: SocketAddr, sendfile: &str, tls: Option<&Tls>) -> String {
    let (home, workers) = (home.display(), if tls.is_some() { 1 } else { cores() });
    let (ssl, certificate) = match tls {
        Some(Tls { certificate, key, .. }) => {
            let (certificate, key) = (certificate.display(), key.display());
            (
                "ssl ",
                format!("ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"),
            )
        }
        None => ("", String::new()),
    };
    format!(
        "user root;
daemon off;
worker_processes {workers};
pid {home}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile {sendfile};
    tcp_nodelay on;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 200;
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen {address} {ssl}http2;
        {certificate}
        root {home}/www;
    }}
}}
"
    )
}
