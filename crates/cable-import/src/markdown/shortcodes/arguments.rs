//! The name and the arguments of a shortcode, as Hugo, Liquid and their plugins write them.

/// An argument of a shortcode; without a name, it is a positional one.
#[derive(Debug, Default)]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) is_quoted: bool,
}

/// The arguments of a shortcode.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<Argument>);

impl Arguments {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
    }

    pub(super) fn positionals(&self) -> impl Iterator<Item = &Argument> {
        self.0.iter().filter(|argument| argument.name.is_empty())
    }

    pub(super) fn positional(&self, index: usize) -> Option<&str> {
        self.positionals().nth(index).map(|argument| argument.value.as_str())
    }

    pub(super) fn any(&self, names: &[&str]) -> String {
        names.iter().find_map(|name| self.get(name)).unwrap_or_default().to_owned()
    }
}

/// Returns the name and the arguments of a shortcode: `figure src="a.jpg" "text"`.
pub(super) fn parse(inner: &str) -> (String, Arguments) {
    let inner = inner.trim();
    let end = inner.find(|c: char| c.is_whitespace()).unwrap_or(inner.len());
    let (name, mut rest) = inner.split_at(end);
    let mut arguments = Arguments::default();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let mut name = String::new();
        if length > 0
            && let Some(after) = rest[length..].strip_prefix(['=', ':'])
            && (rest[length..].starts_with('=') || (rest.starts_with(char::is_alphabetic) && is_value(after)))
        {
            name = rest[..length].to_lowercase();
            rest = after.trim_start();
        }
        let (value, is_quoted);
        (value, rest, is_quoted) = argument(rest);
        arguments.0.push(Argument { name, value, is_quoted });
    }
    (name.to_owned(), arguments)
}

/// Returns whether the text after a colon is the value of an argument, and not the next word or the rest of a URL.
fn is_value(text: &str) -> bool {
    let is_quoted = text.trim_start().starts_with(['"', '\'', '`']);
    is_quoted || !(text.is_empty() || text.starts_with(char::is_whitespace) || text.starts_with("//"))
}

/// Returns the value at the start of a text, the rest of the text, and whether the value is in quotation marks. Within
/// them a backslash escapes the mark, and within `"` a backslash; but not between backticks.
fn argument(text: &str) -> (String, &str, bool) {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
        let (value, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        return (value.to_owned(), rest, false);
    };
    let (mut value, mut rest) = (String::new(), &text[1..]);
    while let Some(at) = rest.find([quote, '\\']) {
        value.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if rest[at..].starts_with(quote) {
            return (value, after, true);
        }
        // The last mark ends the value: the backslash before it is that of a path.
        let escaped = after.chars().next().filter(|c| match c {
            '\\' => quote == '"',
            c => *c == quote && quote != '`' && after[1..].contains(quote),
        });
        value.push(escaped.unwrap_or('\\'));
        rest = &after[escaped.map_or(0, char::len_utf8)..];
    }
    (value + rest, "", true)
}
