//! `cable config`: what a server started here would run with.

use std::path::PathBuf;

use super::{Error, note, output::Output};
use crate::config::{Effective, Flag, Layers};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the settings in force as a settings file.
    Print {
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Check the settings and print nothing else.
    Check {
        #[command(flatten)]
        settings: Settings,
    },
}

/// Where settings come from, besides the environment.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// The settings file. Unset: ./cable.toml, else /etc/cable/cable.toml, else none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Settings {
    /// Everything that is known of the settings, flags last.
    pub(crate) fn load(self, flags: Vec<Flag>) -> Result<Effective, Error> {
        let effective = Effective::load(Layers::of_process(self.config, flags))?;
        effective.warnings().iter().try_for_each(|warning| note(&format!("cable: {warning}")))?;
        Ok(effective)
    }
}

/// Runs the command.
pub(crate) fn run(command: Command, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Print { origin, settings } => output.text(&settings.load(Vec::new())?.to_toml(origin)),
        Command::Check { settings } => settings.load(Vec::new()).map(drop),
    }
}
