use crate::wire::v1;
pub(crate) fn render(_: &v1::Body, _: v1::BodyFormat) -> String { String::new() }
pub(crate) fn word_count(_: &v1::Body) -> i32 { 0 }
