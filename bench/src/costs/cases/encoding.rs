//! Protobuf by hand: many of these requests contain messages that no client would build.

/// Returns a field that holds bytes, a text or a message.
pub(super) fn f(number: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut out = Vec::with_capacity(value.len() + 8);
    varint(u64::from(number) << 3 | 2, &mut out);
    varint(value.len() as u64, &mut out);
    out.extend_from_slice(value);
    out
}

/// Returns a field that holds a number.
pub(super) fn n(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number) << 3, &mut out);
    varint(value, &mut out);
    out
}

pub(super) fn many(count: usize, one: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(one).collect()
}

/// Returns an article with these fields as content.
pub(super) fn article(name: &str, fields: &[u8]) -> Vec<u8> {
    [f(1, format!("articles/{name}")), f(11, "H"), fields.to_vec()].concat()
}

pub(super) fn block(kind: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    f(1, f(kind, value))
}

pub(super) fn paragraph(spans: impl AsRef<[u8]>) -> Vec<u8> {
    block(2, spans)
}

pub(super) fn span(text: &str) -> Vec<u8> {
    f(1, f(1, text))
}

pub(super) fn x(length: usize) -> String {
    "x".repeat(length)
}

pub(super) fn id(i: usize, width: usize) -> String {
    format!("{i:0width$}")
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
