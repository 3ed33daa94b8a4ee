//! The processor time that the conversion of the worst texts of 1 MiB takes.

#![allow(clippy::print_stdout, reason = "the times, to compare them")]

use std::time::{Duration, Instant};

use cable_proto::{limit, v1::BodyFormat};

use crate::{ConvertError, convert};

/// The size of a text: the largest, or less without optimisation, to limit the time of the test.
const BYTES: usize = limit::BODY_SOURCE.maximum as usize / if cfg!(debug_assertions) { 8 } else { 1 };

/// The maximum time of a conversion. Without optimisation, the code is thirty to sixty times slower. The shorter texts
/// take an eighth of the time.
const MAX_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 250 * 60 / 8 } else { 250 });

/// Returns the processor time of this thread so far, or the time since `start` where the system does not report it.
fn used(start: Instant) -> Duration {
    let report = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanos = report.ok().and_then(|line| line.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn filled(start: &str, part: &str, end: &str) -> String {
    let bytes = BYTES - start.len() - end.len();
    format!("{start}{}{end}", part.repeat(bytes / part.len()))
}

/// Converts each text, and returns those that took too long, and the number of those that were refused.
fn measure(format: BodyFormat, texts: &[String]) -> (Vec<String>, usize) {
    let (mut slow, mut refused) = (Vec::new(), 0);
    let start = Instant::now();
    for text in texts {
        let before = used(start);
        let converted = convert(format, text);
        let time = used(start) - before;
        refused += usize::from(converted == Err(ConvertError::TooCostly));
        let head: String = text.chars().take(24).collect();
        eprintln!("{time:>10.1?} {} {head:?}", if converted.is_ok() { "converted" } else { "refused  " });
        if time > MAX_TIME {
            slow.push(format!("{time:?} {head:?}"));
        }
    }
    (slow, refused)
}

#[test]
fn the_worst_html_takes_a_bounded_time() {
    let parts = [
        "<p>",
        "<b>",
        "<b>a</b>",
        "<p>a",
        "<i>a</i> ",
        "<div>",
        "<ul><li>a",
        "<table><tr><td>",
        "<tr><td>a",
        "<dl><dt>a</dl>",
        "<a href=/x>a</a>",
        "<a id=a>",
        "<p id=a>x",
        "<video src=/a.mp4>",
        "<img src=/a>",
        "<br>",
        "&amp;",
        "a ",
        "a\n\n",
        "<blockquote>a</blockquote>",
        "<b><p>",
        "<figure><img src=/a>",
        "<figure><figcaption>a",
        "<svg>",
        "<!--",
        "<![CDATA[",
        "<noscript><p>a",
        "<select><option>a",
        "<h2>a</h2>",
        "<script>",
        "[a] ",
        "<article itemprop=liveBlogUpdate>a</article>",
        "<li>a",
        "<pre>a</pre>",
        "<hr>",
        "<x>",
        "</p>",
        "</b>",
        "<font size=1>",
        "<dl>",
        "<form>",
        "<ul>",
        "\u{1}",
        "\u{e9}",
    ];
    let mut texts: Vec<_> = parts.iter().map(|part| filled("", part, "")).collect();
    texts.push(filled("<table>", "<tr><td>a</td><td>b", "</table>"));
    texts.push(filled("<figure>", "<img src=/a>", "<figcaption>a</figcaption></figure>"));
    texts.push(filled("<ul>", "<li>a", "</ul>"));
    texts.push(filled("<p>", "a <b>b</b> ", "</p>"));
    texts.push(filled("<img srcset='", "/a 1w, ", "'>"));
    texts.push(filled("<h2>", "<p>a</p>", "</h2>"));
    let (slow, _) = measure(BodyFormat::Html, &texts);
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn the_worst_markdown_takes_a_bounded_time() {
    let parts = [
        ">",
        "> ",
        "> a\n",
        "- ",
        "- a\n",
        "1. a\n",
        "* * ",
        "[",
        "]",
        "![",
        "[a](",
        "[a](b",
        "[a](<b",
        "[a](b \"",
        "[](",
        "[[a]]",
        "*",
        "**",
        "*a ",
        "*a **a ",
        "_a ",
        "a**b ",
        "~~a ",
        "~",
        "`",
        "`a ",
        "``a` ",
        "<",
        "<a ",
        "<a href=\"",
        "<!--",
        "<?",
        "<!A",
        "<![CDATA[",
        "&",
        "&amp;",
        "\\",
        "a\n",
        "a\n\n",
        "# a\n",
        "```\n",
        "~~~\n",
        "|",
        "|a",
        "| a |\n",
        "a|b\n-|-\n",
        "---\n",
        "===\n",
        "[a]: b\n",
        "[a]: b\n\n[a]\n\n",
        "[^a]",
        "[^a]: b\n\n",
        "- [ ] a\n",
        "    a\n",
        "<div>\n\n",
        "<b>",
        "</b>",
        "a\\\n",
        "a  \n",
        "!",
        "\t",
        "![a](b)",
        "![a](b)\n\n",
        "https://a.b/c\n\n",
        "<https://a.b>",
        "*a*\n",
        "***a***",
        "> - ",
        "\u{e9}",
        "[a][b] ",
        "[a][a",
        "(",
        "\"",
        "-\n",
        "1)\n",
        "*\n",
        "+ a\n\n  ",
        "> > a\n",
        "<x@y.z> ",
        "a_b_c_",
        "\\`",
        "\u{201c}*a",
    ];
    let mut texts: Vec<_> = parts.iter().map(|part| filled("", part, "")).collect();
    let half = |first: &str, second: &str| {
        let bytes = BYTES / 2 - 8;
        format!("{}{}", first.repeat(bytes / first.len()), second.repeat(bytes / second.len()))
    };
    texts.push(half("[", "]"));
    texts.push(half("[", "](a)"));
    texts.push(half("*a ", "a* "));
    texts.push(half("[a](", ")"));
    texts.push(half("> ", "\n> a"));
    texts.push(half(">", "\na"));
    texts.push(half("- ", "\na"));
    texts.push(half("|a", "\n|-"));
    texts.push(filled("[a]: /b\n\n", "[a] ", ""));
    texts.push(filled(&format!("[a]: /{}\n\n", "b".repeat(2_000)), "[a] ", ""));
    texts.push(filled(&format!("{}\n{}\n", "|a".repeat(2_000), "|-".repeat(2_000)), "|\n", ""));
    texts.push((1..450).map(|n| "`".repeat(n) + " ").collect());
    texts.push((1..7_000).map(|n| format!("[^{n}]: a\n\n")).collect());
    texts.push((1..7_000).map(|n| format!("[r{n}]: a\n")).collect());
    texts.push((1..300).map(|n| format!("{}- a\n", "  ".repeat(n))).collect());
    texts.push((1..1_000).map(|n| format!("{} a\n", ">".repeat(n))).collect());
    let (slow, _) = measure(BodyFormat::Markdown, &texts);
    assert!(slow.is_empty(), "{slow:#?}");
}
