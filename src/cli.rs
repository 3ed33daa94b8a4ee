//! The command line: what can be asked for, how a failure is told, and which exit code it has.
//!
//! Commands that read or write content do it through the client crate like anybody else.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use cable_client::{Cable, Kind};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{config as settings, server, store};

mod article;
mod backup;
mod bench;
mod config;
mod export;
mod feed;
mod import;
mod mirror;
mod noun;
mod output;
mod pending;
mod progress;
mod rebuild;
mod replace;
mod restore;
mod serve;
mod status;

/// Where a server without settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";

const AFTER_HELP: &str = "\
Bare ids are accepted wherever a name is: `russia` for `tags/russia`.

Exit codes:
  0  done
  1  the call failed, or some of its items did; the server or the store did: a node of which a part failed,
     or that a second signal stopped, ends so
  2  wrong usage or settings
  3  there is nothing under that name or path, or no longer
  4  conflict: the etag is not the current one, the name exists, or the path is taken
  5  the service is unavailable, or did not answer in time";

/// Cable, a content-delivery service for publishers: the server, and the commands to use one.
#[derive(Debug, Parser)]
#[command(name = "cable", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Where the service is; several nodes with commas between them.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CABLE_ENDPOINTS",
        default_value = "http://127.0.0.1:7190"
    )]
    endpoint: String,
    /// What to print. Unset: a table on a terminal, JSON lines in a pipe.
    #[arg(short = 'o', long = "output-format", global = true, value_name = "FORMAT", value_enum)]
    output_format: Option<output::Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve(serve::Serve),
    #[command(flatten)]
    Call(Call),
    /// Copy the store of a server on this machine, while it runs.
    Backup(backup::Backup),
    /// Make a store from a backup. It is another history, with a new log id.
    Restore(restore::Restore),
    /// Prove the store of a server on this machine: everything that can be recomputed is.
    Verify(backup::Verify),
    /// Make a store anew from the entries of another, which shows that they are whole.
    Rebuild(rebuild::Rebuild),
    /// The settings of a server.
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What a service is asked for.
#[derive(Debug, Subcommand)]
enum Call {
    /// Articles.
    #[command(subcommand)]
    Article(article::Command),
    /// Authors.
    #[command(subcommand)]
    Author(noun::Command),
    /// Sections.
    #[command(subcommand)]
    Section(noun::Command),
    /// Tags.
    #[command(subcommand)]
    Tag(noun::Command),
    /// Collections: fronts and packages.
    #[command(subcommand)]
    Collection(noun::Command),
    /// Changes as they happen.
    #[command(subcommand)]
    Feed(feed::Command),
    /// Keep a file equal to what matches, until interrupted.
    Mirror(mirror::Mirror),
    /// Load content from a file. Repeating it does no harm.
    #[command(subcommand)]
    Import(import::Command),
    /// Write all content to a file or to standard output.
    Export(export::Export),
    /// What the service holds and how it is.
    Status,
    /// Load a service with reads or followers, check what it says, and measure. Meant for nodes of your own.
    #[command(subcommand)]
    Bench(Box<bench::Command>),
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments, or what they lead to, cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] settings::Error),
    /// The service did not do it.
    #[error(transparent)]
    Call(#[from] cable_client::Error),
    /// A feed cannot resume.
    #[error(transparent)]
    Resume(cable_client::Error),
    /// The server cannot run.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// There is no store to look at.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file or stream of this machine failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// It was done in part; what was not is told already.
    #[error("{0}")]
    Incomplete(String),
    /// Whoever read the output has seen enough.
    #[error("standard output was closed")]
    ClosedPipe,
}

impl Error {
    /// Writing to standard output failed.
    fn stdout(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Error::ClosedPipe,
            _ => Error::io("write to standard output", source),
        }
    }

    fn io(what: impl Into<String>, source: io::Error) -> Self {
        Error::Io { what: what.into(), source }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::ClosedPipe => 0,
            Error::Server(_) | Error::Open(_) | Error::Store(_) | Error::Io { .. } | Error::Incomplete(_) => {
                1
            }
            Error::Usage(_) | Error::Config(_) => 2,
            Error::Call(error) | Error::Resume(error) => match error.kind() {
                Kind::Config => 2,
                Kind::NotFound => 3,
                Kind::Aborted | Kind::AlreadyExists => 4,
                Kind::Unavailable | Kind::DeadlineExceeded => 5,
                _ => 1,
            },
        }
    }

    /// Everything that there is to say, one fact a line.
    fn tell(&self) -> String {
        match self {
            Error::Call(error) => tell_call(error, None),
            Error::Resume(error) => tell_call(error, Some("to start again with a snapshot, add --reset")),
            other => {
                let mut text = format!("cable: {other}");
                let mut source = std::error::Error::source(other);
                while let Some(cause) = source {
                    // Some errors repeat their cause in their own text.
                    let cause_text = cause.to_string();
                    if !text.contains(&cause_text) {
                        text += &format!(": {cause_text}");
                    }
                    source = cause.source();
                }
                text
            }
        }
    }
}

/// Code, reason and message, then the way out, the fields and what else the server said.
fn tell_call(error: &cable_client::Error, remedy: Option<&str>) -> String {
    let message = if error.message().is_empty() { String::new() } else { format!(": {}", error.message()) };
    let mut text = format!("cable: {}{message}", code_and_reason(error));
    if let Some(remedy) = remedy {
        text += &format!("\n  {remedy}");
    }
    for violation in error.violations() {
        let repeated = format!("{}: ", violation.field);
        let wrong = violation.description.strip_prefix(&repeated).unwrap_or(&violation.description);
        text += &format!("\n  field {repeated}{wrong}");
    }
    for (key, value) in error.metadata() {
        text += &format!("\n  {key}: {value}");
    }
    if error.may_have_applied() {
        text += "\n  it may have been done all the same";
    }
    text
}

/// `NOT_FOUND ARTICLE_GONE`, or the code alone if the server gave no reason.
fn code_and_reason(error: &cable_client::Error) -> String {
    let code = code_of(error.kind());
    match error.reason() {
        Some(reason) => format!("{code} {}", reason.as_str_name().trim_start_matches("ERROR_REASON_")),
        None => code,
    }
}

/// `NotFound` as gRPC spells it: `NOT_FOUND`.
fn code_of(kind: Kind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Does what the arguments of this process ask for, and says how it went.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_refusal) => {
            // Who closes the pipe on a help text has read enough of it.
            let _closed = help_or_refusal.print();
            return ExitCode::from(u8::try_from(help_or_refusal.exit_code()).unwrap_or(2));
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::ClosedPipe) => ExitCode::SUCCESS,
        Err(error) => {
            let _nowhere_to_say_it = writeln!(io::stderr(), "{}", error.tell());
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(Cli { global, command }: Cli) -> Result<(), Error> {
    let mut output = output::Output::stdout(global.output_format);
    match command {
        Command::Serve(serve) => {
            let runtime = runtime()?;
            let served = runtime.block_on(serve::run(serve, &mut output));
            // After a second signal nothing is waited for.
            runtime.shutdown_background();
            served
        }
        Command::Call(call) => runtime()?.block_on(Box::pin(ask(&global.endpoint, call, &mut output))),
        Command::Backup(backup) => backup::backup(backup, &mut output),
        Command::Restore(restore) => restore::run(restore, &mut output),
        Command::Verify(verify) => backup::verify(verify, &mut output),
        Command::Rebuild(rebuild) => rebuild::run(rebuild, &mut output),
        Command::Config(command) => config::run(command, &mut output),
        Command::Completion { shell } => completion(shell, &mut output),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Runtime::new().map_err(|source| Error::io("start", source))
}

async fn ask(endpoint: &str, call: Call, output: &mut output::Output) -> Result<(), Error> {
    let cable = Cable::builder(endpoint).build()?;
    match call {
        Call::Article(command) => article::run(command, &cable, output).await,
        Call::Author(command) => noun::author(command, &cable, output).await,
        Call::Section(command) => noun::section(command, &cable, output).await,
        Call::Tag(command) => noun::tag(command, &cable, output).await,
        Call::Collection(command) => noun::collection(command, &cable, output).await,
        Call::Feed(command) => feed::run(command, &cable, output).await,
        Call::Mirror(args) => mirror::run(args, &cable).await,
        Call::Import(command) => import::run(command, &cable, output).await,
        Call::Export(export) => export::run(export, &cable).await,
        Call::Status => status::run(&cable, output).await,
        Call::Bench(command) => bench::run(*command, endpoint, output).await,
    }
}

/// One line for people, on standard error: what was asked for goes to standard output.
fn note(text: &str) -> Result<(), Error> {
    writeln!(io::stderr(), "{text}").map_err(|source| Error::io("write to standard error", source))
}

fn completion(shell: clap_complete::Shell, output: &mut output::Output) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cable", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for code in 0..=5 {
            assert!(AFTER_HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn codes_are_spelt_as_in_grpc() {
        assert_eq!(code_of(Kind::NotFound), "NOT_FOUND");
        assert_eq!(code_of(Kind::Unavailable), "UNAVAILABLE");
    }

    #[test]
    fn a_refusal_is_told_with_code_reason_and_field_and_has_its_exit_code() {
        use tonic::{Code, Status};
        use tonic_types::{ErrorDetails, StatusExt as _};

        let mut details =
            ErrorDetails::with_error_info("FIELD_INVALID", "cable.v1", [("maximum".into(), "9".into())]);
        details.add_bad_request_violation("article.headline", "article.headline: it is required");
        let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
        let error = Error::from(cable_client::Error::from(status));
        assert_eq!(
            error.tell(),
            "cable: INVALID_ARGUMENT FIELD_INVALID: wrong\n  field article.headline: it is required\n  maximum: 9"
        );
        for (code, exit) in [
            (Code::InvalidArgument, 1),
            (Code::NotFound, 3),
            (Code::Aborted, 4),
            (Code::AlreadyExists, 4),
            (Code::Unavailable, 5),
            (Code::DeadlineExceeded, 5),
            (Code::Internal, 1),
        ] {
            assert_eq!(
                Error::from(cable_client::Error::from(Status::new(code, ""))).exit_code(),
                exit,
                "{code:?}"
            );
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = Error::io("read x", io::Error::other("no such thing"));
        assert_eq!(error.tell(), "cable: read x: no such thing");
        assert_eq!(error.exit_code(), 1);
        let error = Error::from(settings::Error::SameAddress("127.0.0.1:1".parse().unwrap()));
        assert_eq!(error.exit_code(), 2);
    }
}
