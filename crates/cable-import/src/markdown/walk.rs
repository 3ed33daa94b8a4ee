//! The files of a directory, in the order of their paths.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The maximum depth of directories.
pub const MAX_DEPTH: usize = 32;

/// The maximum number of entries of all directories.
pub const MAX_ENTRIES: usize = 500_000;

/// The maximum size of a file in bytes: twice a body and front matter of full size.
pub const MAX_FILE_BYTES: u64 = 2 << 20;

/// Directories of package managers.
const PACKAGES: [&str; 2] = ["node_modules", "bower_components"];

/// A thing found in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The path below the directory, with `/` between its parts.
    pub(super) path: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Markdown,
    Html,
    Other,
    Hidden,
    SymbolicLink,
    /// An entry that cannot be imported, and the cause.
    Broken(String),
}

/// An error that ends the walk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The directory has too many entries.
    #[error(
        "more than {MAX_ENTRIES} files: import its directories one by one, each with a prefix of its own"
    )]
    TooMany,
    /// No file is Markdown.
    #[error("no Markdown file below the directory")]
    Nothing,
}

/// Returns the entries below a directory. Symbolic links are not followed.
pub(super) fn walk(root: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut open = vec![(String::new(), 0)];
    let mut count = 0;
    while let Some((directory, depth)) = open.pop() {
        let path = root.join(&directory);
        let failed = |source| Error::Read { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::TooMany);
            }
            let name = entry.file_name();
            let separator = if directory.is_empty() { "" } else { "/" };
            let path = format!("{directory}{separator}{}", name.to_string_lossy());
            let kind = entry.file_type().map_err(failed)?;
            let text = name.to_str();
            let kind = match text {
                None => Kind::Broken("file name is not UTF-8: rename the file".into()),
                Some(name) if name.starts_with('.') || PACKAGES.contains(&name) => Kind::Hidden,
                Some(_) if kind.is_symlink() => Kind::SymbolicLink,
                Some(_) if kind.is_dir() && depth == MAX_DEPTH => Kind::Broken(format!(
                    "more than {MAX_DEPTH} directories deep: import this directory by itself"
                )),
                Some(_) if kind.is_dir() => {
                    open.push((path, depth + 1));
                    continue;
                }
                Some(_) if !kind.is_file() => Kind::Other,
                Some(name) => kind_of(name),
            };
            entries.push(Entry { path, kind });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    if entries.iter().any(|entry| entry.kind == Kind::Markdown) { Ok(entries) } else { Err(Error::Nothing) }
}

fn kind_of(name: &str) -> Kind {
    match extension(name).to_ascii_lowercase().as_str() {
        "md" | "markdown" | "mdown" | "mkd" | "mkdn" => Kind::Markdown,
        "html" | "htm" => Kind::Html,
        _ => Kind::Other,
    }
}

/// Returns the extension of a file without the dot; empty if it has none.
pub(super) fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, extension)| extension)
}

/// Returns the bytes of a file, or the cause why it cannot be imported.
pub(super) fn read(root: &Path, path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(root.join(path)).map_err(|error| format!("cannot read the file: {error}"))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read the file: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("file is larger than {} MiB: split the article", MAX_FILE_BYTES >> 20));
    }
    Ok(bytes)
}
