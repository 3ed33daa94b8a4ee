//! The pages of a feed, which are fetched one after the other.

use std::{
    fs::File,
    io::{self, Read},
    time::Instant,
};

use cable_import::feed;
use indicatif::ProgressBar;
use tokio::runtime::Handle;

use super::with_cause;
use crate::cli::{fetch, note};

/// Adds all pages of a feed. The error states which one cannot be read, and why.
pub(super) fn add_all(
    feed: &mut feed::Feed,
    from: &str,
    runtime: &Handle,
    bar: &ProgressBar,
) -> Result<(), String> {
    let mut left = feed::MAX_BYTES;
    let end = Instant::now() + fetch::MAX_TOTAL_TIME;
    let mut page = first_page(from, runtime, left, end)?;
    loop {
        left = left.saturating_sub(page.bytes.len() as u64);
        let shown = page.address.as_ref().map_or_else(|| from.to_owned(), ToString::to_string);
        match feed.add(page).map_err(|error| format!("{shown}: {}", with_cause(&error)))? {
            feed::Next::End => return Ok(()),
            feed::Next::NotFollowed(next, reason) => {
                // Without it, the import is that of the pages so far.
                let _not_shown =
                    bar.suspend(|| note(&format!("the next page, {next}, is not imported: {reason}")));
                return Ok(());
            }
            feed::Next::Page(next) => {
                bar.set_message(format!("{} items, then {next}", feed.total()));
                page = fetched(runtime, next.clone(), left, end)?;
                let address = page.address.as_ref();
                if address.is_some_and(|address| address.host() != next.host()) {
                    return Err(format!("{next}: the next page redirects to another host"));
                }
            }
        }
    }
}

fn first_page(from: &str, runtime: &Handle, max_bytes: u64, end: Instant) -> Result<feed::Page, String> {
    if from.contains("://") {
        let url = from.parse().map_err(|error| format!("{from}: not an address: {error}"))?;
        return fetched(runtime, url, max_bytes, end);
    }
    let failed = |error: io::Error| format!("cannot read {from}: {error}");
    let mut bytes = Vec::new();
    let mut reader: Box<dyn Read> = match from {
        "-" => Box::new(io::stdin()),
        file => Box::new(File::open(file).map_err(failed)?),
    };
    // One byte more than allowed, which the feed refuses.
    reader.by_ref().take(max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(feed::Page { bytes, ..feed::Page::default() })
}

fn fetched(runtime: &Handle, url: feed::Url, max_bytes: u64, end: Instant) -> Result<feed::Page, String> {
    let fetch::Fetched { bytes, address, charset } = runtime.block_on(fetch::fetch(url, max_bytes, end))?;
    Ok(feed::Page { bytes, address: Some(address), charset })
}
