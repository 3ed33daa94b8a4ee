//! `cable context`: adds, selects, prints and removes contexts.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::{
    Error, OutputFormat,
    contexts::{Context, Contexts, check_name},
    output::Output,
    service,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a context. Its endpoint, certificates and token file are checked, but no call is made.
    Add(Add),
    /// Select the context of commands that name none.
    Use {
        /// Name of the context.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Select no context.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List the contexts.
    Ls(OutputFormat),
    /// Print a context.
    Show {
        /// Name of the context. If unset, the current one.
        name: Option<String>,
        #[command(flatten)]
        output: OutputFormat,
    },
    /// Remove a context. The files that it names stay.
    Rm {
        /// Name of the context.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Name of the context.
    name: String,
    /// Endpoint of the service; separate several nodes with commas.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// File of the CA certificates to trust. If unset, those of the system.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File of the client certificate.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// File of the private key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Name for which the certificate of the server must be valid. If unset, the host of the endpoint.
    #[arg(long, value_name = "NAME")]
    domain_name: Option<String>,
    /// File of the token. Only its path is stored.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token over plaintext to other machines too.
    #[arg(long)]
    allow_plaintext_token: bool,
    /// Replace the context if it exists.
    #[arg(long)]
    replace: bool,
    /// Select the context too.
    #[arg(long = "use")]
    select: bool,
    #[command(flatten)]
    refused: service::RefusedToken,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Add(args) => add(args),
        Command::Use { name, .. } => Contexts::change(|contexts| {
            if let Some(name) = &name {
                contexts.get(name)?;
            }
            contexts.current = name;
            Ok(())
        }),
        Command::Ls(format) => list(&Contexts::load()?, &mut format.stdout()),
        Command::Show { name, output } => show(&Contexts::load()?, name.as_deref(), &mut output.stdout()),
        Command::Rm { name } => Contexts::change(|contexts| {
            contexts.get(&name)?;
            contexts.all.remove(&name);
            if contexts.current.as_ref() == Some(&name) {
                contexts.current = None;
            }
            Ok(())
        }),
    }
}

fn add(args: Add) -> Result<(), Error> {
    args.refused.check()?;
    check_name(&args.name).map_err(Error::Usage)?;
    let Add { name, replace, select, .. } = args;
    let context = Context {
        endpoint: Some(args.endpoint),
        ca: absolute(args.ca)?,
        client_cert: absolute(args.client_cert)?,
        client_key: absolute(args.client_key)?,
        domain_name: args.domain_name,
        token_file: absolute(args.token_file)?,
        allow_plaintext_token: args.allow_plaintext_token,
    };
    service::check(&context)?;
    Contexts::change(|contexts| {
        if !replace && contexts.all.contains_key(&name) {
            return Err(Error::Conflict(format!("context {name} exists; to replace it, add --replace")));
        }
        if select {
            contexts.current = Some(name.clone());
        }
        contexts.all.insert(name, context);
        Ok(())
    })
}

/// Returns the path from the root: a context is used in any directory.
fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| Error::io(format!("locate {}", path.display()), source))
    };
    path.as_deref().map(absolute).transpose()
}

fn list(contexts: &Contexts, output: &mut Output) -> Result<(), Error> {
    let objects: Vec<Value> =
        contexts.all.iter().map(|(name, context)| object(name, context, contexts)).collect();
    output.objects(&[("CURRENT", "current"), ("NAME", "name"), ("ENDPOINT", "endpoint")], &objects)
}

fn show(contexts: &Contexts, name: Option<&str>, output: &mut Output) -> Result<(), Error> {
    let none =
        || Error::Usage("no current context: name one, or select one by `cable context use`".to_owned());
    let name = name.or(contexts.current.as_deref()).ok_or_else(none)?;
    output.object(&object(name, contexts.get(name)?, contexts))
}

/// Returns a context as JSON: its name, whether it is the current one, and its settings.
fn object(name: &str, context: &Context, contexts: &Contexts) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), name.into());
    object.insert("current".to_owned(), (contexts.current.as_deref() == Some(name)).into());
    for (key, value) in context.settings() {
        let value = if key == "allow_plaintext_token" { true.into() } else { value.into() };
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}
