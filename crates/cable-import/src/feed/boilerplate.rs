//! The words that WordPress and its plug-ins add to the summaries of feeds.

/// The sentence that Yoast adds to a summary, in some languages: its start, and the words before the name of the site.
const SENTENCES: [(&str, &str); 8] = [
    ("The post ", " appeared first on "),
    ("The post ", " first appeared on "),
    ("Der Beitrag ", " erschien zuerst auf "),
    ("L\u{2019}article ", " est apparu en premier s\u{75}r "),
    ("La entrada ", " se public\u{f3} primero en "),
    ("Het bericht ", " verscheen eerst op "),
    ("L'articolo ", " proviene da "),
    ("O post ", " apareceu primeiro em "),
];

/// The marks of a summary that was cut.
const CUTS: [&str; 4] = ["[\u{2026}]", "[...]", "(\u{2026})", "(more...)"];

/// Returns the words of a summary without those of a program.
pub(super) fn removed(words: &str) -> String {
    let sentence = SENTENCES.iter().find_map(|(start, middle)| {
        let middle = words.rfind(middle)?;
        words[..middle].rfind(start)
    });
    let words = words[..sentence.unwrap_or(words.len())].trim_end();
    match CUTS.iter().find_map(|cut| words.strip_suffix(cut)) {
        Some(words) if words.trim().is_empty() => String::new(),
        Some(words) => format!("{} \u{2026}", words.trim_end()),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_a_program_are_removed() {
        for (words, expected) in [
            (
                "Ice on the quay [\u{2026}] The post Ice appeared first on Lantern.",
                "Ice on the quay \u{2026}",
            ),
            ("The post Ice appeared first on Lantern.", ""),
            ("Watt. Der Beitrag Watt erschien zuerst auf Laterne.", "Watt."),
            ("Ice on the quay [...]", "Ice on the quay \u{2026}"),
            ("[\u{2026}]", ""),
            ("The post office closes.", "The post office closes."),
            ("It appeared first on Monday.", "It appeared first on Monday."),
        ] {
            assert_eq!(removed(words), expected, "{words}");
        }
    }
}
