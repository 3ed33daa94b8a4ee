//! Shortcodes with source code: `[sourcecode language="python"]`, `[php]`. Their content is no markup, even if it looks so.

use super::shortcodes::Shortcode;

/// Shortcodes with an attribute for the language: those of SyntaxHighlighter, Crayon and others.
const GENERAL: [&str; 5] = ["sourcecode", "source", "code", "highlight", "crayon"];

/// Shortcodes that are named after their language, as SyntaxHighlighter defines them.
const LANGUAGES: [&str; 52] = [
    "actionscript3",
    "arduino",
    "as3",
    "bash",
    "c",
    "c-sharp",
    "cf",
    "clojure",
    "coldfusion",
    "cpp",
    "csharp",
    "css",
    "delphi",
    "diff",
    "erl",
    "erlang",
    "fsharp",
    "go",
    "groovy",
    "haskell",
    "html",
    "java",
    "javafx",
    "javascript",
    "jfx",
    "js",
    "jscript",
    "latex",
    "matlab",
    "objc",
    "pas",
    "pascal",
    "patch",
    "perl",
    "php",
    "pl",
    "powershell",
    "ps",
    "py",
    "python",
    "rails",
    "rb",
    "ruby",
    "scala",
    "shell",
    "sql",
    "vb",
    "vbnet",
    "xhtml",
    "xml",
    "xslt",
    "yaml",
];

/// Returns the known name of a shortcode with code.
pub(super) fn name(name: &str) -> Option<&'static str> {
    [&GENERAL[..], &LANGUAGES[..]].into_iter().flatten().find(|known| **known == name).copied()
}

/// Returns the preformatted element with the code within a shortcode.
pub(super) fn element(code: &Shortcode<'_>, inner: &str) -> Option<String> {
    let language = language(code);
    // Themes have a shortcode of this name that marks words.
    if code.name == "highlight" && language.is_empty() && !inner.contains('\n') {
        return None;
    }
    let class = if language.is_empty() { String::new() } else { format!(" class=\"language-{language}\"") };
    Some(format!("<pre><code{class}>{}</code></pre>", escaped(inner)))
}

/// Returns the language of the code: the attribute, the value in `[code=php]`, or the name of the shortcode.
fn language(code: &Shortcode<'_>) -> String {
    let value = || code.attributes.strip_prefix('=').and_then(|rest| rest.split_whitespace().next());
    let stated = code.attribute("language").or_else(|| code.attribute("lang")).or_else(value);
    let own = if GENERAL.contains(&code.name) { "" } else { code.name };
    let is_part = |c: &char| c.is_ascii_alphanumeric() || "+#._-".contains(*c);
    stated.unwrap_or(own).chars().filter(is_part).collect::<String>().to_ascii_lowercase()
}

/// Returns code as HTML. In code of an editor for rich text, signs are references and line breaks elements.
fn escaped(code: &str) -> String {
    let lines = ["<br />", "<br/>", "<br>"]
        .iter()
        .fold(code.to_owned(), |code, tag| if code.contains('\n') { code } else { code.replace(tag, "\n") });
    let is_raw = lines.contains('<') && !lines.contains("&lt;");
    let lines = if is_raw { lines.replace('&', "&amp;") } else { lines };
    lines.replace('<', "&lt;")
}
