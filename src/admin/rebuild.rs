//! Creates a store from the entries of another.

use std::{
    fmt,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::{End, Error, identity, make_private, rename, temporary_beside};
use crate::files::PRIVATE_DIRECTORY;
use crate::store::rebuild::{RebuildReport, rebuild as rebuild_store};

/// The options of a rebuild.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuild {
    /// Whether to omit damaged entries, whose content is lost. Otherwise no store is created from a damaged one.
    pub skip_damaged: bool,
    /// Whether to keep the log id, so that followers resume without a snapshot.
    pub keep_log_id: bool,
}

/// A rebuilt store. Displayed as its number of entries and a comparison with the old store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    entries: u64,
    end: End,
    faults: Vec<String>,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rebuilt { entries, end, faults } = self;
        write!(f, "{entries} entries, {end}; ")?;
        if faults.is_empty() {
            return f.write_str("chain, digests and counts match the old store");
        }
        write!(f, "differs from the old store, which is damaged:\n  {}", faults.join("\n  "))
    }
}

/// Creates a store from the entries of another, verifying each entry. A node may serve the other store. The target must
/// not exist.
///
/// # Errors
/// The target exists, the new store could not be written, or the old one cannot be read or is damaged.
pub fn rebuild(from: &Path, to: &Path, options: Rebuild) -> Result<Rebuilt, Error> {
    if to.exists() {
        return Err(Error::path(to, "already exists"));
    }
    let temporary = temporary_beside(to)?;
    let store = temporary.path().join("store");
    let RebuildReport { head, entries, faults } = rebuild_store(from, &store, identity(options.keep_log_id))?;
    if !faults.is_empty() && !options.skip_damaged {
        return Err(Error::Damaged { path: from.to_owned(), faults });
    }
    make_tree_private(&store).map_err(Error::write(to))?;
    rename(&store, to)?;
    Ok(Rebuilt { entries, end: End::from(&head), faults })
}

fn make_tree_private(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        match make_private(&entry?.path()) {
            // The thread of the last reader removes the write-ahead log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => made?,
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(PRIVATE_DIRECTORY))
}
