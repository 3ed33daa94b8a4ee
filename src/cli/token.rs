//! `cable token`: creates, lists, replaces and revokes the credentials of a node on this machine.

use std::time::Duration;

use cable::{
    auth::{CredentialFile, Entry, NewCredential, Role, Rotation, Scope},
    clock::Clock,
    config,
};
use cable_client::v1::ArticleFilter;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Error, OutputFormat,
    article::Conditions,
    note,
    output::{Entity, Format, Output},
    serve::Data,
};

/// The time for which the tokens that `rotate` replaces remain valid.
const DEFAULT_OVERLAP: &str = "1d";

/// The columns of a listing.
const COLUMNS: [(&str, &str); 9] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("ROLE", "role"),
    ("FILTER", "filter"),
    ("CERTIFICATE", "certificate"),
    ("CREATED", "createTime"),
    ("EXPIRES", "expireTime"),
    ("LAST USED", "lastUseDate"),
    ("VALID", "valid"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a credential, and print its token. The token cannot be printed again.
    New(Box<New>),
    /// List the credentials.
    Ls(Ls),
    /// Create a token with the role and filter of an existing one, which expires after an overlap. Older ones end at
    /// once.
    Rotate(Rotate),
    /// Revoke credentials. Calls with them are refused, and their open feeds end, within 5 seconds.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Name of the caller, as logs show it.
    name: String,
    /// Role of the caller: reader, editor, publisher or admin, each including those before it.
    #[arg(long)]
    role: Role,
    /// Time for which the credential is valid, such as 90d, at most 3650d. If unset, it does not expire.
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires: Option<Duration>,
    /// Accept client certificates with this name instead of a token: CN:, DNS:, URI: or email:, and the name.
    #[arg(long, value_name = "KIND:NAME")]
    certificate: Option<String>,
    #[command(flatten)]
    data: Data,
    #[command(flatten, next_help_heading = "Filter of the articles that a reader sees")]
    filter: Conditions,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// Name of the caller.
    name: String,
    /// Time for which the existing token remains valid, at most 3650d.
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = DEFAULT_OVERLAP)]
    overlap: Duration,
    /// Time for which the new token is valid, such as 90d, at most 3650d. If unset, it does not expire.
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Id of the credential, or name of the caller, whose credentials are then all revoked.
    #[arg(value_name = "ID|NAME")]
    id_or_name: String,
    #[command(flatten)]
    data: Data,
}

/// Runs the command.
pub(crate) fn run(command: Command, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::New(new) => create(*new, output),
        Command::Ls(Ls { data, output }) => list(&file(data)?, &mut output.stdout()),
        Command::Rotate(Rotate { name, overlap, expires, data }) => {
            let file = file(data)?;
            let Rotation { token, ended } = file.rotate(&name, overlap, expires, now())?;
            print_token(&file, token.expose(), output)?;
            ended.iter().try_for_each(|id| {
                note(&format!("{id}: ended now; a name has at most two valid tokens ({name})"))
            })
        }
        Command::Revoke(Revoke { id_or_name, data }) => {
            for Entry { id, name, role, .. } in file(data)?.revoke(&id_or_name)? {
                output.text(&format!("{id}: revoked ({name}, {role})"))?;
            }
            Ok(())
        }
    }
}

fn create(new: New, output: &mut Output) -> Result<(), Error> {
    let New { name, role, expires, certificate, filter, data } = new;
    let file = file(data)?;
    let filter = Some(filter.to_message()).filter(|filter| *filter != ArticleFilter::default());
    let scope = filter.clone().map(Scope::new).transpose();
    let new = NewCredential { name: name.clone(), role, filter, lifetime: expires, certificate };
    match file.create(new, now())? {
        Some(token) => print_token(&file, token.expose(), output)?,
        None => {
            output.text(&format!("{name}: client certificates with this name have the role {role}"))?;
        }
    }
    match scope {
        Ok(Some(scope)) if !scope.has_feeds() => note(
            "this credential cannot open feeds: a feed needs a filter of one tag, any tags, one section or any authors",
        ),
        _ => Ok(()),
    }
}

fn file(data: Data) -> Result<CredentialFile, Error> {
    Ok(CredentialFile::new(data.config()?.credentials_path()))
}

fn now() -> i64 {
    Clock::system().now()
}

/// Prints a token alone on standard output, so that it can be written to a file.
fn print_token(file: &CredentialFile, token: &str, output: &mut Output) -> Result<(), Error> {
    output.text(token)?;
    note(&format!(
        "the token is not stored and cannot be shown again; its hash is in {}",
        file.path().display()
    ))
}

fn list(file: &CredentialFile, output: &mut Output) -> Result<(), Error> {
    let (entries, used) = (file.read()?, file.last_uses());
    if !file.path().exists() {
        note(&format!("no credentials: {} does not exist", file.path().display()))?;
    }
    let now = now();
    if output.format() == Format::Id {
        return entries.iter().try_for_each(|entry| output.text(&entry.id));
    }
    let values: Vec<_> = entries.iter().map(|entry| value(entry, used.get(&entry.id), now)).collect();
    output.objects(&COLUMNS, &values)
}

fn value(entry: &Entry, last_use: Option<&String>, now: i64) -> serde_json::Value {
    let mut value = json!({
        "id": entry.id,
        "name": entry.name,
        "role": entry.role.name(),
        "createTime": time(entry.created),
        "valid": entry.is_valid(now),
    });
    let optional = [
        ("certificate", entry.certificate().map(str::to_owned)),
        ("expireTime", entry.expires.map(time)),
        ("lastUseDate", last_use.cloned()),
    ];
    if let Some(scope) = &entry.scope {
        let filter = Entity::of("cable.v1.ArticleFilter", scope.filter()).into_message();
        value["filter"] = serde_json::to_value(filter).unwrap_or_default();
    }
    for (key, text) in optional {
        if let Some(text) = text {
            value[key] = text.into();
        }
    }
    value
}

fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map(|time| time.to_string()).unwrap_or_default()
}
