//! The memory of followers that receive nothing, each on a connection of its own, with TLS and without.

use std::{fmt::Write as _, fs, path::Path, thread::sleep, time::Duration};

use cable_client::{Cable, FeedFilter, Pem};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Tls, serve};
use crate::{Outcome, node::Program};

/// The number of connections that are opened at a time.
const OPENED_AT_ONCE: usize = 50;
/// The time after which a node has released what it needed to open the feeds only.
const SETTLED: Duration = Duration::from_secs(2);

/// The memory of a node for each idle follower, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    followers: u32,
    rows: Vec<(&'static str, f64)>,
}

impl Memory {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "**Memory of the node for each of {} idle followers, one per connection**\n\n| | KiB |\n| --- | ---: |\n",
            self.followers
        );
        for (name, bytes) in &self.rows {
            let _ = writeln!(text, "| {name} | {:.1} |", bytes / 1024.0);
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let rows: Vec<_> =
            self.rows.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes.round() })).collect();
        json!({ "followers": self.followers, "memory": rows })
    }
}

/// Measures both.
///
/// # Errors
/// Fails if a node does not start or a feed does not open.
pub(super) async fn measure(program: &Program, scratch: &Path, tls: &Tls, followers: u32) -> Outcome<Memory> {
    let plain = growth(program, &scratch.join("plain"), None, followers).await?;
    let encrypted = growth(program, &scratch.join("encrypted"), Some(tls), followers).await?;
    let rows = vec![("without TLS", plain), ("with TLS", encrypted), ("TLS alone", encrypted - plain)];
    Ok(Memory { followers, rows })
}

async fn growth(program: &Program, home: &Path, tls: Option<&Tls>, followers: u32) -> Outcome<f64> {
    fs::create_dir_all(home)?;
    let most = (followers * 2).to_string();
    let mut settings = vec![("CABLE__CONNECTIONS__MAX_PER_PEER", Path::new(&most))];
    settings.extend(tls.iter().flat_map(|tls| tls.settings()));
    let node = serve(program, &home.join("store"), home, &settings)?;
    let endpoint = match tls {
        Some(_) => node.endpoint.replace("http://127.0.0.1", "https://localhost"),
        None => node.endpoint.clone(),
    };
    let client = || {
        let builder = Cable::builder(&endpoint);
        match tls {
            Some(tls) => builder.ca(Pem::file(&tls.certificate)).build(),
            None => builder.build(),
        }
    };
    // The first followers make the node create what all of them share.
    let mut open = Vec::new();
    let mut start = 0;
    for number in 0..followers as usize + OPENED_AT_ONCE {
        if number == OPENED_AT_ONCE {
            sleep(SETTLED);
            start = node.memory()?;
        }
        let cable = client()?;
        let mut feed = cable.feed(FeedFilter::default()).from_now().open();
        // The first delivery is the position from which the feed starts.
        feed.next().await.ok_or("a feed ended")??;
        open.push((cable, feed));
    }
    sleep(SETTLED);
    let grown = node.memory()?.saturating_sub(start);
    drop(open);
    Ok(grown as f64 / f64::from(followers))
}
