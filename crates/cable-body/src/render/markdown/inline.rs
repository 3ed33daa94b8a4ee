//! Running text as Markdown: escaping, and a form for each mark that parsers recognise.

use super::{
    super::{Marks, Stops, clean, is_blank, link},
    Markdown,
};
use cable_proto::v1::{Link, Mark, Span};

/// A run of text with the same marks.
pub(super) struct Piece<'a> {
    pub(super) text: String,
    /// The marks except code, which is always innermost.
    marks: Marks,
    code: bool,
    link: Option<(&'a Link, &'a str)>,
}

impl Piece<'_> {
    pub(super) fn plain(text: &str) -> Self {
        Self { text: clean(text).into_owned(), marks: Marks::default(), code: false, link: None }
    }

    pub(super) fn emphasised(text: &str) -> Self {
        Self { marks: Marks::default().with(Mark::Emphasis), ..Self::plain(text) }
    }

    pub(super) fn code(text: &str) -> Self {
        Self { code: true, ..Self::plain(text) }
    }

    fn is_space(&self) -> bool {
        self.text.chars().all(char::is_whitespace)
    }

    fn looks_like(&self, other: &Self) -> bool {
        self.marks == other.marks && self.code == other.code && self.link == other.link
    }

    fn depth(&self) -> usize {
        self.marks.as_slice().len()
    }
}

impl<'a> Piece<'a> {
    fn with_text(&self, text: &str) -> Piece<'a> {
        Piece { text: text.to_owned(), marks: self.marks, code: self.code, link: self.link }
    }
}

/// Returns the spans as pieces, with the `outer` marks around all of them.
pub(super) fn pieces(spans: &[Span], outer: Marks) -> Vec<Piece<'_>> {
    let piece = |span| {
        let (mut marks, own) = (outer, Marks::of(span));
        own.as_slice().iter().filter(|&&mark| mark != Mark::Code).for_each(|&mark| marks.push(mark));
        let code = own.as_slice().contains(&Mark::Code);
        Piece { text: clean(&span.text).into_owned(), marks, code, link: link(span) }
    };
    spans.iter().map(piece).collect()
}

/// Returns the length of the longest run of the character.
pub(super) fn longest_run(text: &str, c: char) -> usize {
    text.split(|other| other != c).map(str::len).max().unwrap_or_default() / c.len_utf8()
}

/// Moves white space out of the marks that start or end with it, where no parser would see it, and joins pieces with
/// the same look.
fn arrange(pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let mut parts: Vec<Piece<'_>> = Vec::with_capacity(pieces.len() * 2);
    for piece in pieces {
        let text = piece.text.as_str();
        // A line break ends code: within it, a parser would read a space. No text contains a null character.
        for line in text.split_inclusive(if piece.code { '\n' } else { '\0' }) {
            let begin = line.len() - line.trim_start().len();
            let end = line.trim_end().len().max(begin);
            for part in
                [&line[..begin], &line[begin..end], &line[end..]].into_iter().filter(|part| !part.is_empty())
            {
                join(&mut parts, piece.with_text(part));
            }
        }
    }
    for at in 0..parts.len() {
        if parts[at].is_space() {
            let (marks, code, link) = between(&parts, at);
            (parts[at].marks, parts[at].code, parts[at].link) = (marks, code, link);
        }
    }
    let mut arranged = join_alike(parts);
    order_stars(&mut arranged);
    // Pieces can look alike only now: two codes would otherwise be one with backticks inside.
    join_alike(arranged)
}

fn join_alike(pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let mut joined: Vec<Piece<'_>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.looks_like(&piece) => last.text.push_str(&piece.text),
            _ => joined.push(piece),
        }
    }
    joined
}

/// Puts emphasis around strong text where both have the same extent: that is how parsers read `***`.
fn order_stars(pieces: &mut [Piece<'_>]) {
    for at in 0..pieces.len() {
        let shared = at.checked_sub(1).map_or(0, |before| pieces[before].marks.shared(&pieces[at].marks));
        for depth in shared..pieces[at].depth().saturating_sub(1) {
            let end = region_end(pieces, at, depth);
            if pieces[at].marks.as_slice()[depth..].starts_with(&[Mark::Strong, Mark::Emphasis])
                && end == region_end(pieces, at, depth + 1)
            {
                pieces[at..=end].iter_mut().for_each(|piece| piece.marks.marks.swap(depth, depth + 1));
            }
        }
    }
}

/// Adds a part to the last one if they match: white space to white space, text to text with the same look.
fn join<'a>(parts: &mut Vec<Piece<'a>>, part: Piece<'a>) {
    match parts.last_mut() {
        Some(last) if last.is_space() == part.is_space() && (part.is_space() || last.looks_like(&part)) => {
            last.text.push_str(&part.text);
        }
        _ => parts.push(part),
    }
}

type Look<'a> = (Marks, bool, Option<(&'a Link, &'a str)>);

/// Returns the look of white space: the part of its neighbours' looks that both share.
fn between<'a>(parts: &[Piece<'a>], at: usize) -> Look<'a> {
    let before = at.checked_sub(1).and_then(|at| parts.get(at));
    match (before, parts.get(at + 1)) {
        (Some(a), Some(b)) if a.link == b.link => {
            let code = a.code && b.code && a.marks == b.marks && !parts[at].text.contains('\n');
            (a.marks.outer(a.marks.shared(&b.marks)), code, a.link)
        }
        _ => (Marks::default(), false, None),
    }
}

/// The form in which a mark is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Delimiter,
    Element,
}

/// The state of a run of inline text that is being written.
struct State {
    one_line: bool,
    begin: usize,
    hard_break: bool,
    open: Vec<(Mark, Form)>,
    /// The start and the end of the last opening stars.
    opened: (usize, usize),
    /// The end of the last closing delimiter.
    closed: Option<usize>,
}

impl State {
    /// Returns whether stars are open that the next stars do not join.
    fn has_open_star(&self, written: usize) -> bool {
        let is_open = self.open.iter().any(|&(mark, form)| is_star(mark) && form == Form::Delimiter);
        is_open && self.opened.1 != written
    }
}

impl Markdown {
    /// Writes running text, in one line if a line break would end it.
    pub(super) fn inline(&mut self, pieces: Vec<Piece<'_>>, one_line: bool) {
        if pieces.iter().all(|piece| is_blank(&piece.text)) {
            return;
        }
        let pieces = arrange(pieces);
        let mut state = State {
            one_line,
            begin: self.lines.len(),
            hard_break: false,
            open: Vec::new(),
            opened: (0, 0),
            closed: None,
        };
        let mut last: Option<&Piece<'_>> = None;
        for (at, piece) in pieces.iter().enumerate() {
            let same_link = last.is_some_and(|last| last.link == piece.link);
            let shared = if same_link { last.map_or(0, |last| last.marks.shared(&piece.marks)) } else { 0 };
            self.close_marks(&mut state, shared);
            if !same_link {
                self.change_link(&mut state, last.and_then(|last| last.link), piece.link);
            }
            for depth in shared..piece.depth() {
                self.open_mark(&mut state, &pieces, at, depth);
            }
            self.piece(&mut state, piece);
            last = Some(piece);
        }
        self.close_marks(&mut state, 0);
        self.change_link(&mut state, last.and_then(|last| last.link), None);
    }

    fn change_link(&mut self, state: &mut State, from: Option<(&Link, &str)>, to: Option<(&Link, &str)>) {
        if let Some((link, target)) = from {
            self.lines.push(']');
            self.destination(target, &link.title);
        }
        if to.is_some() {
            self.markup(state, "[");
        }
    }

    /// Writes the target of a link or picture.
    pub(super) fn destination(&mut self, target: &str, title: &str) {
        self.lines.push('(');
        let last_semicolon = target.rfind(';').unwrap_or_default();
        for (at, c) in target.char_indices() {
            match c {
                '(' | ')' | '\\' => {
                    self.lines.push('\\');
                    self.lines.push(c);
                }
                '&' if at < last_semicolon => self.lines.push_str("&amp;"),
                '<' => self.lines.push_str("%3C"),
                '>' => self.lines.push_str("%3E"),
                '`' => self.lines.push_str("%60"),
                '|' => self.lines.push_str("%7C"),
                c if c.is_whitespace() => self.lines.push_str("%20"),
                c => self.lines.push(c),
            }
        }
        if !is_blank(title) {
            self.lines.push_str(" \"");
            for c in clean(title).chars() {
                if c.is_ascii_punctuation() {
                    self.lines.push('\\');
                }
                self.lines.push(if c == '\n' { ' ' } else { c });
            }
            self.lines.push('"');
        }
        self.lines.push(')');
    }

    /// Writes markup after the pending line break.
    fn markup(&mut self, state: &mut State, markup: &str) {
        self.break_if_due(state);
        self.lines.push_str(markup);
    }

    fn break_if_due(&mut self, state: &mut State) {
        if !std::mem::take(&mut state.hard_break) {
            return;
        }
        if state.one_line {
            self.lines.push_str("<br>");
        } else {
            self.hard_break();
        }
    }

    fn close_marks(&mut self, state: &mut State, shared: usize) {
        for (mark, form) in state.open.drain(shared..).rev() {
            match form {
                Form::Delimiter => {
                    self.lines.push_str(delimiter(mark));
                    state.closed = Some(self.lines.len());
                }
                Form::Element => self.lines.push_str(&format!("</{}>", element(mark))),
            }
        }
    }

    fn open_mark(&mut self, state: &mut State, pieces: &[Piece<'_>], at: usize, depth: usize) {
        let mark = pieces[at].marks.as_slice()[depth];
        let form = self.form(state, pieces, at, depth);
        match form {
            Form::Delimiter => {
                self.markup(state, delimiter(mark));
                if is_star(mark) {
                    let (end, begin) = (self.lines.len(), self.lines.len() - delimiter(mark).len());
                    state.opened = (if state.opened.1 == begin { state.opened.0 } else { begin }, end);
                }
            }
            Form::Element => self.markup(state, &format!("<{}>", element(mark))),
        }
        state.open.push((mark, form));
    }

    /// Selects a delimiter if every parser recognises it: a letter or digit follows it, or white space or punctuation
    /// precedes it, and the mirrored condition is true at its end. Two delimiters side by side are avoided.
    fn form(&self, state: &State, pieces: &[Piece<'_>], at: usize, depth: usize) -> Form {
        let mark = pieces[at].marks.as_slice()[depth];
        if matches!(mark, Mark::Sub | Mark::Sup) || state.closed == Some(self.lines.len()) {
            return Form::Element;
        }
        let end = region_end(pieces, at, depth);
        let before = self.before(state, mark);
        let first = edge(pieces, at, end, depth, false);
        let opens = (is_word(first) || parts(before))
            && !(is_star(mark) && state.has_open_star(self.lines.len()) && may_close(before, first));
        let closes = is_word(edge(pieces, at, end, depth, true)) || parted_after(pieces, end, depth);
        if opens && closes { Form::Delimiter } else { Form::Element }
    }

    /// Returns the character before the mark to open, and before stars that it joins.
    fn before(&self, state: &State, mark: Mark) -> char {
        if self.lines.at_start() {
            return ' ';
        }
        if state.hard_break {
            // In one line, the break is `<br>`.
            return if state.one_line { '>' } else { ' ' };
        }
        let written = self.lines.written();
        let (begin, end) = state.opened;
        let end = if is_star(mark) && end == written.len() { begin } else { written.len() };
        let in_line = self.lines.line().len() > written.len() - end;
        written[..end].chars().next_back().filter(|_| in_line).unwrap_or(' ')
    }

    fn piece(&mut self, state: &mut State, piece: &Piece<'_>) {
        if !piece.code {
            return self.text(state, &piece.text);
        }
        self.break_if_due(state);
        // `|` and `\` would end a cell, and `[..]:` would define a link.
        let ends_cell = state.one_line && piece.text.contains(['|', '\\']);
        if ends_cell || piece.link.is_some() && piece.text.contains(']') {
            self.lines.push_str("<code>");
            self.text(state, &piece.text.replace('\n', " "));
            return self.lines.push_str("</code>");
        }
        let fence = "`".repeat(longest_run(&piece.text, '`') + 1);
        let pad = if piece.text.starts_with('`') || piece.text.ends_with('`') { " " } else { "" };
        let text = piece.text.replace('\n', " ");
        [&fence, pad, &text, pad, &fence].into_iter().for_each(|part| self.lines.push_str(part));
    }

    fn text(&mut self, state: &mut State, text: &str) {
        static STOPS: Stops = Stops::new(b"\\`*_[]<~|&!#.)");
        let mut rest = text.chars();
        loop {
            if !self.lines.at_start() && self.lines.len() > state.begin && !state.hard_break {
                let (plain, special) = STOPS.split(rest.as_str());
                self.lines.push_str(plain);
                rest = special.chars();
            }
            let Some(c) = rest.next() else { return };
            let at_start = self.lines.at_start() || self.lines.len() == state.begin || state.hard_break;
            if c == '\n' {
                state.hard_break |= !at_start;
            } else if !c.is_whitespace() {
                self.break_if_due(state);
                if self.is_special(state, c, rest.as_str().chars().next()) {
                    self.lines.push('\\');
                }
                self.lines.push(c);
            } else if !at_start {
                self.lines.push(if c == '\t' { ' ' } else { c });
            }
        }
    }

    /// Returns whether the character could be read as markup if it is not escaped.
    fn is_special(&self, state: &State, c: char, next: Option<char>) -> bool {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '~' | '|' => true,
            '&' => next.is_none_or(|next| next == '#' || next.is_ascii_alphanumeric()),
            '!' => next.is_none(),
            '#' => state.one_line || self.lines.at_start(),
            '+' | '-' | '=' | '>' | ':' => self.lines.at_start(),
            '.' | ')' => {
                // The number of a list item has at most nine digits.
                let line = self.lines.line();
                (1..=9).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_digit())
            }
            _ => false,
        }
    }
}

/// Returns the last piece that the mark at this depth covers.
fn region_end(pieces: &[Piece<'_>], at: usize, depth: usize) -> usize {
    let first = &pieces[at];
    let continues = |piece: &&Piece<'_>| piece.link == first.link && first.marks.shared(&piece.marks) > depth;
    at + pieces[at..].iter().take_while(continues).count() - 1
}

/// Returns the first or last character within a mark.
fn edge(pieces: &[Piece<'_>], at: usize, end: usize, depth: usize, last: bool) -> char {
    let piece = &pieces[if last { end } else { at }];
    let mark = pieces[at].marks.as_slice()[depth];
    match piece.marks.as_slice().get(depth + 1) {
        // Delimiters that open together and close together are one row of stars.
        Some(&inner) if is_star(inner) && is_star(mark) && encloses(pieces, at, end, depth + 1) => {
            edge(pieces, at, end, depth + 1, last)
        }
        Some(_) => '*',
        None if piece.code => '`',
        None if last => piece.text.chars().next_back().unwrap_or(' '),
        None => piece.text.chars().next().unwrap_or(' '),
    }
}

fn encloses(pieces: &[Piece<'_>], at: usize, end: usize, depth: usize) -> bool {
    pieces[at].depth() > depth && region_end(pieces, at, depth) == end
}

/// Returns whether a mark that ends here is not followed by a word.
fn parted_after(pieces: &[Piece<'_>], end: usize, depth: usize) -> bool {
    let Some(next) = pieces.get(end + 1) else { return true };
    let last = &pieces[end];
    let opens_another = next.depth() > last.marks.shared(&next.marks).min(depth);
    next.link != last.link || next.code || opens_another || next.text.chars().next().is_none_or(parts)
}

fn is_star(mark: Mark) -> bool {
    matches!(mark, Mark::Strong | Mark::Emphasis)
}

fn delimiter(mark: Mark) -> &'static str {
    match mark {
        Mark::Strong => "**",
        Mark::Emphasis => "*",
        _ => "~~",
    }
}

fn element(mark: Mark) -> &'static str {
    match mark {
        Mark::Strong => "strong",
        Mark::Emphasis => "em",
        Mark::Strike => "s",
        Mark::Sub => "sub",
        _ => "sup",
    }
}

/// Returns whether stars between these two characters could end an open mark.
fn may_close(before: char, first: char) -> bool {
    !(before.is_whitespace() || parts(before) && is_word(first))
}

/// Returns whether the character is a letter or digit, but not also a symbol.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() && !matches!(c, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}')
}

/// Returns whether the character is white space, or punctuation in every version of Unicode.
fn parts(c: char) -> bool {
    c.is_whitespace()
        || c.is_ascii_punctuation()
        || matches!(c, '\u{2010}'..='\u{2027}' | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}')
        || "\u{a1}\u{a7}\u{ab}\u{b6}\u{b7}\u{bb}\u{bf}".contains(c)
}
