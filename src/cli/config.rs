//! `cable config`: the settings with which a server started here would run.

use std::path::PathBuf;

use cable::{
    config::{Effective, Flag, Layers},
    server,
};

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
    /// Check the settings and the files that they name: credentials, TLS, audit log. Print only problems. The exit code is 2
    /// for invalid settings, and 1 for files.
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
    /// Returns whether an option names a file.
    pub(crate) fn is_given(&self) -> bool {
        self.config.is_some()
    }

    /// Returns the layers of the settings: the file, the environment, and `flags` as the highest layer.
    pub(crate) fn layers(self, flags: Vec<Flag>) -> Layers {
        Layers::for_process(self.config, flags)
    }
}

/// Loads settings and prints the warnings.
pub(crate) fn load(layers: Layers) -> Result<Effective, Error> {
    let effective = Effective::load(layers)?;
    effective.warnings().iter().try_for_each(|warning| note(&format!("cable: {warning}")))?;
    Ok(effective)
}

/// Runs the command.
pub(crate) fn run(command: Command, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Print { origin, settings } => {
            output.text(&load(settings.layers(Vec::new()))?.to_toml(origin))
        }
        Command::Check { settings } => {
            let config = load(settings.layers(Vec::new()))?.into_config();
            Ok(server::check_files(&config)?)
        }
    }
}
