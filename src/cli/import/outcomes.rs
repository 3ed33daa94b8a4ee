//! The outcome of every input of an import, and the file of its report.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cable_client::{ImportAck, RawRecord, v1};
use cable_import::{ItemOutcome, report::Report};
use cable_proto::code_name;

use super::reading::{Input, Location};
use crate::cli::Error;

/// A shared log: inputs are added while the client requests records, results as they arrive.
#[derive(Clone)]
pub(super) struct SharedLog(Arc<Mutex<ImportLog>>);

impl SharedLog {
    pub(super) fn new(log: ImportLog) -> Self {
        SharedLog(Arc::new(Mutex::new(log)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ImportLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of every input so far, and the file of the report.
#[derive(Default)]
pub(super) struct ImportLog {
    pub(super) report: Report,
    lines: Option<(PathBuf, BufWriter<File>)>,
    /// The articles that the source does not show, for a look at the server.
    hidden: Vec<String>,
    /// The place of each record that has no result yet, the oldest first; `None` for a record of an item. There are at
    /// most as many as the client has in flight and in the chunk that it fills, and those of one item.
    in_flight: VecDeque<Option<Location>>,
    /// The error that ended the input early, or that a write of the report returned.
    pub(super) failure: Option<Error>,
}

impl ImportLog {
    pub(super) fn open(lines: Option<&Path>) -> Result<Self, Error> {
        let create = |path: &Path| {
            let file = File::create(path)
                .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
            Ok::<_, Error>((path.to_owned(), BufWriter::new(file)))
        };
        Ok(ImportLog { lines: lines.map(create).transpose()?, ..ImportLog::default() })
    }

    /// Adds an input to the log. Returns the records to send, or `None` at the end of the file.
    pub(super) fn add(&mut self, input: Result<Input, Error>) -> Option<Vec<RawRecord>> {
        match input {
            Ok(Input::Item(item)) => {
                let line = self.report.add(&item);
                self.write_line(&line);
                if !item.hidden_article.is_empty() {
                    self.hidden.push(item.hidden_article);
                }
                let ItemOutcome::Converted(converted) = item.outcome else { return Some(Vec::new()) };
                let mentions = converted.mentions.into_iter();
                let mentions = mentions.map(|record| v1::Record { mentioned: true, ..record });
                let records: Vec<_> =
                    mentions.chain(converted.records).map(|record| RawRecord::from(&record)).collect();
                self.in_flight.extend(records.iter().map(|_| None));
                Some(records)
            }
            Ok(Input::Record(location, bytes)) => {
                self.report.add_record();
                self.in_flight.push_back(Some(location));
                Some(vec![RawRecord::from_bytes(bytes)])
            }
            Ok(Input::Invalid(location, problem)) => {
                self.report.add_record();
                let line = self.report.refused(&location.to_string(), "INVALID_ARGUMENT", "", &problem);
                self.write_line(&line);
                Some(Vec::new())
            }
            Ok(Input::End) => None,
            Err(error) => {
                self.failure = Some(error);
                None
            }
        }
    }

    /// Adds results to the log. Returns a text with their number so far.
    pub(super) fn acknowledge(&mut self, ack: &ImportAck) -> String {
        for (index, result) in (ack.first..).zip(&ack.results) {
            self.add_result(index, result);
        }
        format!("{} records acknowledged", ack.first + ack.results.len() as u64)
    }

    pub(super) fn add_result(&mut self, index: u64, result: &v1::ImportResult) {
        // Results arrive in the order of the records.
        let location = self.in_flight.pop_front().flatten();
        let unnamed =
            location.map_or_else(|| format!("record {}", index + 1), |location| location.to_string());
        let label = if result.name.is_empty() { &unnamed } else { &result.name };
        if !result.omitted_path.is_empty() {
            let line = self.report.without_path(label, &result.omitted_path, &result.path_owner);
            self.write_line(&line);
        }
        match result.outcome() {
            v1::ImportOutcome::Kept => {
                let line = self.report.kept(label, result.keep_reason());
                self.write_line(&line);
            }
            v1::ImportOutcome::Written => self.report.written(label),
            v1::ImportOutcome::Unchanged => self.report.unchanged(label),
            _ => {
                let error = result.error.clone().unwrap_or_default();
                let reason = error.reason().as_str_name().trim_start_matches("ERROR_REASON_");
                let field = format!("{}: ", error.field);
                let has_field = error.field.is_empty() || error.message.starts_with(&field);
                let message = if has_field { error.message } else { field + &error.message };
                let line = self.report.refused(label, code_name(error.code), reason, &message);
                self.write_line(&line);
            }
        }
    }

    /// Returns the articles that the source does not show.
    pub(super) fn take_hidden(&mut self) -> Vec<String> {
        std::mem::take(&mut self.hidden)
    }

    /// Adds an article to the log that readers of the server see, and those of the source do not.
    pub(super) fn add_still_live(&mut self, article: &str) {
        let line = self.report.still_live(article);
        self.write_line(&line);
    }

    /// Writes a line of the report. If that fails, the import continues and reports the error at its end.
    fn write_line(&mut self, line: &str) {
        if let Some((path, file)) = &mut self.lines
            && let Err(source) = writeln!(file, "{line}")
        {
            let operation = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(operation, source));
        }
    }

    pub(super) fn close(&mut self) {
        if let Some((path, file)) = &mut self.lines
            && let Err(source) = file.flush()
        {
            let operation = format!("write {}", path.display());
            self.failure.get_or_insert(Error::io(operation, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> v1::ImportResult {
        let mut result = v1::ImportResult::default();
        result.outcome = v1::ImportOutcome::Refused.into();
        result.name = name.into();
        result
    }

    #[test]
    fn a_refused_record_without_a_name_has_its_place() {
        let mut log = ImportLog::open(None).unwrap();
        let second = Location::Record { number: 7, offset: 190 };
        for location in [Location::Line(12), Location::Line(13), second] {
            log.add(Ok(Input::Record(location, Vec::new().into())));
        }
        log.add(Ok(Input::Invalid(Location::Line(14), "damaged".to_owned())));
        for (index, name) in (0..).zip(["", "tags/a", ""]) {
            log.add_result(index, &refused(name));
        }
        let report = log.report.to_string();
        for expected in ["! line 14: ", "! line 12: ", "! tags/a: ", "! record 7 at byte 190: "] {
            assert!(report.contains(expected), "{expected} in {report}");
        }
        assert!(log.in_flight.is_empty() && !report.contains("line 13"), "{report}");
    }

    #[test]
    fn a_refused_record_is_reported_with_code_reason_and_field() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let mut log = ImportLog::open(Some(report.path())).unwrap();
        log.report.add_record();
        let mut error = v1::ItemError::default();
        error.code = 3;
        error.reason = v1::ErrorReason::FieldInvalid.into();
        error.message = "required".into();
        error.field = "headline".into();
        let mut refused = v1::ImportResult::default();
        refused.outcome = v1::ImportOutcome::Refused.into();
        refused.error = Some(error);
        log.add_result(6, &refused);
        log.close();
        let line = std::fs::read_to_string(report.path()).unwrap();
        for part in ["record 7", "INVALID_ARGUMENT", "FIELD_INVALID", "headline: required"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(log.report.totals_match());
    }
}
