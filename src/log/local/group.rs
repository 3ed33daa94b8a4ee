//! A group of appends: it is written in one transaction, recorded, and acknowledged.

use std::time::{Duration, Instant, SystemTime};

use super::{Append, AppendResult, Recorder, THREAD_NAME, trace_span};
use crate::{
    health::Health,
    log::{Outcome, audited, commit},
    model::Revision,
    store::{self, Writer},
    supervise,
    telemetry::{Attribute, Span, SpanContext, SpanKind},
};

/// Writes a group and replies to each of its appends.
pub(super) fn write(writer: &mut Writer, group: Vec<Append>, health: &Health, recorder: &Recorder) {
    supervise::failpoint(THREAD_NAME, health);
    let start = Instant::now();
    let mut full = writer.check_space().err();
    let mut written = apply_group(writer, &group, full.as_ref(), recorder);
    if full.is_none()
        && let Err(error @ store::Error::NoSpace(_)) = &written
    {
        // The puts did not fit. Commits that only remove must not fail with them.
        full = Some(error.clone());
        written = apply_group(writer, &group, full.as_ref(), recorder);
    }
    let duration = start.elapsed();
    recorder.commit_seconds.record(duration);
    record_spans(&group, duration, &written, recorder);
    match written {
        Ok(responses) => acknowledge(writer, group.into_iter().zip(responses)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "group commit failed");
            for append in group {
                let _ = append.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Records the spans of the appends of a group whose calls are traced: from the queue to the disk, and in it the commit
/// that they share, which took `duration`.
fn record_spans(
    group: &[Append],
    duration: Duration,
    written: &Result<Vec<AppendResult>, store::Error>,
    recorder: &Recorder,
) {
    for (at, append) in group.iter().enumerate() {
        let (Some(call), Some(queued)) = (trace_span(&append.commits), append.queued) else { continue };
        let result = written.as_ref().map(|results| &results[at]);
        let span = |parent: SpanContext, name: &str, duration, failed, attributes| Span {
            context: parent.child(),
            parent: Some(parent.span),
            name: name.to_owned(),
            kind: SpanKind::Internal,
            end: SystemTime::now(),
            duration,
            failed,
            attributes,
        };
        let mut attributes = vec![("cable.commits", Attribute::Integer(append.commits.len() as i64))];
        let revision =
            result.ok().and_then(|result| result.as_ref().ok()).and_then(|outcomes| newest(outcomes));
        attributes.extend(revision.map(|revision| ("cable.revision", Attribute::Integer(revision))));
        let failed = !matches!(result, Ok(Ok(_)));
        let append = span(call, "append", queued.elapsed(), failed, attributes);
        let shared = vec![("cable.group_appends", Attribute::Integer(group.len() as i64))];
        recorder.spans.record(span(append.context, "commit", duration, written.is_err(), shared));
        recorder.spans.record(append);
    }
}

/// Returns the revision after the last of some commits.
fn newest(outcomes: &[Outcome]) -> Option<Revision> {
    outcomes.iter().rev().find_map(|outcome| match outcome {
        Outcome::Committed(_, position) => Some(position.revision),
        _ => None,
    })
}

/// Applies a group in one transaction. `full` is the reason why there is no space for puts; it is the reply to an
/// append that contains one.
fn apply_group(
    writer: &mut Writer,
    group: &[Append],
    full: Option<&store::Error>,
    recorder: &Recorder,
) -> Result<Vec<AppendResult>, store::Error> {
    let mut recorded = Vec::new();
    let written = writer.transact(|applier| {
        // The outcomes of each append; a put that a full disk rejects has none.
        let mut outcomes: Vec<Vec<Option<Outcome>>> = Vec::with_capacity(group.len());
        for append in group {
            let apply = |commit| commit::apply(applier, commit, full.is_some());
            outcomes.push(append.commits.iter().map(apply).collect::<Result<_, _>>()?);
        }
        // The lines are on disk before the changes are, also those of an append of which a part is rejected.
        let appended = group.iter().zip(&outcomes);
        let lines: Vec<_> =
            appended.flat_map(|(append, outcomes)| audited::lines(&append.commits, outcomes)).collect();
        recorder.audit.record(&lines)?;
        recorded = lines;
        let response = |outcomes: Vec<Option<Outcome>>| match (outcomes.iter().all(Option::is_some), full) {
            (false, Some(full)) => Err(full.clone()),
            _ => Ok(outcomes.into_iter().flatten().collect()),
        };
        Ok(outcomes.into_iter().map(response).collect())
    });
    match &written {
        Ok(_) => {
            recorder.sync_seconds.record(writer.last_commit());
            recorder.audit.committed(recorded);
        }
        Err(error) => recorder.audit.not_committed(writer.head_revision(), &recorded, error),
    }
    written
}

/// Replies to kills last, when their content is erased. The rest of the group need not wait for that.
fn acknowledge(writer: &mut Writer, written: impl Iterator<Item = (Append, AppendResult)>) {
    let (kills, others): (Vec<_>, Vec<_>) = written.partition(|(append, _)| append.erases());
    for (append, response) in others {
        let _ = append.reply.send(response);
    }
    if kills.is_empty() {
        return;
    }
    let erased = writer.erase();
    if let Err(error) = &erased {
        tracing::error!(error = error as &dyn std::error::Error, "erase after kill failed");
    }
    for (append, response) in kills {
        let _ = append.reply.send(erased.clone().and(response));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        log::{
            Commit,
            local::fixture::{commit, permit},
        },
        model::Kind,
        store::{
            Store,
            fixture::{self, article, open, removal},
        },
        wire::v1::RemovalReason,
    };

    /// Writes one group of appends and returns their replies.
    fn write_together(writer: &mut Writer, commits: Vec<Commit>) -> Vec<AppendResult> {
        let append = |commit| {
            let (reply, response) = oneshot::channel();
            (Append::new(vec![commit], reply, permit()), response)
        };
        let (group, responses): (Vec<_>, Vec<_>) = commits.into_iter().map(append).unzip();
        write(writer, group, &Health::default(), &Recorder::for_test());
        responses.into_iter().map(|mut response| response.try_recv().unwrap()).collect()
    }

    fn is_removed(store: &Store, response: &AppendResult) -> bool {
        matches!(&response.as_ref().unwrap()[..], [Outcome::Committed(..)])
            && store.head().live(Kind::Article) == 0
    }

    #[test]
    fn a_put_without_disk_space_does_not_fail_a_removal() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        write_together(&mut writer, vec![commit(article("a", "A", &[], 1), 0)]);
        fixture::fill(&writer);
        let large = || commit(article("b", &fixture::noise(1, 100_000), &[], 1), 0);
        let responses = write_together(&mut writer, vec![large()]);
        assert!(matches!(responses[..], [Err(store::Error::NoSpace(_))]), "{responses:?}");
        let kill = commit(removal("a", RemovalReason::Killed, 2), 1);
        let responses = write_together(&mut writer, vec![large(), kill, large()]);
        assert!(matches!(
            responses[..],
            [Err(store::Error::NoSpace(_)), Ok(_), Err(store::Error::NoSpace(_))]
        ));
        assert!(is_removed(&store, &responses[1]));
        assert_eq!((store.revision(), fixture::faults(dir.path())), (2, Vec::<String>::new()));
    }

    #[test]
    fn the_reserve_is_for_commits_that_only_remove() {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut writer) = open(dir.path());
        write_together(&mut writer, vec![commit(article("a", "A", &[], 1), 0)]);
        drop((store, writer));
        let options = store::Options {
            dir: dir.path().to_owned(),
            readers: 1,
            reserve_bytes: u64::MAX,
            health: Arc::default(),
        };
        let (store, mut writer) = Store::open(options, crate::model::LogId(7)).unwrap();
        let put = commit(article("b", "B", &[], 1), 0);
        let removes = commit(removal("a", RemovalReason::Deleted, 2), 1);
        let mut mixed = removes.clone();
        mixed.steps.extend(put.steps.clone());
        let responses = write_together(&mut writer, vec![put, mixed, removes]);
        assert!(matches!(
            responses[..],
            [Err(store::Error::Full { .. }), Err(store::Error::Full { .. }), Ok(_)]
        ));
        assert!(is_removed(&store, &responses[2]));
        assert_eq!((store.revision(), fixture::faults(dir.path())), (2, Vec::<String>::new()));
    }
}
