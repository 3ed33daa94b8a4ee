//! An invented vocabulary, and sentences of it. Short words are frequent, as in a real language.

use cable_load::random::{Random, Ranks};

/// The number of words in the vocabulary. With this number, bodies compress to half their size, as newspaper text does.
const WORDS: usize = 12_000;
/// The number of short words among them, which represent the small words of a language.
const SHORT_WORDS: usize = 120;
/// The number of slots over which Zipf's law is spread, so that a draw is one table lookup.
const SLOTS: usize = 1 << 16;

const ONSETS: [&str; 20] =
    ["b", "br", "d", "dr", "f", "g", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "th", "v", "w"];
const NUCLEI: [&str; 10] = ["a", "e", "i", "o", "u", "ea", "ai", "ou", "io", "ey"];
const CODAS: [&str; 12] = ["", "", "", "n", "r", "s", "l", "t", "nd", "rm", "sk", "ck"];

/// An invented language.
#[derive(Debug)]
pub(crate) struct Words {
    words: Vec<String>,
    slots: Vec<u16>,
}

impl Words {
    pub(crate) fn new(seed: u64) -> Words {
        let mut random = Random::new(seed);
        let mut words: Vec<String> = Vec::with_capacity(WORDS);
        let mut known = std::collections::HashSet::new();
        while words.len() < WORDS {
            let syllables = if words.len() < SHORT_WORDS { 1 } else { random.between(2, 4) };
            let word: String = (0..syllables).map(|_| syllable(&mut random)).collect();
            if known.insert(word.clone()) {
                words.push(word);
            }
        }
        let zipf = Ranks::zipf(WORDS, 1.0);
        let slots = (0..SLOTS).map(|_| zipf.draw(&mut random) as u16).collect();
        Words { words, slots }
    }

    /// Returns a random word, by Zipf's law.
    pub(crate) fn word(&self, random: &mut Random) -> &str {
        &self.words[usize::from(self.slots[random.below(SLOTS)])]
    }

    /// Returns the long word of a number, for names.
    pub(crate) fn name(&self, number: usize) -> String {
        capital(&self.words[SHORT_WORDS + number % (WORDS - SHORT_WORDS)])
    }

    /// Returns some words, the first with a capital letter.
    pub(crate) fn phrase(&self, random: &mut Random, words: usize) -> String {
        let mut phrase = capital(self.word(random));
        for _ in 1..words {
            phrase.push(' ');
            phrase.push_str(self.word(random));
        }
        phrase
    }

    pub(crate) fn sentence(&self, random: &mut Random) -> String {
        let mut sentence = capital(self.word(random));
        let length = random.between(7, 24);
        for index in 1..length {
            sentence.push_str(if index + 1 < length && random.chance(6) { ", " } else { " " });
            sentence.push_str(self.word(random));
        }
        sentence.push('.');
        sentence
    }
}

fn syllable(random: &mut Random) -> String {
    let onset = ONSETS[random.below(ONSETS.len())];
    let nucleus = NUCLEI[random.below(NUCLEI.len())];
    format!("{onset}{nucleus}{}", CODAS[random.below(CODAS.len())])
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
