//! A command's arguments: flags with one value or none.

use std::{fmt::Display, str::FromStr};

use crate::Outcome;

/// The arguments that have not been consumed yet.
#[derive(Debug)]
pub(crate) struct Options(Vec<String>);

impl Options {
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Options {
        Options(arguments.collect())
    }

    /// Consumes a flag without a value. Returns whether it is present.
    pub(crate) fn switch(&mut self, flag: &str) -> bool {
        let place = self.0.iter().position(|argument| argument == flag);
        place.map(|place| self.0.remove(place)).is_some()
    }

    /// Consumes a flag with its value.
    ///
    /// # Errors
    /// Fails if the value is missing or invalid.
    pub(crate) fn value<T: FromStr<Err: Display>>(&mut self, flag: &str) -> Outcome<Option<T>> {
        let Some(place) = self.0.iter().position(|argument| argument == flag) else { return Ok(None) };
        self.0.remove(place);
        if place == self.0.len() {
            return Err(format!("{flag} wants a value").into());
        }
        let value = self.0.remove(place);
        value.parse().map(Some).map_err(|error| format!("{flag} {value}: {error}").into())
    }

    /// Consumes a required flag with its value.
    ///
    /// # Errors
    /// Fails if the flag or its value is missing, or the value is invalid.
    pub(crate) fn required<T: FromStr<Err: Display>>(&mut self, flag: &str) -> Outcome<T> {
        self.value(flag)?.ok_or_else(|| format!("{flag} is missing").into())
    }

    /// Checks that all arguments are consumed.
    ///
    /// # Errors
    /// Fails if an unknown argument is left.
    pub(crate) fn finish(self) -> Outcome<()> {
        match self.0.first() {
            Some(unknown) => Err(format!("`{unknown}` is not known here").into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::new(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_taken_in_any_order() {
        let mut options = options("--check --size 6400 --file a.bin");
        assert_eq!(options.required::<String>("--file").unwrap(), "a.bin");
        assert_eq!(options.value::<usize>("--size").unwrap(), Some(6_400));
        assert_eq!(options.value::<usize>("--calls").unwrap(), None);
        assert!(options.switch("--check") && !options.switch("--check"));
        options.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_missing_or_unknown_is_said() {
        let said = |outcome: Outcome<usize>| outcome.unwrap_err().to_string();
        assert_eq!(said(options("--size").required("--size")), "--size wants a value");
        assert_eq!(said(options("").required("--size")), "--size is missing");
        assert!(said(options("--size six").required("--size")).starts_with("--size six: "));
        assert_eq!(options("--sise 6").finish().unwrap_err().to_string(), "`--sise` is not known here");
    }
}
