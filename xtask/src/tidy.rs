//! The order of the server's modules, checked against the names in their sources.
//!
//! The check reads text, not syntax. It skips comments, and the module of tests with everything after it, since tests are
//! at the end of their file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Outcome;

/// One rule of the map.
enum Rule {
    /// The modules may name each other and those of later layers, never those of earlier ones.
    Layer(&'static [&'static str]),
    /// These modules may not name each other.
    Apart(&'static [&'static str]),
    /// Only these modules, and those within them, may name the crate.
    Only(&'static str, &'static [&'static str]),
}

use Rule::{Apart, Layer, Only};

/// The map, from the top down. A module within another belongs to the other's layer.
const MAP: &[Rule] = &[
    Layer(&["lib"]),
    Layer(&["server", "ops", "admin", "fuzzing"]),
    Layer(&["rpc", "web"]),
    Layer(&["publishing", "content", "feed", "transfer", "backup"]),
    Layer(&["auth", "compose", "refusal", "parse", "filter", "page_token", "pending"]),
    Layer(&["cache", "log", "store", "audit", "entry", "digest"]),
    Layer(&[
        "wire",
        "model",
        "clock",
        "config",
        "telemetry",
        "health",
        "supervise",
        "systemd",
        "near",
        "readiness",
    ]),
    Layer(&["files", "rate", "reload", "role"]),
    Apart(&["rpc", "web"]),
    Apart(&["publishing", "content", "feed", "transfer", "backup"]),
    Only("tonic", &["rpc", "server"]),
    Only("rusqlite", &["store"]),
    Only("moka", &["cache"]),
];

/// The modules of the program, which the library cannot name.
const PROGRAM: [&str; 2] = ["main", "cli"];

/// Reads the library's files in `src/` and reports violations of the map.
pub(crate) fn run(root: &Path) -> Outcome {
    let mut violations = Vec::new();
    let sources = sources(&root.join("src"))?;
    for path in &sources {
        let relative = path.strip_prefix(root).unwrap_or(path).display().to_string();
        if PROGRAM.iter().any(|program| contains(program, &module_of(&relative))) {
            continue;
        }
        let text = fs::read_to_string(path)?;
        violations.extend(
            violations_of(&module_of(&relative), &text)
                .into_iter()
                .map(|violation| format!("{relative}{violation}")),
        );
    }
    match violations.len() {
        0 => Ok(format!("{} source files follow the order of the modules", sources.len())),
        _ => Err(violations.join("\n").into()),
    }
}

fn sources(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the module of a path: `wire::fields` for `src/wire/fields.rs`.
fn module_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.trim_end_matches("/mod").replace('/', "::")
}

fn violations_of(module: &str, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let Some(own_layer) = layer_of(module) else {
        return vec![format!(": `{module}` is not in the map (xtask/src/tidy.rs)")];
    };
    let mut violations = Vec::new();
    for (line, named) in named_modules(module, &code) {
        match layer_of(&named) {
            None => violations.push(format!(":{line}: `{named}` is not in the map (xtask/src/tidy.rs)")),
            Some(layer) if layer < own_layer => {
                violations.push(format!(":{line}: `{module}` names `{named}`, which is in a higher layer"));
            }
            Some(_) if are_apart(module, &named) => {
                violations.push(format!(":{line}: `{module}` names `{named}`, which is apart from it"));
            }
            Some(_) => {}
        }
    }
    for rule in MAP {
        let Only(name, allowed) = rule else { continue };
        if !allowed.iter().any(|owner| contains(owner, module)) {
            let lines = lines_naming(&code, name);
            violations.extend(lines.map(|line| format!(":{line}: `{module}` may not name `{name}`")));
        }
    }
    violations
}

/// Returns the layer of a module.
fn layer_of(module: &str) -> Option<usize> {
    MAP.iter().position(
        |rule| matches!(rule, Layer(modules) if modules.iter().any(|entry| contains(entry, module))),
    )
}

/// Returns whether a rule keeps the two modules apart.
fn are_apart(module: &str, named: &str) -> bool {
    MAP.iter().any(|rule| {
        let Apart(modules) = rule else { return false };
        let entry = |module| modules.iter().find(|entry| contains(entry, module));
        entry(module).zip(entry(named)).is_some_and(|(own, other)| own != other)
    })
}

fn contains(entry: &str, module: &str) -> bool {
    module.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns the text up to the tests, without comments. Lines keep their numbers.
fn without_comments(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the lines that name the crate: `name::`, or `name` alone in a `use`.
fn lines_naming(code: &str, name: &str) -> impl Iterator<Item = usize> {
    let path = format!("{name}::");
    let alone = [format!("use {name};"), format!("use {name} as ")];
    code.lines()
        .enumerate()
        .filter(move |(_, line)| {
            positions_of(line, &path).next().is_some() || alone.iter().any(|use_| line.contains(use_))
        })
        .map(|(index, _)| index + 1)
}

/// Returns the modules named by `crate::` paths, or by `cable::` paths in the program, with their lines.
fn named_modules(module: &str, code: &str) -> Vec<(usize, String)> {
    let root = if module == "main" { "cable::" } else { "crate::" };
    let mut named = Vec::new();
    for at in positions_of(code, root) {
        let line = code[..at].matches('\n').count() + 1;
        let paths = parse_use_tree(&code[at + root.len()..]);
        named.extend(paths.into_iter().filter(|path| is_module(path)).map(|path| (line, path)));
    }
    named.sort();
    named.dedup();
    named
}

/// Returns the indices at which `word` starts without being the end of a longer name or path.
fn positions_of<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.')))
}

/// Returns up to two segments of each path of a use tree: `store`, `wire::fields` and `wire::v1` for `{store,
/// wire::{fields, v1}}`.
fn parse_use_tree(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    let Some(group) = tree.strip_prefix('{') else {
        let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let rest = tree[name.len()..].strip_prefix("::");
        let inner = rest.map(parse_use_tree).unwrap_or_default();
        let inner: Vec<String> = inner.iter().map(|path| format!("{name}::{path}")).collect();
        return if inner.is_empty() { vec![name] } else { inner };
    };
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.extend(parse_use_tree(&group[start..at]));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// Types, constants and macros in the crate's root belong to no module.
fn is_module(path: &str) -> bool {
    path.starts_with(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_of_a_higher_layer_is_reported_with_its_line() {
        let violations = violations_of(
            "store::schema",
            "//! A store.\nuse crate::{\n    model::Id,\n};\nuse crate::rpc::internal;",
        );
        assert_eq!(violations, [":5: `store::schema` names `rpc::internal`, which is in a higher layer"]);
    }

    #[test]
    fn uses_of_lower_and_equal_layers_pass() {
        assert_eq!(
            violations_of("content", "use crate::{cache::Cache, wire::{v1, fields}, content::filter};"),
            [""; 0]
        );
    }

    #[test]
    fn modules_that_are_apart_do_not_name_each_other() {
        assert_eq!(
            violations_of("feed::filter", "use crate::{\n    parse,\n    publishing::check,\n};"),
            [":1: `feed::filter` names `publishing::check`, which is apart from it"]
        );
    }

    #[test]
    fn a_module_within_another_belongs_to_its_layer() {
        assert_eq!(violations_of("rpc::codec", "use crate::rpc;"), [""; 0]);
        assert_eq!(violations_of("wire::fields", "use crate::rpc;").len(), 1);
        assert_eq!(violations_of("model", "use crate::rpc::codec::Codec;").len(), 1);
    }

    #[test]
    fn a_crate_may_be_named_only_by_its_owners() {
        assert_eq!(
            violations_of("content", "fn f() -> tonic::Status {}"),
            [":1: `content` may not name `tonic`"]
        );
        assert_eq!(violations_of("store", "use tonic as t;").len(), 1);
        assert_eq!(violations_of("rpc::content", "use tonic::Status;"), [""; 0]);
        assert_eq!(violations_of("content", "use not_tonic::Status; // tonic::Status"), [""; 0]);
        let tests = "use crate::wire::v1;\n#[cfg(test)]\nmod tests {\n    use tonic::Status;\n}";
        assert_eq!(violations_of("content", tests), [""; 0]);
        let after = "#[cfg(test)]\nmod fixture;\nuse tonic::Status;";
        assert_eq!(violations_of("content", after), [":3: `content` may not name `tonic`"]);
    }

    #[test]
    fn a_module_that_is_not_in_the_map_is_reported() {
        assert_eq!(violations_of("gossip", "").len(), 1);
        assert_eq!(violations_of("content", "use crate::gossip;").len(), 1);
    }
}
