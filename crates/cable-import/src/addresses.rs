//! E-mail addresses, which other systems have as logins and names. No record contains one.

/// Returns whether the text is or holds an e-mail address.
pub(crate) fn has_address(text: &str) -> bool {
    text.split_whitespace().any(is_address)
}

/// Returns whether an id, which can be a URL, holds an e-mail address. A URL such as `/photos/24662369@N07/` holds none,
/// and neither does one with a handle such as `@ana@lantern.example`.
pub(crate) fn id_has_address(id: &str) -> bool {
    let id = id.replace("%40", "@");
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let mut parts = id.split('@');
    let mut before = parts.next().unwrap_or_default();
    let mut is_handle = false;
    parts.any(|after| {
        let local = before.trim_end_matches(is_local);
        let has_local = local.len() < before.len() && !(local.is_empty() && is_handle);
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '.' && c != '-').unwrap_or(after.len());
        let domain = after[..end].trim_end_matches('.').rsplit_once('.');
        let has_domain = domain.is_some_and(|(_, top)| top.len() > 1 && top.chars().all(char::is_alphabetic));
        (before, is_handle) = (after, true);
        has_local && has_domain
    })
}

/// Returns the text without its e-mail addresses.
pub(crate) fn without_addresses(text: &str) -> String {
    // `Ann Lee<ann@x.example>`: the name is not part of the address.
    let parted = if has_address(text) { text.replace('<', " <") } else { text.to_owned() };
    parted.split_whitespace().filter(|word| !is_address(word)).collect::<Vec<_>>().join(" ")
}

/// Returns whether the word is an address, also percent-encoded or in brackets. A handle such as `@ana` is none.
fn is_address(word: &str) -> bool {
    let mut word = word.replace("%40", "@").replace("~40", "@");
    if word.contains('&') {
        word = ["&#64;", "&#x40;", "&commat;"].iter().fold(word, |word, sign| word.replace(sign, "@"));
    }
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
    fn ids_with_addresses_are_no_urls_with_handles() {
        for id in [
            "desk@x.example",
            "mailto:desk@x.example",
            "tag:desk@x.example,2005:1",
            "https://x.example/?by=ann%40x.example",
        ] {
            assert!(id_has_address(id), "{id}");
        }
        for id in [
            "https://x.example/photos/24662369@N07/1",
            "https://x.example/@ann/1",
            "https://x.example/@ann@y.example/1",
            "https://x.example/react@18.2.0/a.js",
            "tag:x.example,2005:1",
            "@",
        ] {
            assert!(!id_has_address(id), "{id}");
        }
    }

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
            ("Ana Moss<ana@lantern.example>", "Ana Moss"),
            ("ana&#64;lantern.example", ""),
        ] {
            assert_eq!(without_addresses(text), expected, "{text}");
            assert_eq!(has_address(text), text != expected, "{text}");
        }
    }
}
