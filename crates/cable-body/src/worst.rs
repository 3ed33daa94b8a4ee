//! Texts of a given size whose conversion costs most, for tests and benchmarks.

/// Returns texts of HTML.
pub fn html(bytes: usize) -> Vec<String> {
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
    let mut texts: Vec<_> = parts.iter().map(|part| filled(bytes, "", part, "")).collect();
    texts.push(filled(bytes, "<table>", "<tr><td>a</td><td>b", "</table>"));
    texts.push(filled(bytes, "<figure>", "<img src=/a>", "<figcaption>a</figcaption></figure>"));
    texts.push(filled(bytes, "<ul>", "<li>a", "</ul>"));
    texts.push(filled(bytes, "<p>", "a <b>b</b> ", "</p>"));
    texts.push(filled(bytes, "<img srcset='", "/a 1w, ", "'>"));
    texts.push(filled(bytes, "<h2>", "<p>a</p>", "</h2>"));
    texts
}

/// Returns texts of Markdown.
pub fn markdown(bytes: usize) -> Vec<String> {
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
    let mut texts: Vec<_> = parts.iter().map(|part| filled(bytes, "", part, "")).collect();
    let half = |first: &str, second: &str| {
        let bytes = bytes / 2 - 8;
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
    texts.push(filled(bytes, "[a]: /b\n\n", "[a] ", ""));
    texts.push(filled(bytes, &format!("[a]: /{}\n\n", "b".repeat(2_000)), "[a] ", ""));
    texts.push(filled(bytes, &format!("{}\n{}\n", "|a".repeat(2_000), "|-".repeat(2_000)), "|\n", ""));
    texts.push((1..450).map(|n| "`".repeat(n) + " ").collect());
    texts.push((1..7_000).map(|n| format!("[^{n}]: a\n\n")).collect());
    texts.push((1..7_000).map(|n| format!("[r{n}]: a\n")).collect());
    texts.push((1..300).map(|n| format!("{}- a\n", "  ".repeat(n))).collect());
    texts.push((1..1_000).map(|n| format!("{} a\n", ">".repeat(n))).collect());
    texts
}

fn filled(bytes: usize, start: &str, part: &str, end: &str) -> String {
    let room = bytes - start.len() - end.len();
    format!("{start}{}{end}", part.repeat(room / part.len()))
}
