//! A message as it goes over HTTP/2: behind its gRPC prefix, encoded once and shared by all whom it answers.

use bytes::{Buf, Bytes};

/// What stands before each message: one byte that says whether it is compressed, four that say how long it is.
pub(crate) const PREFIX: usize = 5;

/// A framed message: bytes that calls share and, where it is one answer, the 8 bytes that differ between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    shared: Bytes,
    tail: [u8; 8],
    /// Bytes of `tail` that are not yet taken.
    left: usize,
}

impl Framed {
    /// A message that is whole, behind room for its prefix.
    pub(crate) fn whole(mut message: Vec<u8>) -> Framed {
        let length = message.len() - PREFIX;
        put_prefix(&mut message, length);
        Framed::from(kept(message))
    }

    /// A message that ends with a fixed 8 bytes: `shared` is the rest of it, with its prefix.
    pub(crate) fn ending(shared: Bytes, last: i64) -> Framed {
        Framed { shared, tail: last.to_le_bytes(), left: 8 }
    }
}

impl From<Bytes> for Framed {
    /// Bytes as they are.
    fn from(shared: Bytes) -> Framed {
        Framed { shared, tail: [0; 8], left: 0 }
    }
}

/// Fills in the prefix of a message of `length` bytes.
pub(crate) fn put_prefix(framed: &mut [u8], length: usize) {
    // No answer comes near 4 GiB.
    framed[1..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
}

/// Bytes that stay in memory, without the room that they were given to grow: a view without the body would hold ten
/// times what it weighs. They are copied because an allocator may leave a block that is to shrink as large as it is:
/// ours does so down to half of it.
pub(crate) fn kept(bytes: Vec<u8>) -> Bytes {
    if bytes.len() == bytes.capacity() { bytes.into() } else { Bytes::copy_from_slice(&bytes) }
}

/// One piece for HTTP/2, so that it becomes one frame.
impl Buf for Framed {
    fn remaining(&self) -> usize {
        self.shared.len() + self.left
    }

    fn chunk(&self) -> &[u8] {
        if self.shared.is_empty() { &self.tail[8 - self.left..] } else { &self.shared }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let pieces = [&self.shared[..], &self.tail[8 - self.left..]];
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = std::io::IoSlice::new(piece)).count()
    }

    fn advance(&mut self, count: usize) {
        let of_shared = count.min(self.shared.len());
        self.shared.advance(of_shared);
        assert!(count - of_shared <= self.left, "more is taken than there is");
        self.left -= count - of_shared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_whole_however_it_is_cut() {
        let framed = Framed::ending(Bytes::from_static(b"\0\0\0\0\x0babc"), -2);
        let whole = framed.clone().copy_to_bytes(16);
        assert_eq!(whole, [&b"\0\0\0\0\x0babc\xfe"[..], &[0xff; 7]].concat());
        for cut in 0..=16 {
            let mut rest = framed.clone();
            let first = rest.copy_to_bytes(cut);
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let count = rest.chunks_vectored(&mut slices);
            let vectored: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(vectored, whole[cut..], "cut at {cut}");
            assert_eq!([&first[..], &rest.copy_to_bytes(16 - cut)[..]].concat(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_message_holds_no_room_to_grow() {
        let mut message = Vec::with_capacity(1_800);
        message.resize(1_000, 0);
        let block = message.as_ptr();
        let Framed { shared, .. } = Framed::whole(message);
        assert_ne!(shared.as_ptr(), block);
        assert_eq!(shared.try_into_mut().unwrap().capacity(), 1_000);
    }

    #[test]
    fn the_prefix_says_how_long_the_message_is() {
        let mut message = vec![0; PREFIX];
        message.extend_from_slice(&[7; 300]);
        let mut framed = Framed::whole(message);
        assert_eq!(framed.remaining(), 305);
        assert_eq!(framed.copy_to_bytes(6)[..], [0, 0, 0, 1, 44, 7]);
    }
}
