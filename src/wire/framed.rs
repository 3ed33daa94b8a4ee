//! A message as it is sent over HTTP/2: after its gRPC prefix, encoded once and shared by all calls that receive it.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// The length of the prefix of each message, in bytes: one byte states whether the message is compressed, four state
/// its length.
pub(crate) const PREFIX: usize = 5;

/// A framed message, or a piece of one: bytes that calls share, followed by bytes that differ between them or come from
/// another source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    shared: Bytes,
    rest: Rest,
}

/// The bytes after the shared ones.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest {
    /// The last bytes of an array; all of its bytes are those of one response.
    Fixed([u8; 8], u8),
    /// More slices: a piece of a feed.
    #[expect(clippy::box_collection, reason = "a response that has none stays small")]
    Slices(Box<VecDeque<Bytes>>),
}

impl Default for Rest {
    fn default() -> Rest {
        Rest::Fixed([0; 8], 0)
    }
}

impl Framed {
    /// Frames a complete message, which has space for its prefix in front of it.
    pub(crate) fn message(mut message: Vec<u8>) -> Framed {
        let length = message.len() - PREFIX;
        put_prefix(&mut message, length);
        Framed::from(shrink(message))
    }

    /// Frames a message that ends with a fixed 8 bytes. `shared` is the rest of it, with its prefix.
    pub(crate) fn with_suffix(shared: Bytes, last: i64) -> Framed {
        Framed { shared, rest: Rest::Fixed(last.to_le_bytes(), 8) }
    }
}

impl Framed {
    /// Returns slices as one piece. Each slice is dropped once it has been read.
    pub(crate) fn chain(slices: Vec<Bytes>) -> Framed {
        let mut slices = VecDeque::from(slices);
        let shared = slices.pop_front().unwrap_or_default();
        let rest = if slices.is_empty() { Rest::default() } else { Rest::Slices(Box::new(slices)) };
        Framed { shared, rest }
    }
}

impl From<Bytes> for Framed {
    /// Wraps bytes as they are.
    fn from(shared: Bytes) -> Framed {
        Framed { shared, rest: Rest::default() }
    }
}

/// Fills in the prefix of a message of `length` bytes.
pub(crate) fn put_prefix(framed: &mut [u8], length: usize) {
    // No response comes near 4 GiB.
    framed[1..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
}

/// Returns bytes that stay in memory, without the spare capacity of their buffer: a view without the body would hold
/// ten times its size. The bytes are copied because an allocator may keep the size of a block that is to shrink: the
/// allocator of this program does so down to half of it.
pub(crate) fn shrink(bytes: Vec<u8>) -> Bytes {
    if bytes.len() == bytes.capacity() { bytes.into() } else { Bytes::copy_from_slice(&bytes) }
}

/// One piece for HTTP/2, so that it becomes one frame.
impl Buf for Framed {
    fn remaining(&self) -> usize {
        self.shared.len()
            + match &self.rest {
                Rest::Fixed(_, remaining) => usize::from(*remaining),
                Rest::Slices(slices) => slices.iter().map(Bytes::len).sum(),
            }
    }

    fn chunk(&self) -> &[u8] {
        match &self.rest {
            Rest::Fixed(tail, remaining) if self.shared.is_empty() => &tail[8 - usize::from(*remaining)..],
            _ => &self.shared,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (tail, more) = match &self.rest {
            Rest::Fixed(tail, remaining) => (&tail[8 - usize::from(*remaining)..], None),
            Rest::Slices(more) => (&[][..], Some(more.iter().map(|slice| &slice[..]))),
        };
        let pieces = [&self.shared[..], tail].into_iter().chain(more.into_iter().flatten());
        let pieces = pieces.filter(|piece| !piece.is_empty());
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        loop {
            let from_shared = count.min(self.shared.len());
            self.shared.advance(from_shared);
            count -= from_shared;
            match &mut self.rest {
                Rest::Fixed(_, remaining) => {
                    assert!(count <= usize::from(*remaining), "advanced past the end of the message");
                    *remaining -= count as u8;
                    return;
                }
                Rest::Slices(slices) if self.shared.is_empty() => match slices.pop_front() {
                    Some(next) => self.shared = next,
                    None => {
                        self.shared = Bytes::new();
                        self.rest = Rest::default();
                    }
                },
                Rest::Slices(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cut_anywhere_is_read_completely() {
        let framed = Framed::with_suffix(Bytes::from_static(b"\0\0\0\0\x0babc"), -2);
        let message = framed.clone().copy_to_bytes(16);
        assert_eq!(message, [&b"\0\0\0\0\x0babc\xfe"[..], &[0xff; 7]].concat());
        for cut in 0..=16 {
            let mut rest = framed.clone();
            let first = rest.copy_to_bytes(cut);
            let mut slices = [IoSlice::new(&[]); 4];
            let count = rest.chunks_vectored(&mut slices);
            let vectored: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(vectored, message[cut..], "cut at {cut}");
            assert_eq!([&first[..], &rest.copy_to_bytes(16 - cut)[..]].concat(), message, "cut at {cut}");
        }
    }

    #[test]
    fn slices_are_read_as_one_and_dropped_one_by_one() {
        let slices = [&b"\0\0\0\0\x05"[..], b"a", b"bcd", b"e"].map(Bytes::from_static).to_vec();
        let framed = Framed::chain(slices);
        let message = framed.clone().copy_to_bytes(10);
        assert_eq!(message, &b"\0\0\0\0\x05abcde"[..]);
        for cut in 0..=10 {
            let mut rest = framed.clone();
            assert_eq!(rest.copy_to_bytes(cut), message[..cut]);
            assert_eq!(rest.remaining(), 10 - cut, "cut at {cut}");
            let mut slices = [IoSlice::new(&[]); 4];
            let count = rest.chunks_vectored(&mut slices);
            let vectored: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(vectored, message[cut..], "cut at {cut}");
            assert_eq!(rest.copy_to_bytes(10 - cut), message[cut..], "cut at {cut}");
        }
        let owner = std::sync::Arc::new([7; 4]);
        struct Owned(std::sync::Arc<[u8; 4]>);
        impl AsRef<[u8]> for Owned {
            fn as_ref(&self) -> &[u8] {
                &*self.0
            }
        }
        let first = Bytes::from_owner(Owned(owner.clone()));
        let mut framed =
            Framed::chain(vec![first, Bytes::from_static(b"ab"), Bytes::from_owner(Owned(owner.clone()))]);
        framed.advance(5);
        assert_eq!(std::sync::Arc::strong_count(&owner), 2);
        framed.advance(5);
        assert_eq!((std::sync::Arc::strong_count(&owner), framed.remaining()), (1, 0));
    }

    #[test]
    fn a_message_holds_no_spare_capacity() {
        let mut message = Vec::with_capacity(1_800);
        message.resize(1_000, 0);
        let block = message.as_ptr();
        let Framed { shared, .. } = Framed::message(message);
        assert_ne!(shared.as_ptr(), block);
        assert_eq!(shared.try_into_mut().unwrap().capacity(), 1_000);
    }

    #[test]
    fn the_prefix_states_the_length_of_the_message() {
        let mut message = vec![0; PREFIX];
        message.extend_from_slice(&[7; 300]);
        let mut framed = Framed::message(message);
        assert_eq!(framed.remaining(), 305);
        assert_eq!(framed.copy_to_bytes(6)[..], [0, 0, 0, 1, 44, 7]);
    }
}
