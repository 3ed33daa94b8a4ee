//! Ids of calls, by which a caller, a log and an error speak of the same call; and the traces that calls belong to.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The maximum length of an id that a client gives.
const MAX_BYTES: usize = 128;

/// The id of a call: printable ASCII without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(Box<str>);

impl RequestId {
    /// Returns the id that a client gives, or a new one in place of one that is not valid.
    pub(super) fn given(value: &[u8]) -> RequestId {
        let is_valid = (1..=MAX_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(value).ok().filter(|_| is_valid);
        text.map_or_else(RequestId::make, |text| RequestId(text.into()))
    }

    /// Makes an id: the start of this process, then the number of the id.
    pub(super) fn make() -> RequestId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        RequestId(format!("{}-{:08x}", process(), NEXT.fetch_add(1, Relaxed)).into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns a random text that identifies the start of this process.
pub(super) fn process() -> &'static str {
    static PROCESS: LazyLock<String> =
        LazyLock::new(|| format!("{:016x}", RandomState::new().hash_one(std::process::id())));
    &PROCESS
}

/// The trace that a call belongs to (W3C Trace Context, `traceparent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) id: [u8; 16],
    pub(super) parent: [u8; 8],
    /// Whether the caller records the trace.
    pub(super) is_sampled: bool,
}

impl Trace {
    /// Parses a `traceparent`. A later version may have further fields.
    pub(super) fn parse(value: &[u8]) -> Option<Trace> {
        let (known, rest) = value.split_at_checked(55)?;
        let [version, id, parent, flags] = [&known[..2], &known[3..35], &known[36..52], &known[53..]];
        let version = hex::<1>(version)?[0];
        let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let trace = Trace { id: hex(id)?, parent: hex(parent)?, is_sampled: hex::<1>(flags)?[0] & 1 == 1 };
        let is_valid = version != 0xff && is_whole && has_dashes && trace.id != [0; 16];
        (is_valid && trace.parent != [0; 8]).then_some(trace)
    }
}

/// Returns bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Parses lower-case hexadecimal digits, as the specification requires.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_used_if_it_is_short_and_printable() {
        let long = "x".repeat(MAX_BYTES);
        for id in ["a", "3f2c-1", "https://desk.example/?a=b&c=\"d\"", &long] {
            assert_eq!(RequestId::given(id.as_bytes()).as_str(), id);
        }
        for id in ["", " ", "a b", "a\tb", "a\nb", "é", "\u{7f}", &format!("{long}x")] {
            let made = RequestId::given(id.as_bytes());
            assert_ne!(made.as_str(), id);
            assert_eq!(RequestId::given(made.0.as_bytes()), made);
        }
        assert!(RequestId::given(b"\xff\xfe").as_str().is_ascii());
    }

    #[test]
    fn made_ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| RequestId::make().0).collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn a_traceparent_is_read_as_specified() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let parent = "b7ad6b7169203331";
        let read = |text: &str| {
            Trace::parse(text.as_bytes()).map(|trace| (hexadecimal(&trace.id), trace.is_sampled))
        };
        for (text, sampled) in [
            (format!("00-{id}-{parent}-01"), true),
            (format!("00-{id}-{parent}-00"), false),
            (format!("00-{id}-{parent}-03"), true),
            (format!("cc-{id}-{parent}-01-what"), true),
            (format!("cc-{id}-{parent}-01"), true),
        ] {
            assert_eq!(read(&text), Some((id.to_owned(), sampled)), "{text}");
        }
        for text in [
            String::new(),
            id.to_owned(),
            format!("ff-{id}-{parent}-01"),
            format!("00-{id}-{parent}-01-what"),
            format!("cc-{id}-{parent}-01what"),
            format!("00-{id}-{parent}-1"),
            format!("00_{id}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-{id}-{parent}-0é"),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }
}
