//! Names of settings that are misspelt: the one that each is likely to mean.

use super::{Error, Origin, SETTINGS, layers::variable, section_and_name};
use crate::near;

/// Returns a warning if a variable is almost that of a setting: with one underscore too few, in lower case, or without
/// the section.
pub(super) fn misspelling_warning(name: &str) -> Option<String> {
    let letters = |text: &str| text.replace(['_', '.'], "").to_ascii_lowercase();
    let upper = name.to_ascii_uppercase();
    let rest = upper.strip_prefix("CABLE_")?;
    let is_meant = |key: &str| letters(key) == letters(rest);
    let with_section = SETTINGS.iter().find(|setting| is_meant(setting.key));
    let by_name = || SETTINGS.iter().find(|setting| is_meant(section_and_name(setting.key).1));
    let intended = with_section.or_else(by_name)?;
    Some(format!("environment variable {name} ignored; did you mean {}?", variable(intended.key)))
}

/// Returns the error of a key that is not a setting, with the setting that it is likely to mean.
pub(super) fn unknown_key(key: &str, origin: Origin) -> Error {
    let nearest = nearest_setting(key);
    let nearest = match origin {
        Origin::Env(_) => nearest.map(variable),
        _ => nearest.or_else(|| nearest_section(key)).map(str::to_owned),
    };
    Error::UnknownKey { key: key.to_owned(), origin, nearest }
}

/// Returns the setting that a key is likely to mean: its section or its name is misspelt, or it belongs to another
/// section.
fn nearest_setting(key: &str) -> Option<&'static str> {
    let keys = || SETTINGS.iter().map(|setting| setting.key);
    let (section, name) = section_and_name(key);
    // Compared as a whole, two keys of one section would have much in common.
    let in_section = |setting: &&str| {
        section.is_empty() || near::nearest(section, [section_and_name(setting).0], |known| known).is_some()
    };
    near::nearest(name, keys().filter(in_section), |setting| section_and_name(setting).1)
        .or_else(|| keys().find(|setting| section_and_name(setting).1 == name))
}

/// Returns the section that a key without a section is likely to mean.
fn nearest_section(key: &str) -> Option<&'static str> {
    near::nearest(key, SETTINGS.iter().map(|setting| section_and_name(setting.key).0), |section| section)
}

#[cfg(test)]
mod tests {
    use crate::config::{
        Effective, Layers,
        fixture::{env, load_error},
    };

    #[test]
    fn an_unknown_key_is_reported_with_origin_and_nearest_key() {
        for (text, expected) in [
            (
                "[server]\nlisen = 'x'",
                "FILE:2: unknown setting `server.lisen`; did you mean `server.listen`?",
            ),
            (
                "drain_timeout = '1s'",
                "FILE:1: unknown setting `drain_timeout`; did you mean `server.drain_timeout`?",
            ),
            ("\n[sever]\n", "FILE:2: unknown setting `sever`; did you mean `server`?"),
            (
                "[server]\ndrain = '1s'",
                "unknown setting `server.drain`; did you mean `server.drain_timeout`?",
            ),
            ("[cache]\nlisten = 'x'", "unknown setting `cache.listen`; did you mean `server.listen`?"),
            ("[server.listen]\nx = 1", "invalid value \"{...}\" for `server.listen`"),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        for text in ["web = 3", "tls = 'x'", "server = []"] {
            let (section, error) = (text.split(' ').next().unwrap(), load_error(text));
            let expected = format!("unknown setting `{section}`: it is a section; write `[{section}]`");
            assert!(error.contains(&expected) && !error.contains("did you mean"), "{error}");
        }
        for text in ["[tls]\nquota = 'x'", "quota = 1", "[server]\ntoken = 'x'", "[quotas]\n"] {
            let error = load_error(text);
            assert!(
                error.contains("unknown setting") && !error.contains("did you mean"),
                "{text:?}: {error}"
            );
        }
        let layers = Layers { env: env(&[("CABLE__CACHE__MAX_BYTE", "1")]), ..Default::default() };
        let error = Effective::load(layers).unwrap_err().to_string();
        assert!(error.contains("variable CABLE__CACHE__MAX_BYTE"), "{error}");
        assert!(error.contains("did you mean `CABLE__CACHE__MAX_BYTES`?"), "{error}");
    }

    #[test]
    fn two_spellings_of_one_variable_are_refused() {
        let [lower, upper] = ["CABLE__web__max_age", "CABLE__WEB__MAX_AGE"];
        for names in [[lower, upper], [upper, lower]] {
            let layers = Layers { env: env(&names.map(|name| (name, "1s"))), ..Default::default() };
            let error = Effective::load(layers).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("environment variables {upper} and {lower} set the same setting: unset the second")
            );
        }
        let layers = Layers { env: env(&[(lower, "1s")]), ..Default::default() };
        assert_eq!(Effective::load(layers).unwrap().config().web.max_age.as_secs(), 1);
    }

    #[test]
    fn a_misspelt_variable_is_warned_about() {
        let names = [
            "CABLE_SERVER__LISTEN",
            "CABLE_SERVER_LISTEN",
            "cable__server__listen",
            "CABLE_SERVER_OPS_LISTEN",
            "CABLE_LISTEN",
            "CABLE_MAX_BYTES",
            "CABLE_ENDPOINTS",
            "CABLE_BIN",
            "LISTEN",
        ];
        let layers = Layers { env: env(&names.map(|name| (name, "1"))), ..Default::default() };
        let effective = Effective::load(layers).unwrap();
        let warning =
            |name, intended| format!("environment variable {name} ignored; did you mean {intended}?");
        assert_eq!(
            effective.warnings(),
            [
                warning(names[0], "CABLE__SERVER__LISTEN"),
                warning(names[1], "CABLE__SERVER__LISTEN"),
                warning(names[2], "CABLE__SERVER__LISTEN"),
                warning(names[3], "CABLE__SERVER__OPS_LISTEN"),
                warning(names[4], "CABLE__SERVER__LISTEN"),
                warning(names[5], "CABLE__CACHE__MAX_BYTES"),
            ]
        );
    }
}
