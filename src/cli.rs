//! The command line: the commands, the messages of their failures, and the exit codes.
//!
//! Commands that read or write content use the client crate, as any other program does.

use std::{
    borrow::Cow,
    ffi::OsStr,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use cable_client::{Cable, ErrorKind, Violation};
use clap::{CommandFactory as _, Parser, Subcommand};

use self::{output::Output, service::Service};
use cable::{admin, auth::CredentialError, config as settings, server};

mod article;
mod audit;
mod backup;
mod bench;
mod changes;
mod check;
mod config;
mod consumer;
mod context;
mod contexts;
mod document;
mod edit;
mod export;
mod feed;
mod fetch;
mod import;
mod mirror;
mod noun;
mod nouns;
mod ops;
mod output;
mod pending;
mod progress;
mod put;
mod rebuild;
mod reference;
mod replace;
mod restore;
mod serve;
mod service;
mod status;
mod terminal;
mod token;
mod top;
mod unmatched;
mod version;

/// The address at which a server without settings listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7190";

/// The version and the commit that the program is built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CABLE_COMMIT"), ")");

/// The heading of the options that several commands have.
const COMMON_OPTIONS: &str = "Common options";

const AFTER_HELP: &str = "\
Bare ids are accepted wherever a name is: `russia` for `tags/russia`.

Exit codes:
  0  success
  1  a call or some of its items failed; the store or the server failed, or a second signal
     stopped the server
  2  invalid usage, settings or content
  3  not found, or removed
  4  conflict: etag mismatch, the name already exists, or the path is taken
  5  the service is unavailable or did not respond in time
  6  access denied: the token or client certificate is missing or not accepted, or lacks the role";

/// The exit code if no node can be reached, or none responds in time.
const UNAVAILABLE: u8 = 5;

/// The exit code if the caller is not authenticated, or lacks the permission for the call.
const DENIED: u8 = 6;

/// The remedy for a call without a valid token.
const AUTHENTICATE: &str = "give a token by --token-file, CABLE_TOKEN_FILE or CABLE_TOKEN, or use a context (`cable context --help`)";

/// Cable, a content-delivery service for publishers: the server, and the commands that use one.
#[derive(Debug, Parser)]
#[command(name = "cable", version = VERSION, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The option of all commands whose output has a format.
#[derive(Debug, clap::Args)]
struct OutputFormat {
    /// Output format. If unset, a table on a terminal and JSON lines in a pipe.
    #[arg(
        short,
        long = "output",
        global = true,
        value_name = "FORMAT",
        help_heading = COMMON_OPTIONS,
        value_enum
    )]
    output_format: Option<output::Format>,
}

/// The arguments of a command without any.
#[derive(Debug, clap::Args)]
struct NoArguments {}

/// The arguments of a command that calls a service, with its endpoint.
#[derive(Debug, clap::Args)]
struct WithService<A: clap::Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    service: Service,
}

/// The subcommands of a command that calls a service, with its endpoint.
#[derive(Debug, clap::Args)]
struct SubcommandWithService<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    service: Service,
}

/// The subcommands of a command that calls a service and prints the result, with its endpoint and output format.
#[derive(Debug, clap::Args)]
struct SubcommandWithOutput<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server.
    Serve(serve::Serve),
    #[command(flatten)]
    Call(Box<Call>),
    /// Create, list, replace and revoke the credentials of a server on this machine.
    #[command(subcommand)]
    Token(token::Command),
    /// Verify the audit log of a server.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show the calls, feeds and resources of a server, from its metrics.
    Top(top::Top),
    /// Back up the store of a server: on this machine, or with --endpoint or --context over gRPC. It may keep running.
    Backup(Box<WithService<backup::Backup>>),
    /// Create a store from a backup: another history, with a new log id.
    Restore(restore::Restore),
    /// Verify the store of a server on this machine: recompute everything that can be recomputed.
    Verify(backup::Verify),
    /// Create a store from the entries of another store, verifying each entry.
    Rebuild(rebuild::Rebuild),
    /// Print or check the settings of a server.
    #[command(subcommand)]
    Config(config::Command),
    /// Manage contexts: named endpoints with their certificates and token files.
    #[command(subcommand)]
    Context(context::Command),
    /// Print a completion script for a shell.
    Completion {
        /// Shell that the script is for.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command.
    Man(reference::Directory),
    /// Write the reference documents.
    #[command(hide = true)]
    Reference(reference::Directory),
}

/// A command that calls a service.
#[derive(Debug, Subcommand)]
enum Call {
    /// Read, publish and remove articles.
    Article(SubcommandWithOutput<article::Command>),
    /// Read, publish and remove authors.
    Author(SubcommandWithOutput<noun::Command>),
    /// Read, publish and remove sections.
    Section(SubcommandWithOutput<noun::Command>),
    /// Read, publish and remove tags.
    Tag(SubcommandWithOutput<noun::Command>),
    /// Read, publish and remove collections: fronts and packages.
    Collection(SubcommandWithOutput<noun::Command>),
    /// List and delete consumers: followers with a name, whose positions the service stores.
    Consumer(SubcommandWithOutput<consumer::Command>),
    /// Follow changes as they happen.
    Feed(SubcommandWithOutput<feed::Command>),
    /// Mirror matching content into a file until interrupted.
    Mirror(WithService<mirror::Mirror>),
    /// Import content from a file. A repetition replaces only unedited content.
    Import(SubcommandWithService<import::Command>),
    /// Export all content to a file or to standard output.
    Export(WithService<export::Export>),
    /// Print the status of the service: version, log, counts, sizes, digests and limits.
    Status(WithService<OutputFormat>),
    /// Check the service for a monitor: one line with performance data, and the exit codes of a Nagios plug-in.
    Check(WithService<check::Check>),
    /// Print the versions of this program and of the service, and a warning if they differ.
    Version(WithService<NoArguments>),
    /// Generate read or follower load, check the responses and report latency. Use it only against your own nodes.
    Bench(SubcommandWithOutput<Box<bench::Command>>),
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
    /// The version of a name is no longer the one whose etag is in a file.
    #[error(transparent)]
    FileEtag(cable_client::Error),
    /// A write would be refused because of the current version.
    #[error("{0}")]
    Conflict(String),
    /// Some documents were refused, which has been reported already.
    #[error("{message}")]
    Partial {
        /// The number of documents.
        message: String,
        /// The exit code of the first one.
        exit_code: u8,
    },
    /// An edited text could not be written back.
    #[error("{error}")]
    Kept {
        /// The failure.
        error: Box<Error>,
        /// The file that contains the text.
        file: PathBuf,
    },
    /// The server cannot run.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The credentials cannot be used or edited.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// An audit log cannot be verified.
    #[error("the audit log does not verify")]
    Audit(#[from] cable::audit::VerifyError),
    /// An operation on a store failed.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// A local file or stream failed.
    #[error("cannot {operation}")]
    Io {
        /// The operation that failed.
        operation: String,
        /// The cause.
        source: io::Error,
    },
    /// The command has reported a state that has an exit code.
    #[error("exit code {exit_code}")]
    Reported {
        /// The exit code.
        exit_code: u8,
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

    /// Returns the error of an operation on the store that `--data` selects.
    fn of_selected_store(error: admin::Error) -> Self {
        match error {
            admin::Error::NoStore(_) => Error::Usage(format!("{error}; select a store with --data")),
            error => Error::Admin(error),
        }
    }

    fn io(operation: impl Into<String>, source: io::Error) -> Self {
        Error::Io { operation: operation.into(), source }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Error::ClosedPipe => 0,
            Error::Usage(_) | Error::Config(_) | Error::Credential(CredentialError::Refused(_)) => 2,
            Error::Admin(admin::Error::Path { .. } | admin::Error::NoStore(_)) => 2,
            Error::Server(_)
            | Error::Admin(_)
            | Error::Credential(_)
            | Error::Audit(_)
            | Error::Io { .. }
            | Error::Incomplete(_) => 1,
            Error::Conflict(_) => 4,
            Error::Partial { exit_code, .. } | Error::Reported { exit_code } => *exit_code,
            Error::Kept { error, .. } => error.exit_code(),
            Error::Call(error) | Error::Resume(error) | Error::FileEtag(error) => match error.kind() {
                ErrorKind::Config | ErrorKind::InvalidArgument => 2,
                ErrorKind::NotFound => 3,
                ErrorKind::Aborted | ErrorKind::AlreadyExists => 4,
                ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => UNAVAILABLE,
                ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => DENIED,
                _ => 1,
            },
        }
    }

    /// Returns the message for standard error, one fact per line.
    fn describe(&self) -> String {
        match self {
            Error::Call(error) if error.kind() == ErrorKind::Unauthenticated => {
                describe_call_error(error, Some(AUTHENTICATE))
            }
            Error::Call(error) => describe_call_error(error, None),
            Error::Resume(error) => {
                describe_call_error(error, Some("to restart from a snapshot, add --allow-reset"))
            }
            Error::FileEtag(error) => describe_call_error(
                error,
                Some("the etag is the one in the file; to replace the current version, add --ignore-etag"),
            ),
            Error::Kept { error, file } => {
                let file = file.display();
                let text = error.describe();
                let remedy = format!("the text is in {file}: see `cable article diff {file}`, then put it");
                format!("{text}\n  {remedy}")
            }
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
fn describe_call_error(error: &cable_client::Error, remedy: Option<&str>) -> String {
    let message = if error.message().is_empty() {
        String::new()
    } else {
        // The library names the methods of its builder.
        let message = error.message().replace("set `ca`", "set `--ca`");
        format!(": {}", message.replace("`allow_plaintext_token`", "`--allow-plaintext-token`"))
    };
    let mut text = format!("cable: {}{message}", error.code_and_reason());
    if let Some(remedy) = remedy {
        text += &format!("\n  {remedy}");
    }
    for Violation { field, description, .. } in error.violations() {
        let description = description.strip_prefix(&format!("{field}: ")).unwrap_or(description);
        // The message of the server is often that of the first field.
        match (error.message().contains(description), error.message().contains(field.as_str())) {
            (true, true) => {}
            (true, false) => text += &format!("\n  field {field}"),
            (false, _) => text += &format!("\n  field {field}: {description}"),
        }
    }
    for (key, value) in error.metadata() {
        text += &format!("\n  {key}: {value}");
    }
    if error.may_have_applied() {
        text += "\n  the write may have been applied";
    }
    text
}

/// Runs the command that the arguments of this process give, and reports a failure on standard error.
#[must_use]
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_error) => {
            // A reader that closes the pipe needs no more of the help text.
            let _closed = print_usage(&help_or_error);
            return ExitCode::from(usage_exit_code(&help_or_error));
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::ClosedPipe) => ExitCode::SUCCESS,
        Err(Error::Reported { exit_code }) => ExitCode::from(exit_code),
        Err(error) => {
            let _unreportable = note(&error.describe());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Returns the exit code of help or a usage error. For a monitor, 2 would be a failure of the service.
fn usage_exit_code(help_or_error: &clap::Error) -> u8 {
    let is_check = std::env::args().nth(1).is_some_and(|command| command == "check");
    match help_or_error.use_stderr() {
        false => 0,
        true if is_check => check::UNKNOWN,
        true => 2,
    }
}

/// Prints help or a usage error. An error that repeats control characters of an argument is printed without style.
fn print_usage(help_or_error: &clap::Error) -> io::Result<()> {
    let plain = help_or_error.to_string();
    match terminal::escape(&plain) {
        Cow::Borrowed(_) if std::env::args_os().all(|arg| is_plain(&arg)) => help_or_error.print(),
        escaped => write!(io::stderr(), "{escaped}"),
    }
}

/// Returns whether an argument has no character that could control a terminal.
fn is_plain(argument: &OsStr) -> bool {
    matches!(terminal::escape(&argument.to_string_lossy()), Cow::Borrowed(_))
}

fn execute(Cli { command }: Cli) -> Result<(), Error> {
    let mut output = Output::stdout(None);
    match command {
        Command::Serve(serve) => {
            let runtime = runtime()?;
            let served = runtime.block_on(serve::run(serve, &mut output));
            // Do not wait for tasks, which still run after a second signal.
            runtime.shutdown_background();
            served
        }
        Command::Call(call) => runtime()?.block_on(Box::pin(run_call(*call))),
        Command::Token(command) => token::run(command, &mut output),
        Command::Audit(command) => audit::run(command, &mut output),
        Command::Top(top) => top::run(&top, &mut output),
        Command::Backup(backup) => backup::backup(*backup, &mut output),
        Command::Restore(restore) => restore::run(restore, &mut output),
        Command::Verify(verify) => backup::verify(verify, &mut output),
        Command::Rebuild(rebuild) => rebuild::run(rebuild, &mut output),
        Command::Config(command) => config::run(command, &mut output),
        Command::Context(command) => context::run(command),
        Command::Completion { shell } => completion(shell, &mut output),
        Command::Man(directory) => reference::man(directory),
        Command::Reference(directory) => reference::documents(directory),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Runtime::new().map_err(|source| Error::io("start the runtime", source))
}

impl OutputFormat {
    fn stdout(&self) -> Output {
        Output::stdout(self.output_format)
    }
}

impl<C: Subcommand> SubcommandWithOutput<C> {
    async fn run(
        self,
        run: impl AsyncFnOnce(C, &Cable, &mut Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        run(self.command, &self.service.client()?, &mut self.output.stdout()).await
    }
}

async fn run_call(call: Call) -> Result<(), Error> {
    match call {
        Call::Article(article) => article.run(article::run).await,
        Call::Author(author) => author.run(noun::author).await,
        Call::Section(section) => section.run(noun::section).await,
        Call::Tag(tag) => tag.run(noun::tag).await,
        Call::Collection(collection) => collection.run(noun::collection).await,
        Call::Consumer(consumer) => consumer.run(consumer::run).await,
        Call::Feed(feed) => feed.run(feed::run).await,
        Call::Mirror(mirror) => mirror::run(mirror.args, &mirror.service.client()?).await,
        Call::Import(import) => {
            import::run(import.command, &import.service.client()?, &mut Output::stdout(None)).await
        }
        Call::Export(export) => export::run(export.args, &export.service.client()?).await,
        Call::Status(status) => status::run(&status.service.client()?, &mut status.args.stdout()).await,
        Call::Check(check) => check::run(check.args, check.service.client(), &mut Output::stdout(None)).await,
        Call::Version(version) => version::run(&version.service.client()?, &mut Output::stdout(None)).await,
        Call::Bench(bench) => {
            bench::run(*bench.command, &bench.service.builder()?, &mut bench.output.stdout()).await
        }
    }
}

/// Prints a line for people on standard error: standard output is for the requested data.
fn note(text: &str) -> Result<(), Error> {
    writeln!(io::stderr(), "{}", terminal::escape(text))
        .map_err(|source| Error::io("write to standard error", source))
}

fn completion(shell: clap_complete::Shell, output: &mut Output) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cable", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for code in 0..=DENIED {
            assert!(AFTER_HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn a_call_error_has_code_reason_fields_and_exit_code() {
        use tonic::{Code, Status};
        use tonic_types::{ErrorDetails, StatusExt as _};

        let mut details =
            ErrorDetails::with_error_info("FIELD_INVALID", "cable.v1", [("maximum".into(), "9".into())]);
        details.add_bad_request_violation("article.headline", "article.headline: required");
        let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
        let error = Error::from(cable_client::Error::from(status));
        assert_eq!(
            error.describe(),
            "cable: INVALID_ARGUMENT FIELD_INVALID: wrong\n  field article.headline: required\n  maximum: 9"
        );
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("article.headline", "article.headline: required");
        details.add_bad_request_violation("article.dek", "too long");
        for message in ["article.headline: required", "required", "article.headline: required; 2 fields"] {
            let status = Status::with_error_details(Code::InvalidArgument, message, details.clone());
            let text = Error::from(cable_client::Error::from(status)).describe();
            assert_eq!(text.matches("required").count(), 1, "{text}");
            assert!(
                text.contains("article.headline") && text.ends_with("\n  field article.dek: too long"),
                "{text}"
            );
        }
        for (code, exit) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::Aborted, 4),
            (Code::AlreadyExists, 4),
            (Code::Unavailable, 5),
            (Code::DeadlineExceeded, 5),
            (Code::Unauthenticated, 6),
            (Code::PermissionDenied, 6),
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
    fn a_cause_is_printed_once() {
        let error = Error::io("read x", io::Error::other("no such thing"));
        assert_eq!(error.describe(), "cable: cannot read x: no such thing");
        assert_eq!(error.exit_code(), 1);
        let error = Error::from(settings::Error::SameAddress {
            keys: ["server.listen", "server.ops_listen"],
            address: "127.0.0.1:1".parse().unwrap(),
        });
        assert_eq!(error.exit_code(), 2);
    }
}
