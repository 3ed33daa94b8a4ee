//! Bodies that are put as HTML or Markdown: the worst texts that the tests of `cable-body` know.

use cable_body::worst;
use cable_proto::{limit::BODY_SOURCE, v1::BodyFormat};

use super::{
    Case, Variant,
    encoding::{article, f, n},
    group,
};

pub(super) fn sources() -> Vec<Case> {
    let bytes = BODY_SOURCE.maximum as usize;
    let sources = |label: &str, format: BodyFormat, texts: Vec<String>| {
        let variants = texts.into_iter().map(|text| {
            let start: String = text.chars().take(24).collect::<String>().escape_debug().collect();
            let source = f(6, [n(1, format as u64), f(2, text)].concat());
            let put = move |i: usize| [f(1, article(&format!("a{i}"), &[])), source.clone()].concat();
            // A vertical bar ends a cell of the table.
            Variant::new(format!("`{}`", start.replace('|', "¦").replace('`', "'")), put)
        });
        let variants: Vec<Variant> = variants.collect();
        let label = format!("body_source: {} texts of 1 MiB of {label}", variants.len());
        group("PublishingService/PutArticle", label, variants)
    };
    vec![
        sources("HTML", BodyFormat::Html, worst::html(bytes)),
        sources("Markdown", BodyFormat::Markdown, worst::markdown(bytes)),
    ]
}
