//! `cable config`: the settings with which a server started here would run.

use std::path::PathBuf;

use cable::config::{Effective, Flag, Layers};

use super::{Error, note, output::Output};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the effective settings as a settings file.
    Print {
        /// Add the origin of each value.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Check the settings and print only problems.
    Check {
        #[command(flatten)]
        settings: Settings,
    },
}

/// The source of settings besides the environment.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// Settings file. If unset, ./cable.toml, else /etc/cable/cable.toml, else none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Settings {
    /// Loads the settings from the file, the environment and `flags`, the highest layer. Prints the warnings.
    pub(crate) fn load(self, flags: Vec<Flag>) -> Result<Effective, Error> {
        let effective = Effective::load(Layers::for_process(self.config, flags))?;
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
