//! The client's bindings. They are checked in so that users of the client run no code generator.
//!
//! Each type is `#[non_exhaustive]`: a new field or value is not a breaking change. Where the schema has `Record`, the
//! client has `crate::RawRecord`, the bytes as received, so that a transfer preserves fields that it does not know.
//! `Record` itself is generated too, for code that reads the content.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::Outcome;

const FILE: &str = "cable.v1.rs";
const RECORD: &str = ".cable.v1.Record";
const RAW_RECORD: &str = "RawRecord";

/// Writes the bindings.
pub(crate) fn write(root: &Path) -> Outcome {
    let path = path(root);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(&path, generate(root)?)?;
    Ok(format!("wrote {}", path.display()))
}

/// Compares the bindings with the output of [`write()`].
pub(crate) fn check(root: &Path) -> Outcome {
    let path = path(root);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found == generate(root)? {
        return Ok(format!("{} is up to date", path.display()));
    }
    Err(format!("{} is out of date: run `cargo run -p xtask -- gen` and commit the file", path.display())
        .into())
}

fn path(root: &Path) -> PathBuf {
    root.join("client/src/gen").join(FILE)
}

fn generate(root: &Path) -> Result<String, Box<dyn Error>> {
    let out = Scratch::new()?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .type_attribute(".", "#[non_exhaustive]")
        .bytes(".")
        .btree_map(".")
        .extern_path(format!(".cable.v1.{RAW_RECORD}"), format!("crate::{RAW_RECORD}"))
        .out_dir(&out.0)
        .compile_fds(with_raw_records(schema(&root.join("proto"))?))?;
    let code = fs::read_to_string(out.0.join(FILE))?;
    Ok(code.lines().map(hide_stubs).collect())
}

/// Makes the stubs private to the crate: they name the transport, which is not part of the client's interface.
fn hide_stubs(line: &str) -> String {
    let stubs = line.starts_with("pub mod ") && line.ends_with("_client {");
    if stubs { format!("pub(crate) {}\n", line.trim_start_matches("pub ")) } else { format!("{line}\n") }
}

fn schema(proto: &Path) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(proto.join("cable/v1"))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(protox::compile(files, [proto])?)
}

/// Declares `RawRecord` and makes it the type of each field that is a `Record`.
fn with_raw_records(mut schema: FileDescriptorSet) -> FileDescriptorSet {
    let files = schema.file.iter_mut().filter(|file| file.package() == "cable.v1");
    for file in files {
        if defines(file, RECORD) {
            file.message_type.push(DescriptorProto { name: Some(RAW_RECORD.into()), ..Default::default() });
        }
        let fields = file.message_type.iter_mut().flat_map(|message| &mut message.field);
        for field in fields.filter(|field| field.type_name() == RECORD) {
            field.type_name = Some(format!(".cable.v1.{RAW_RECORD}"));
        }
    }
    schema
}

fn defines(file: &FileDescriptorProto, name: &str) -> bool {
    file.message_type.iter().any(|message| format!(".{}.{}", file.package(), message.name()) == name)
}

/// A directory that is removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("cable-gen-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that remains does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
