//! Records as length-delimited messages. They are smaller than JSON lines, and unknown fields survive.
//!
//! A file has the eight bytes `CABLEREC` and a version byte, then for each record its length as a varint and its bytes.
//! Such files can be joined: a header in the place of a length begins another file.

use std::io::{self, BufRead, Write};

use bytes::{Bytes, BytesMut};
use cable_proto::v1;
use prost::{Message as _, encoding::encode_varint};

use crate::wrong_file::{self, WrongFile};

const MAGIC: &[u8; 8] = b"CABLEREC";
const VERSION: u8 = 1;
/// The first byte of a header as a length. No record of this length starts with the rest of the header: that would be
/// field 8, `mentioned`, with the type of a number of 64 bits.
const MAGIC_AS_LENGTH: u64 = MAGIC[0] as u64;
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
    /// The file is of another kind, which is known.
    #[error("the file is {0}")]
    WrongFile(WrongFile),
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

/// A record of a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryRecord {
    /// The number of the record in the file, from 1.
    pub number: u64,
    /// The byte offset of its length in the file.
    pub offset: u64,
    /// The encoded Record, unchanged.
    pub bytes: Bytes,
}

impl BinaryRecord {
    /// Decodes the record, without the fields that this release does not know.
    ///
    /// # Errors
    /// The record is damaged. The text has the path of the field, as far as it is known, and the problem.
    pub fn decode(&self) -> Result<v1::Record, String> {
        v1::Record::decode(self.bytes.clone()).map_err(|error| describe(&error))
    }
}

/// Describes the error of a message that cannot be decoded: the path of the field, then the problem. prost lists the
/// messages and fields around the error, the innermost first.
fn describe(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    let mut problem = text.trim_start_matches("failed to decode Protobuf message: ");
    let mut path = Vec::new();
    while let Some((location, rest)) = problem.split_once(": ")
        && let Some((_, field)) = location.split_once('.')
        && !location.contains(' ')
    {
        path.push(field);
        problem = rest;
    }
    // prost names the oneof in place of the entity.
    if path.last() == Some(&"record") {
        path.pop();
    }
    path.reverse();
    let path = if path.is_empty() { String::new() } else { format!("{}: ", path.join(".")) };
    format!("{path}{problem}; the record is damaged: export it again")
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
        let wrong = wrong_file::of_text(input.fill_buf()?).filter(|wrong| *wrong != WrongFile::Binary);
        if let Some(wrong) = wrong {
            return Err(Error::WrongFile(wrong));
        }
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

    fn read(&mut self) -> Result<Option<BinaryRecord>, Error> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(None);
            }
            self.record += 1;
            let (number, offset) = (self.record, self.offset);
            let length = self.read_length()?;
            if length > MAX_RECORD_BYTES as u64 {
                return Err(Error::TooLong { record: number, offset, length });
            }
            let bytes = self.read_bytes(length)?;
            match bytes.as_slice() {
                // The length can take several bytes only in a damaged file.
                [] if length == MAGIC_AS_LENGTH => self.record -= 1,
                _ => return Ok(Some(BinaryRecord { number, offset, bytes: bytes.into() })),
            }
        }
    }

    /// Reads the bytes of a record. They are empty if they are the rest of a header.
    fn read_bytes(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        if length == MAGIC_AS_LENGTH {
            let [_, rest @ ..] = MAGIC;
            filled = rest.len() + 1;
            self.read_exact(&mut bytes[..filled])?;
            match bytes.strip_prefix(rest) {
                Some([VERSION, ..]) => return Ok(Vec::new()),
                Some([version, ..]) => return Err(Error::Version(*version)),
                _ => {}
            }
        }
        self.read_exact(&mut bytes[filled..])?;
        Ok(bytes)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < into.len() {
            filled += self.read_some(&mut into[filled..])?;
        }
        Ok(())
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
    type Item = Result<BinaryRecord, Error>;

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
        BinaryReader::new(file)?.map(|record| record.map(|record| record.bytes)).collect()
    }

    /// Returns the number and the offset of each record.
    fn places(file: &[u8]) -> Vec<(u64, u64)> {
        let records = BinaryReader::new(file).unwrap().map(Result::unwrap);
        records.map(|record| (record.number, record.offset)).collect()
    }

    #[test]
    fn joined_files_are_read_to_the_end() {
        let (empty, some) = (file(&[]), file(&[b"one", &[7; 67]]));
        let once = read(&some).unwrap();
        assert_eq!(read(&[&*some, &empty, &some].concat()).unwrap(), [once.clone(), once].concat());
        assert!(read(&[&*empty, &empty].concat()).unwrap().is_empty());
        assert_eq!(places(&[&*some, &empty, &some].concat()), [(1, 9), (2, 13), (3, 99), (4, 103)]);
        let later = [&*some, b"CABLEREC\x02"].concat();
        assert!(matches!(read(&later), Err(Error::Version(2))));
        for end in 1..MAGIC.len() + 1 {
            let cut = [&*some, &empty[..end]].concat();
            assert!(matches!(read(&cut), Err(Error::Truncated { record: 3, .. })), "{end}");
        }
        // A record that has the length and the first bytes of a header is a record.
        let similar = [b"ABLEREX".as_slice(), &[1; 60]].concat();
        assert_eq!(read(&file(&[&similar])).unwrap(), [similar]);
    }

    #[test]
    fn a_damaged_record_is_described_by_its_field() {
        let tag = v1::Tag { name: "tags/a".into(), ..Default::default() };
        let record = v1::Record { record: Some(v1::record::Record::Tag(tag)), ..Default::default() };
        let whole = record.encode_to_vec();
        let decode = |bytes: &[u8]| {
            BinaryRecord { number: 1, offset: 9, bytes: Bytes::copy_from_slice(bytes) }.decode()
        };
        assert_eq!(decode(&whole).unwrap(), record);
        // The type of the first field, the length of the tag, the length of its name, and a letter of it.
        for (at, byte, expected) in [
            (0, 0x27, "invalid wire type value: 7; the record is damaged"),
            (1, 0x70, "buffer underflow"),
            (3, 0x70, "name: buffer underflow"),
            (5, 0xff, "name: invalid string value"),
        ] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            let problem = decode(&damaged).unwrap_err();
            assert!(problem.starts_with(expected), "{at}: {problem}");
        }
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
        assert!(matches!(read(b"{\"article\":{}}"), Err(Error::WrongFile(WrongFile::Json))));
        assert!(matches!(read(b"<rss/>"), Err(Error::WrongFile(WrongFile::Xml))));
        assert!(matches!(read(b"SQLite format 3\0"), Err(Error::WrongFile(WrongFile::Backup))));
        assert!(matches!(read(b"else"), Err(Error::NoMagic)));
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
