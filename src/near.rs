//! The known name that a misspelt one is likely to mean.

/// Returns the candidate that is most similar to `text`, if one is near: equal but for case, misspelt in at most a third
/// of its characters, or continued after a separator (`drain` for `drain_timeout`). `of` returns the text of a candidate.
pub fn nearest<T>(text: &str, candidates: impl IntoIterator<Item = T>, of: impl Fn(&T) -> &str) -> Option<T> {
    let text = text.to_lowercase();
    let distances =
        candidates.into_iter().filter_map(|candidate| Some((distance(&text, of(&candidate))?, candidate)));
    distances.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// Returns the number of edits between two names, `None` if they are not near. `text` is in lower case.
fn distance(text: &str, candidate: &str) -> Option<usize> {
    let candidate = candidate.to_lowercase();
    let edits = strsim::damerau_levenshtein(text, &candidate);
    let length = text.chars().count().max(candidate.chars().count());
    let is_part = text.len() >= MIN_PART_BYTES
        && candidate.strip_prefix(text).is_some_and(|rest| rest.starts_with(['_', '-']));
    (edits * MAX_EDITED_SHARE <= length || is_part).then_some(edits)
}

/// One edit for this many characters: with more of them, two names have little in common.
const MAX_EDITED_SHARE: usize = 3;

/// Minimum length of a name that stands for a longer one. A shorter one starts too many others.
const MIN_PART_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_near() {
        let names =
            ["server.listen", "server.drain_timeout", "store.reserve_bytes", "russia", "drain_timeout"];
        let near = |text| nearest(text, names, |name| name);
        for (text, expected) in [
            ("sever.listen", Some("server.listen")),
            ("Russia", Some("russia")),
            ("rusia", Some("russia")),
            ("rsusia", Some("russia")),
            ("drain", Some("drain_timeout")),
            ("tls.cert_file", None),
            ("sever", None),
            ("ru", None),
            ("", None),
            ("ukraine", None),
        ] {
            assert_eq!(near(text), expected, "{text}");
        }
        assert_eq!(nearest("b", ["a"], |name| name), None, "no letter is the same");
    }
}
