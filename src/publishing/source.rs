//! Bodies that are put as HTML or Markdown. They become blocks before the article is checked, like any other body.

use cable_body::ConvertError;
use prost::Message as _;

use super::{Change, Publishing, Verb, workers::Stop};
use crate::{
    model::limit,
    refusal::{Refusal, at_most},
    wire::{
        fields,
        number::article::BODY,
        v1::{BodyConversion, BodyFormat, BodySource},
    },
};

/// The source of the body of an article that is put.
#[derive(Debug)]
pub(crate) struct Source {
    /// The index of the change that puts the article.
    pub(crate) change: usize,
    /// The path of the request's field that holds the source.
    pub(crate) field: String,
    pub(crate) source: BodySource,
}

impl Publishing {
    /// Converts the sources and adds each body to its article. Returns the report of each change that had a source.
    ///
    /// # Errors
    /// Fails if a source cannot be converted, or if too many writes wait to be checked.
    pub(crate) async fn convert_bodies(
        &self,
        changes: Vec<Change>,
        sources: Vec<Source>,
    ) -> Result<(Vec<Change>, Vec<Option<BodyConversion>>), Refusal> {
        let reports = vec![None; changes.len()];
        if sources.is_empty() {
            return Ok((changes, reports));
        }
        let text = sources.iter().map(|source| source.source.text.len()).sum();
        for Source { field, source, .. } in &sources {
            at_most(&limit::BODY_SOURCE, source.text.len(), format!("{field}.text"))?;
        }
        at_most(&limit::BODY_SOURCE, text, "changes")?;
        let bytes = text + changes.iter().map(Change::bytes).sum::<usize>();
        self.workers.run(bytes, move |stop| convert_each(changes, reports, sources, stop)).await
    }
}

fn convert_each(
    mut changes: Vec<Change>,
    mut reports: Vec<Option<BodyConversion>>,
    sources: Vec<Source>,
    stop: &Stop,
) -> Result<(Vec<Change>, Vec<Option<BodyConversion>>), Refusal> {
    for Source { change, field, source } in sources {
        stop.check()?;
        let (Some(change), Some(report)) = (changes.get_mut(change), reports.get_mut(change)) else {
            return Err(Refusal::Internal("a body source has no change"));
        };
        let Verb::Put { entity, .. } = &mut change.verb else {
            return Err(Refusal::Internal("a body source belongs to no put"));
        };
        if fields::last(entity, BODY).is_some() {
            return Err(Refusal::field("body", "must be unset if body_source is set").within(&change.field));
        }
        let converted = convert(&source).map_err(|refusal| refusal.within(&field))?;
        let mut article = Vec::with_capacity(entity.len() + converted.body.encoded_len() + 8);
        article.extend_from_slice(entity);
        fields::put_message(&mut article, BODY, &converted.body);
        *entity = article.into();
        *report = Some(converted.report());
    }
    Ok((changes, reports))
}

fn convert(source: &BodySource) -> Result<cable_body::Conversion, Refusal> {
    let format = BodyFormat::try_from(source.format).unwrap_or_default();
    cable_body::convert(format, &source.text).map_err(|error| match error {
        ConvertError::Format => Refusal::field("format", error.to_string()),
        ConvertError::TooCostly => Refusal::field("text", error.to_string()),
        ConvertError::TooLarge => Refusal::Limit {
            field: "text".into(),
            limit: &limit::BODY_SOURCE,
            value: source.text.len() as u64,
        },
    })
}
