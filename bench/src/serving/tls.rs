//! GetArticle over TLS, beside grpc-go and nginx with the same certificate: every server on one core, h2load on the
//! other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
};

use clap::builder::RangedU64ValueParser;

use super::{
    CABLE, Content, Contestant, GO, GO_ENCODED, NGINX,
    load::{Load, Loader},
    measure_rounds, output,
    results::Results,
    rivals::{FILE, Rivals},
    target,
    tools::{installed, run as run_tool},
};
use crate::{
    Outcome,
    machine::machine,
    node::{Node, Program},
    process::free_address,
};

mod followers;

/// The number of articles in the store.
const ARTICLES: u64 = 1_000;
/// The core of the servers. h2load has the other one.
pub(super) const SERVER_CORE: &str = "0";
/// The cases, each with its connections and the concurrent calls on each.
const CASES: [(&str, u32, u32, &str); 2] = [
    ("tls", 16, 10, "GetArticle over TLS, 16 connections of 10 streams"),
    ("tls-50", 50, 1, "GetArticle over TLS, 50 connections of 1 stream"),
];
/// The cipher of every server: h2load's OpenSSL offers no other.
const OPENSSL: &str = "openssl_conf = default
[default]
ssl_conf = ssl
[ssl]
system_default = system
[system]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Number of rounds, each with all servers.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Number of calls to a server in a round.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    calls: u64,
    /// Number of followers whose memory is measured.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    followers: u32,
    /// Server program to measure instead of the current one.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Print the results and write no files.
    #[arg(long)]
    print: bool,
}

/// A certificate for localhost, and the configuration of h2load's OpenSSL.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) openssl: PathBuf,
}

impl Tls {
    fn create(scratch: &Path) -> Outcome<Tls> {
        let path = |name: &str| scratch.join(name);
        let tls = Tls { certificate: path("tls.pem"), key: path("tls.key"), openssl: path("openssl.cnf") };
        fs::write(&tls.openssl, OPENSSL)?;
        let mut command = Command::new(installed("openssl", "openssl")?);
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        // Certificates that may sign others are not accepted as those of a server.
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-keyout").arg(&tls.key).arg("-out").arg(&tls.certificate);
        run_tool(&mut command)?;
        Ok(tls)
    }

    /// Returns the settings of a node with this certificate.
    fn settings(&self) -> [(&'static str, &Path); 2] {
        [("CABLE__TLS__CERTIFICATE", &self.certificate), ("CABLE__TLS__KEY", &self.key)]
    }
}

/// Measures, and writes the results.
///
/// # Errors
/// Fails if a program is missing, if a server does not start, or if a call does not return the expected response.
pub(crate) fn run(root: &Path, options: &Options) -> Outcome<()> {
    let built = options.program.clone().map(Program::at);
    let program = built.map_or_else(|| Program::build(root), Ok)?;
    let scratch = tempfile::tempdir()?;
    let tls = Tls::create(scratch.path())?;
    let machine = machine();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let content = runtime.block_on(Content::prepare(&program, scratch.path(), ARTICLES))?;
    let mut results = Results::new(machine, options.rounds);
    measure_calls(root, &program, scratch.path(), content, &tls, options, &mut results)?;
    let memory = runtime.block_on(followers::measure(&program, scratch.path(), &tls, options.followers))?;
    let (text, json) = (output::markdown(&results) + "\n" + &memory.markdown(), output::json(&results));
    eprintln!("\n{text}");
    if options.print {
        return Ok(());
    }
    let directory = root.join("bench/results");
    let json = serde_json::json!({ "calls": json, "followers": memory.json() });
    fs::write(directory.join("tls.json"), format!("{json:#}\n"))?;
    fs::write(directory.join("tls.md"), text)?;
    Ok(())
}

fn measure_calls(
    root: &Path,
    program: &Program,
    scratch: &Path,
    content: Content,
    tls: &Tls,
    options: &Options,
    results: &mut Results,
) -> Outcome<()> {
    let loader = Loader::new(program, scratch)?;
    let rivals = Rivals::new(root, program, scratch, &content).with_tls(tls.clone());
    let request = content.get(&content.article);
    // Another node serves the same store with TLS.
    drop(content.node);
    let node = serve(program, &scratch.join("store"), scratch, &tls.settings())?;
    let (address, process) = super::address_and_process(node)?;
    let target = target(scratch, address, "GetArticle", &request, Some(tls.openssl.clone()))?;
    let contestant = |name, process, target| {
        let response_bytes = loader.probe(&target)?;
        Outcome::Ok(Contestant { name, process, target, response_bytes })
    };
    let cable = contestant(CABLE, process, target.clone())?;
    let mut all = vec![cable];
    for (name, codec) in [(GO, "proto"), (GO_ENCODED, "encoded")] {
        let server = rivals.grpc_go(codec)?;
        let target = super::Target { address: server.address, ..target.clone() };
        all.push(contestant(name, Rc::new(server.process), target)?);
    }
    let server = rivals.nginx(all[0].response_bytes, true)?;
    let file = super::Target { address: server.address, path: FILE.to_owned(), request: None, ..target };
    all.push(contestant(NGINX, Rc::new(server.process), file)?);
    let all: Vec<_> = all.iter().collect();
    for (id, connections, streams, title) in CASES {
        let load = Load { connections, streams, calls: options.calls, rate: None, separate_cores: true };
        measure_rounds(results, (id, title), options.rounds, &all, |contestant| {
            loader.run(&contestant.process, &contestant.target, load, contestant.response_bytes)
        })?;
    }
    Ok(())
}

/// Starts a node on the core of the servers, with settings from the environment.
fn serve(program: &Program, data: &Path, scratch: &Path, settings: &[(&str, &Path)]) -> Outcome<Node> {
    let address = free_address()?;
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program.path());
    command.args(["serve", "--ops-listen", "off", "--listen", &address.to_string(), "--data"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).envs(settings.iter().copied());
    Node::start(command, address, &scratch.join("node.log"))
}
