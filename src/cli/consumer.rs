//! `cable consumer`: lists and deletes consumers, the followers whose positions the service stores.

use cable_client::{Cable, v1};
use clap::Args;
use serde_json::Value;

use super::{
    Error, note,
    output::{Entity, Format, Output},
};

const COLUMNS: [(&str, &str); 6] = [
    ("OWNER", "owner"),
    ("CONSUMER", "consumer"),
    ("REVISION", "revision"),
    ("LAG", "lag"),
    ("BEHIND", "behind"),
    ("ACKNOWLEDGED", "acknowledged"),
];

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the consumers of the caller, with their lags.
    Ls(List),
    /// Delete a consumer with its position. Its next feed starts as if it were new.
    Rm(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print the consumers of all callers, which requires the role admin.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the consumer.
    name: String,
    /// Name of the credential to which it belongs, empty for callers without one. If unset, that of the caller. Another
    /// one requires the role admin.
    #[arg(long, value_name = "CREDENTIAL")]
    owner: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Ls(List { all }) => {
            let consumers = if all { cable.all_consumers().await? } else { cable.consumers().await? };
            print(&consumers, output)
        }
        Command::Rm(Remove { name, owner }) => {
            cable.delete_consumer(&name, owner.as_deref()).await?;
            note(&format!("deleted {name}"))
        }
    }
}

fn print(consumers: &[v1::Consumer], output: &mut Output) -> Result<(), Error> {
    let values: Vec<Value> = match output.format() {
        Format::Id => return consumers.iter().try_for_each(|consumer| output.text(&consumer.consumer)),
        Format::Table => consumers.iter().map(row).collect(),
        Format::Json | Format::Jsonl => {
            consumers.iter().map(|consumer| Entity::of("cable.v1.Consumer", consumer).value()).collect()
        }
    };
    output.objects(&COLUMNS, &values)
}

/// Returns the columns for people.
fn row(consumer: &v1::Consumer) -> Value {
    let time = consumer.acknowledge_time;
    let acknowledged = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    serde_json::json!({
        "owner": consumer.owner,
        "consumer": consumer.consumer,
        "revision": consumer.position.as_ref().map_or(0, |position| position.revision).to_string(),
        "lag": lag(consumer),
        "behind": consumer.lag.map_or_else(String::new, |lag| format!("{} s", lag.seconds)),
        "acknowledged": acknowledged.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()),
    })
}

/// Describes how far a consumer is behind.
pub(crate) fn lag(consumer: &v1::Consumer) -> String {
    match consumer.reset_reason() {
        v1::FeedResetReason::Unspecified => consumer.lag_revisions.to_string(),
        v1::FeedResetReason::Compacted => "lost: compacted".to_owned(),
        v1::FeedResetReason::LogChanged => "lost: another log".to_owned(),
    }
}
