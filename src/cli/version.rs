//! `cable version`: the versions of this program and of the service.

use cable_client::Cable;

use super::{Error, VERSION, note, output::Output};

/// Runs the command.
pub(crate) async fn run(cable: &Cable, output: &mut Output) -> Result<(), Error> {
    output.text(&format!("client  {VERSION}\n"))?;
    let server = cable.status().await?.version;
    output.text(&format!("server  {server}\n"))?;
    match warning(env!("CARGO_PKG_VERSION"), &server) {
        Some(text) => note(&text),
        None => Ok(()),
    }
}

/// Returns a warning if the versions belong to different minor releases. The schema of one minor release is fixed.
fn warning(client: &str, server: &str) -> Option<String> {
    let minor = |version: &str| version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    (minor(client) != minor(server)).then(|| {
        format!(
            "cable: the client is {client} and the server {server}: docs/upgrading.md states what to expect"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_minor_release_causes_a_warning() {
        for (client, server, warns) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.1.7", false),
            ("0.1.0", "0.1.0-rc.1", false),
            ("0.1.0", "0.2.0", true),
            ("1.1.0", "2.1.0", true),
            ("0.1.0", "0.10.0", true),
            ("0.1.0", "", true),
        ] {
            assert_eq!(warning(client, server).is_some(), warns, "{client} {server}");
        }
    }
}
