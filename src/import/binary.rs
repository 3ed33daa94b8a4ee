//! Records as length-delimited messages: smaller than lines, and unknown fields survive.
//!
//! A file is the eight bytes `CABLEREC`, a version byte, then for each record its length as a varint and its bytes.

use std::io::{self, BufRead, Write};

use bytes::{Bytes, BytesMut};
use prost::encoding::encode_varint;

const MAGIC: &[u8; 8] = b"CABLEREC";
const VERSION: u8 = 1;
/// Largest record: no message of the protocol can hold a larger one.
pub(crate) const MAX_RECORD_BYTES: usize = 4 << 20;

/// Why a file of records cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file could not be read.
    #[error("read the file")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("not a file of Cable records: it does not start with CABLEREC")]
    NoMagic,
    /// A later Cable wrote it.
    #[error("version {0} of the record file; this release reads version 1")]
    Version(u8),
    /// It was cut off.
    #[error("the file ends within record {record}, at byte {offset}: it was cut off")]
    Truncated {
        /// Number of the record, from 1.
        record: u64,
        /// Length of the file.
        offset: u64,
    },
    /// A length is not one: the file is damaged.
    #[error(
        "the length of record {record} at byte {offset} is {length}, more than 4 MiB: the file is damaged"
    )]
    TooLong {
        /// Number of the record, from 1.
        record: u64,
        /// Where its length stands.
        offset: u64,
        /// The length.
        length: u64,
    },
}

/// Writes records to a file.
#[derive(Debug)]
pub(crate) struct BinaryWriter<W> {
    out: W,
}

impl<W: Write> BinaryWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION])?;
        Ok(BinaryWriter { out })
    }

    /// Appends an encoded Record.
    ///
    /// # Errors
    /// It could not be written, or is larger than 4 MiB (`InvalidInput`).
    pub(crate) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD_BYTES {
            let message = format!("a record of {} bytes: at most 4 MiB", record.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut length = BytesMut::with_capacity(10);
        encode_varint(record.len() as u64, &mut length);
        self.out.write_all(&length)?;
        self.out.write_all(record)
    }

    /// Ends the file and gives back what it was written to, flushed.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads records from a file: an iterator that ends after the first error.
#[derive(Debug)]
pub(crate) struct BinaryReader<R> {
    input: R,
    offset: u64,
    record: u64,
    failed: bool,
}

impl<R: BufRead> BinaryReader<R> {
    /// Checks the head of the file.
    ///
    /// # Errors
    /// It is no such file, or one of another version.
    pub(crate) fn new(mut input: R) -> Result<Self, Error> {
        let mut head = [0; MAGIC.len() + 1];
        input.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::NoMagic,
            _ => Error::Read(error),
        })?;
        let [magic @ .., version] = head;
        if magic != *MAGIC {
            return Err(Error::NoMagic);
        }
        if version != VERSION {
            return Err(Error::Version(version));
        }
        Ok(BinaryReader { input, offset: head.len() as u64, record: 0, failed: false })
    }

    fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.record += 1;
        let start = self.offset;
        let length = self.length()?;
        if length > MAX_RECORD_BYTES as u64 {
            return Err(Error::TooLong { record: self.record, offset: start, length });
        }
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.some(&mut bytes[filled..])?;
        }
        Ok(Some(bytes.into()))
    }

    fn length(&mut self) -> Result<u64, Error> {
        let start = self.offset;
        let mut length = 0;
        for shift in (0..70).step_by(7) {
            let mut byte = [0];
            self.some(&mut byte)?;
            length |= u64::from(byte[0] & 0x7f) << shift.min(63);
            if byte[0] < 0x80 {
                return Ok(length);
            }
        }
        Err(Error::TooLong { record: self.record, offset: start, length: u64::MAX })
    }

    fn some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.input.read(into) {
                Ok(0) => return Err(Error::Truncated { record: self.record, offset: self.offset }),
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: BufRead> Iterator for BinaryReader<R> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut writer = BinaryWriter::new(Vec::new()).unwrap();
        for record in records {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(file: &[u8]) -> Result<Vec<Bytes>, Error> {
        BinaryReader::new(file)?.collect()
    }

    #[test]
    fn records_come_back_in_order() {
        let long = vec![7; 300];
        let records: [&[u8]; 3] = [b"one", b"", &long];
        assert_eq!(read(&file(&records)).unwrap(), records);
        assert!(read(&file(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_file_cut_within_a_record_says_so() {
        let whole = file(&[b"one", &[7; 300]]);
        for end in MAGIC.len() + 1..whole.len() {
            let read = read(&whole[..end]);
            let boundary = [9, 13].contains(&end);
            assert_eq!(read.is_ok(), boundary, "cut at {end}");
            if let Err(error) = read {
                assert!(matches!(error, Error::Truncated { offset, .. } if offset == end as u64), "{error}");
            }
        }
    }

    #[test]
    fn foreign_and_later_files_are_refused() {
        assert!(matches!(read(b"{\"article\":{}}"), Err(Error::NoMagic)));
        assert!(matches!(read(b""), Err(Error::NoMagic)));
        assert!(matches!(read(b"CABLEREC\x02"), Err(Error::Version(2))));
    }

    #[test]
    fn no_length_makes_the_reader_take_more_than_four_mebibytes() {
        let mut huge = b"CABLEREC\x01".to_vec();
        encode_varint(MAX_RECORD_BYTES as u64 + 1, &mut huge);
        assert!(matches!(read(&huge), Err(Error::TooLong { record: 1, offset: 9, .. })));
        assert!(matches!(
            read(b"CABLEREC\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            Err(Error::TooLong { .. })
        ));
        let error = BinaryWriter::new(Vec::new()).unwrap().write(&vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let most = vec![1; MAX_RECORD_BYTES];
        assert_eq!(read(&file(&[&most])).unwrap(), [most]);
    }
}
