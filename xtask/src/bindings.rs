//! The generated files that are checked in: the messages and descriptors of cable-proto, and the stubs of cable-client.
//! A packaged crate cannot reach `proto/`, and users of the client run no code generator.
//!
//! Where a message has a field of type `Record`, the generated field is a `RawRecord`, the bytes as received, so that a
//! transfer preserves fields that it does not know. `Record` itself is generated too, for code that reads the content.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::{Outcome, fields};

const RECORD: &str = ".cable.v1.Record";
const RAW_RECORD: &str = "RawRecord";

const MESSAGES: &str = "crates/cable-proto/src/gen/cable.v1.rs";
const DESCRIPTORS: &str = "crates/cable-proto/src/gen/descriptors.binpb";
const STUBS: &str = "crates/cable-client/src/gen/cable.v1.rs";
const FIELDS: &str = "proto/fields.txt";

/// Writes the files.
pub(crate) fn write(root: &Path) -> Outcome {
    for (path, content) in generate(root)? {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, content)?;
    }
    Ok(format!("wrote {MESSAGES}, {DESCRIPTORS}, {STUBS} and {FIELDS}"))
}

/// Compares the files with the output of [`write()`].
pub(crate) fn check(root: &Path) -> Outcome {
    for (path, content) in generate(root)? {
        if fs::read(root.join(path)).unwrap_or_default() != content {
            return Err(
                format!("{path} is out of date: run `cargo run -p xtask -- gen` and commit it").into()
            );
        }
    }
    Ok("the generated files are up to date".to_owned())
}

/// The path and the content of a file.
type Generated = (&'static str, Vec<u8>);

/// Returns the generated files.
fn generate(root: &Path) -> Result<[Generated; 4], Box<dyn Error>> {
    let schema = compile(&root.join("proto"), &["cable/v1", "cable/log/v1"])?;
    let public = with_raw_records(compile(&root.join("proto"), &["cable/v1"])?);
    let out = Scratch::new()?;
    let generated = out.0.join("cable.v1.rs");
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .extern_path(format!(".cable.v1.{RAW_RECORD}"), format!("crate::{RAW_RECORD}"))
        .out_dir(&out.0)
        .compile_fds(public.clone())?;
    let messages = fs::read(&generated)?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".cable.v1", "::cable_proto::v1")
        .out_dir(&out.0)
        .compile_fds(public)?;
    let stubs: String = fs::read_to_string(&generated)?.lines().map(hide_stubs).collect();
    Ok([
        (MESSAGES, messages),
        (DESCRIPTORS, schema.encode_to_vec()),
        (STUBS, stubs.into_bytes()),
        (FIELDS, fields::list(&schema).into_bytes()),
    ])
}

/// Makes the stubs private to the crate: they name the transport, which is not part of the client's interface.
fn hide_stubs(line: &str) -> String {
    let stubs = line.starts_with("pub mod ") && line.ends_with("_client {");
    if stubs { format!("pub(crate) {}\n", line.trim_start_matches("pub ")) } else { format!("{line}\n") }
}

/// Compiles the files of some directories.
fn compile(proto: &Path, directories: &[&str]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut files = Vec::new();
    for directory in directories {
        for entry in fs::read_dir(proto.join(directory))? {
            files.push(entry?.path());
        }
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
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> std::io::Result<Scratch> {
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
