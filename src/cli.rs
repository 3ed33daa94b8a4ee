//! The command line: the commands, the messages of their failures, and the exit codes.
//!
//! Commands that read or write content use the client crate, as any other program does.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use cable_client::{Cable, ErrorKind};
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

/// The address at which a server without settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";

/// The version and the commit that the program is built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CABLE_COMMIT"), ")");

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

/// Cable, a content-delivery service for publishers: the server, and the commands that use one.
#[derive(Debug, Parser)]
#[command(name = "cable", version = VERSION, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Endpoint of the service; separate several nodes with commas.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CABLE_ENDPOINTS",
        default_value = "http://127.0.0.1:7190"
    )]
    endpoint: String,
    /// Output format. If unset, a table on a terminal and JSON lines in a pipe.
    #[arg(short = 'o', long = "output-format", global = true, value_name = "FORMAT", value_enum)]
    output_format: Option<output::Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve(serve::Serve),
    #[command(flatten)]
    Call(Call),
    /// Back up the store of a server on this machine; the server may keep running.
    Backup(backup::Backup),
    /// Create a store from a backup: another history, with a new log id.
    Restore(restore::Restore),
    /// Verify the store of a server on this machine: recompute everything that can be recomputed.
    Verify(backup::Verify),
    /// Create a store from the entries of another store, verifying each entry.
    Rebuild(rebuild::Rebuild),
    /// Print or check the settings of a server.
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script for a shell.
    Completion {
        /// Shell that the script is for.
        shell: clap_complete::Shell,
    },
}

/// A command that calls a service.
#[derive(Debug, Subcommand)]
enum Call {
    /// Read, publish and remove articles.
    #[command(subcommand)]
    Article(article::Command),
    /// Read, publish and remove authors.
    #[command(subcommand)]
    Author(noun::Command),
    /// Read, publish and remove sections.
    #[command(subcommand)]
    Section(noun::Command),
    /// Read, publish and remove tags.
    #[command(subcommand)]
    Tag(noun::Command),
    /// Read, publish and remove collections: fronts and packages.
    #[command(subcommand)]
    Collection(noun::Command),
    /// Follow changes as they happen.
    #[command(subcommand)]
    Feed(feed::Command),
    /// Mirror matching content into a file until interrupted.
    Mirror(mirror::Mirror),
    /// Import content from a file. Repeating an import is harmless.
    #[command(subcommand)]
    Import(import::Command),
    /// Export all content to a file or to standard output.
    Export(export::Export),
    /// Print the status of the service: version, log, counts, sizes, digests and limits.
    Status,
    /// Generate read or follower load, check the responses and measure. Use it only against your own nodes.
    #[command(subcommand)]
    Bench(Box<bench::Command>),
}

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments, or the content that they refer to, are invalid.
    #[error("{0}")]
    Usage(String),
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] settings::Error),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] cable_client::Error),
    /// A feed cannot resume.
    #[error(transparent)]
    Resume(cable_client::Error),
    /// The server cannot run.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A local file or stream failed.
    #[error("{what}")]
    Io {
        /// The operation that failed.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The command was done only in part; the rest has been reported already.
    #[error("{0}")]
    Incomplete(String),
    /// The reader of standard output has closed it.
    #[error("standard output was closed")]
    ClosedPipe,
}

impl Error {
    /// Returns the error of a failed write to standard output.
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
                ErrorKind::Config => 2,
                ErrorKind::NotFound => 3,
                ErrorKind::Aborted | ErrorKind::AlreadyExists => 4,
                ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => 5,
                _ => 1,
            },
        }
    }

    /// Returns the message for standard error, one fact per line.
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

/// Describes a failed call: code, reason and message, then the remedy, the fields, the metadata of the server, and
/// whether the write may have been applied.
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

/// Returns code and reason, as in `NOT_FOUND ARTICLE_GONE`, or the code alone if the server gave no reason.
fn code_and_reason(error: &cable_client::Error) -> String {
    let code = code_of(error.kind());
    match error.reason() {
        Some(reason) => format!("{code} {}", reason.as_str_name().trim_start_matches("ERROR_REASON_")),
        None => code,
    }
}

/// Returns the name of a kind as gRPC spells it: `NOT_FOUND` for `NotFound`.
fn code_of(kind: ErrorKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Runs the command that the arguments of this process give, and reports a failure on standard error.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_refusal) => {
            // A reader that closes the pipe needs no more of the help text.
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
            // Do not wait for tasks, which still run after a second signal.
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

/// Prints a line for people on standard error: standard output is for the requested data.
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
        assert_eq!(code_of(ErrorKind::NotFound), "NOT_FOUND");
        assert_eq!(code_of(ErrorKind::Unavailable), "UNAVAILABLE");
    }

    #[test]
    fn a_refusal_is_told_with_code_reason_and_field_and_has_its_exit_code() {
        use tonic::{Code, Status};
        use tonic_types::{ErrorDetails, StatusExt as _};

        let mut details =
            ErrorDetails::with_error_info("FIELD_INVALID", "cable.v1", [("maximum".into(), "9".into())]);
        details.add_bad_request_violation("article.headline", "article.headline: required");
        let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
        let error = Error::from(cable_client::Error::from(status));
        assert_eq!(
            error.tell(),
            "cable: INVALID_ARGUMENT FIELD_INVALID: wrong\n  field article.headline: required\n  maximum: 9"
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
