//! The names of the files of a log: the one that is written, and the earlier ones, which are numbered.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Returns the earlier files of a log with their numbers, the oldest first.
pub(super) fn earlier_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = format!("{}.", display_name(path));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(&prefix).filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        files.extend(number.and_then(|number| number.parse().ok()).map(|number| (number, entry.path())));
    }
    files.sort_unstable();
    Ok(files)
}

/// Returns the name of the next earlier file.
pub(super) fn next_earlier(path: &Path) -> io::Result<PathBuf> {
    let number = earlier_files(path)?.last().map_or(1, |(number, _)| number + 1);
    Ok(with_suffix(path, &format!("{number:06}")))
}

/// Returns the name of a file without its directory, as a line states it.
pub(super) fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".");
    name.push(suffix);
    name.into()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in the directory of a log durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}
