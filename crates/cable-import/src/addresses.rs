//! E-mail addresses, which other systems have as logins and names. No record contains one.

/// Returns whether the text is or holds an e-mail address.
pub(crate) fn has_address(text: &str) -> bool {
    text.split_whitespace().any(is_address)
}

/// Returns the text without its e-mail addresses.
pub(crate) fn without_addresses(text: &str) -> String {
    text.split_whitespace().filter(|word| !is_address(word)).collect::<Vec<_>>().join(" ")
}

/// Returns whether the word is an address, also percent-encoded or in brackets. A handle such as `@ana` is none.
fn is_address(word: &str) -> bool {
    let word = word.replace("%40", "@").replace("~40", "@");
    let is_part = |part: &str, from_end: bool| {
        let next = if from_end { part.chars().next_back() } else { part.chars().next() };
        next.is_some_and(|c| c.is_alphanumeric() || "._%+-\"[".contains(c))
    };
    word.match_indices(['@', '\u{ff20}'])
        .any(|(at, sign)| is_part(&word[..at], true) && is_part(&word[at + sign.len()..], false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_removed_and_handles_are_not() {
        for (text, expected) in [
            ("ana.moss@lantern.example", ""),
            ("Ana Moss <ana@lantern.example>", "Ana Moss"),
            ("Ana (mailto:ana@lantern.example), reporter", "Ana reporter"),
            ("ana%40lantern.example", ""),
            ("ana~40lantern.example", ""),
            ("root@localhost Ana", "Ana"),
            ("Ana @anamoss", "Ana @anamoss"),
            ("quay @ noon", "quay @ noon"),
            ("Ana Moss", "Ana Moss"),
        ] {
            assert_eq!(without_addresses(text), expected, "{text}");
            assert_eq!(has_address(text), text != expected, "{text}");
        }
    }
}
