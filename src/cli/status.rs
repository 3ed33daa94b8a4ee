//! `cable status`: prints the status of the service: version, log, counts, sizes, digests and limits.

use cable_client::{Cable, v1};

use super::{
    Error,
    output::{Entity, Format, Output},
};

/// Runs the command.
pub(crate) async fn run(cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let status = cable.status().await?;
    match output.format() {
        Format::Table => output.pairs(rows(&status)),
        Format::Json | Format::Jsonl => output.one(&Entity::of("cable.v1.GetStatusResponse", &status)),
        Format::Id => output.text(&status.head.unwrap_or_default().log_id),
    }
}

fn rows(status: &v1::GetStatusResponse) -> Vec<(String, String)> {
    let head = status.head.clone().unwrap_or_default();
    let counts = status.counts.unwrap_or_default();
    let started = status.start_time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    let mut rows = vec![
        ("version", status.version.clone()),
        ("started", started.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())),
        ("log", head.log_id),
        ("head revision", head.revision.to_string()),
        ("oldest revision", status.oldest_revision.to_string()),
        ("articles", counts.articles.to_string()),
        ("authors", counts.authors.to_string()),
        ("sections", counts.sections.to_string()),
        ("tags", counts.tags.to_string()),
        ("collections", counts.collections.to_string()),
        ("store", mebibytes(status.store_bytes)),
        ("cache", mebibytes(status.cache_bytes)),
        ("free disk", status.free_bytes.map_or_else(String::new, mebibytes)),
        ("conditions", status.conditions.join(", ")),
        ("consumers", status.consumers.as_ref().map_or_else(String::new, consumers)),
        ("content digest", base64(&status.content_digest)),
        ("log digest", base64(&status.log_digest)),
    ];
    let limits = status.limits.iter().map(|limit| (limit.name.as_str(), limit.maximum.to_string()));
    rows.push(("limits", String::new()));
    rows.extend(limits);
    rows.into_iter().map(|(heading, value)| (heading.to_owned(), value)).collect()
}

/// Describes the consumers, and the one that is furthest behind.
fn consumers(summary: &v1::ConsumerSummary) -> String {
    let lost = Some(summary.lost).filter(|lost| *lost > 0).map(|lost| format!("{lost} with a lost position"));
    let furthest = summary.furthest_behind.as_ref().map(|consumer| {
        let time = consumer.lag.map_or_else(String::new, |lag| format!(", {} s", lag.seconds));
        format!("{} is {} revisions{time} behind", consumer.consumer, consumer.lag_revisions)
    });
    let parts: Vec<_> = [Some(summary.count.to_string()), lost, furthest].into_iter().flatten().collect();
    parts.join("; ")
}

fn mebibytes(bytes: i64) -> String {
    let tenths = bytes.max(0) as u64 * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Returns a digest as canonical JSON has it, so that it has one form everywhere.
fn base64(digest: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_mebibytes_and_digests_as_in_json() {
        assert_eq!(mebibytes(0), "0.0 MiB");
        assert_eq!(mebibytes((3 << 20) + (1 << 19)), "3.5 MiB");
        assert_eq!(base64(&[0, 255, 16]), "AP8Q");
    }

    #[test]
    fn counts_and_limits_are_printed() {
        let mut status = v1::GetStatusResponse::default();
        let mut counts = v1::Counts::default();
        counts.articles = 40;
        status.counts = Some(counts);
        let mut limit = v1::Limit::default();
        limit.name = "article_bytes".into();
        limit.maximum = 1 << 20;
        status.limits = vec![limit];
        let rows = rows(&status);
        assert!(rows.contains(&("articles".into(), "40".into())));
        assert_eq!(rows.last(), Some(&("article_bytes".into(), "1048576".into())));
    }
}
