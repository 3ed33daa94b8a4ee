//! Records as length-delimited messages. They are smaller than JSON lines, and unknown fields survive.
//!
//! A file has the eight bytes `CABLEREC` and a version byte, then for each record its length as a varint and its bytes.

use std::io::{self, BufRead, Write};

use bytes::{Bytes, BytesMut};
use prost::encoding::encode_varint;

const MAGIC: &[u8; 8] = b"CABLEREC";
const VERSION: u8 = 1;
/// The maximum size of a record: no message of the protocol can hold a larger one.
pub const MAX_RECORD_BYTES: usize = 4 << 20;

/// An error that ends the reading of a file of records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// The file is not a file of records.
    #[error("not a file of Cable records: CABLEREC is missing at the start")]
    NoMagic,
    /// A later version of Cable wrote the file.
    #[error("unsupported version {0} of the record file: this release reads version 1")]
    Version(u8),
    /// The file is truncated.
    #[error("file truncated within record {record}, at byte {offset}")]
    Truncated {
        /// The number of the record, from 1.
        record: u64,
        /// The length of the file in bytes.
        offset: u64,
    },
    /// A length is out of bounds: the file is damaged.
    #[error(
        "invalid length of record {record} at byte {offset}: {length}, at most 4 MiB; the file is damaged"
    )]
    TooLong {
        /// The number of the record, from 1.
        record: u64,
        /// The byte offset of the length.
        offset: u64,
        /// The length in bytes.
        length: u64,
    },
}

/// A writer of record files.
#[derive(Debug)]
pub struct BinaryWriter<W> {
    out: W,
}

impl<W: Write> BinaryWriter<W> {
    /// Creates a writer and writes the file header.
    ///
    /// # Errors
    /// Fails if the header cannot be written.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&[VERSION])?;
        Ok(BinaryWriter { out })
    }

    /// Appends an encoded Record.
    ///
    /// # Errors
    /// Fails if the record cannot be written or is larger than 4 MiB (`InvalidInput`).
    pub fn write(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD_BYTES {
            let message = format!("record of {} bytes: at most 4 MiB", record.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut length = BytesMut::with_capacity(10);
        encode_varint(record.len() as u64, &mut length);
        self.out.write_all(&length)?;
        self.out.write_all(record)
    }

    /// Flushes the output and returns it.
    ///
    /// # Errors
    /// Fails if the output cannot be flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A reader of record files: an iterator that ends after the first error.
#[derive(Debug)]
pub struct BinaryReader<R> {
    input: R,
    offset: u64,
    record: u64,
    failed: bool,
}

impl<R: BufRead> BinaryReader<R> {
    /// Checks the file header.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is not a file of records, or has another version.
    pub fn new(mut input: R) -> Result<Self, Error> {
        let mut header = [0; MAGIC.len() + 1];
        input.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::NoMagic,
            _ => Error::Read(error),
        })?;
        let [magic @ .., version] = header;
        if magic != *MAGIC {
            return Err(Error::NoMagic);
        }
        if version != VERSION {
            return Err(Error::Version(version));
        }
        Ok(BinaryReader { input, offset: header.len() as u64, record: 0, failed: false })
    }

    fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.record += 1;
        let start = self.offset;
        let length = self.read_length()?;
        if length > MAX_RECORD_BYTES as u64 {
            return Err(Error::TooLong { record: self.record, offset: start, length });
        }
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_some(&mut bytes[filled..])?;
        }
        Ok(Some(bytes.into()))
    }

    fn read_length(&mut self) -> Result<u64, Error> {
        let start = self.offset;
        let mut length = 0;
        for shift in (0..70).step_by(7) {
            let mut byte = [0];
            self.read_some(&mut byte)?;
            length |= u64::from(byte[0] & 0x7f) << shift.min(63);
            if byte[0] < 0x80 {
                return Ok(length);
            }
        }
        Err(Error::TooLong { record: self.record, offset: start, length: u64::MAX })
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, Error> {
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
    fn records_are_read_in_order() {
        let long = vec![7; 300];
        let records: [&[u8]; 3] = [b"one", b"", &long];
        assert_eq!(read(&file(&records)).unwrap(), records);
        assert!(read(&file(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let complete = file(&[b"one", &[7; 300]]);
        for end in MAGIC.len() + 1..complete.len() {
            let read = read(&complete[..end]);
            let boundary = [9, 13].contains(&end);
            assert_eq!(read.is_ok(), boundary, "truncated at {end}");
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
    fn records_above_four_mebibytes_are_refused() {
        let mut huge = b"CABLEREC\x01".to_vec();
        encode_varint(MAX_RECORD_BYTES as u64 + 1, &mut huge);
        assert!(matches!(read(&huge), Err(Error::TooLong { record: 1, offset: 9, .. })));
        assert!(matches!(
            read(b"CABLEREC\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            Err(Error::TooLong { .. })
        ));
        let error = BinaryWriter::new(Vec::new()).unwrap().write(&vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let largest = vec![1; MAX_RECORD_BYTES];
        assert_eq!(read(&file(&[&largest])).unwrap(), [largest]);
    }
}
