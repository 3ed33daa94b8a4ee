//! Files that a running node reads again, such as settings, credentials and certificates; and the owner of new files.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
};

use rustix::fs::OFlags;

/// The mode of a file and of a directory that only their owner may read.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
pub(crate) const PRIVATE_DIRECTORY: u32 = 0o700;

/// The credentials of a node, in the directory of its data.
pub(crate) const CREDENTIALS: &str = "credentials.toml";

/// The last uses of the credentials. It remains if [`CREDENTIALS`] is lost, and shows that the node was closed.
pub(crate) const CREDENTIALS_USED: &str = "credentials.used";

/// Opens a regular file to read it.
///
/// Anything else is refused: a named pipe, or the `/dev/fd/63` of a shell's `<(command)`, can be read only once, and
/// opening it again would block the thread until a process writes to it.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Without this flag, opening a pipe waits for a writer. It has no effect on a regular file.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags of open(2) are an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file: a running node could not read it again",
        ));
    }
    Ok(file)
}

/// Creates a file that only its owner may read.
///
/// # Errors
/// The file exists, or cannot be created.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Gives a file to the owner of another one: the node may run as another user than a command.
///
/// # Errors
/// The process may not do so.
pub(crate) fn give(file: &File, owner: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// Reads at most `max` bytes. Returns `None` if there are more.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_limited(file: File, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content)?;
    Ok(Some(content).filter(|content| content.len() as u64 <= max))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        fs::write(&file, "content").unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(read_limited(open(path).unwrap(), 7).unwrap().unwrap(), b"content");
            assert_eq!(read_limited(open(path).unwrap(), 6).unwrap(), None);
        }
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            let error = open(path).unwrap_err();
            assert!(error.to_string().starts_with("not a regular file"), "{}: {error}", path.display());
        }
        assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
