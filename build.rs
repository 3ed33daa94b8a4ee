//! Compiles `proto/` into `OUT_DIR` with a compiler written in Rust; no protoc is needed.
//!
//! The server has two views of one schema. In the first, cable-proto, every message is fully typed; checking and
//! rendering use it. The services use the second, in which entities are the received bytes (`wire::Encoded`), so that
//! fields unknown to this release survive. It is generated here, for the messages that hold entities and for the
//! requests of writes; all other messages are those of cable-proto. The records of an import are the received bytes,
//! too, which are decoded one by one. Reads and feeds are in neither view: they respond with bytes.

use std::{collections::BTreeSet, error::Error, path::Path, process::Command};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
    source_code_info::Location,
};

const ROOTS: [&str; 8] = [
    "cable/v1/admin.proto",
    "cable/v1/content.proto",
    "cable/v1/errors.proto",
    "cable/v1/feed.proto",
    "cable/v1/publishing.proto",
    "cable/v1/status.proto",
    "cable/v1/transfer.proto",
    "cable/log/v1/entry.proto",
];

/// The entities, which are `wire::Encoded` in the second view.
const ENTITIES: [&str; 5] =
    [".cable.v1.Article", ".cable.v1.Author", ".cable.v1.Section", ".cable.v1.Tag", ".cable.v1.Collection"];

/// The service of reads and the method of feeds, which the server implements without generated code.
const READS: &str = "ContentService";
const FEEDS: &str = "Watch";

/// The number of the field `received`: the largest that protobuf allows, far above all others in the schema.
/// `wire::RECEIVED` has the same value.
const RECEIVED: i32 = (1 << 29) - 1;

/// The flag that SQLite must be built with. It enables the virtual table of the database's own pages.
const PAGES: &str = "-DSQLITE_ENABLE_DBPAGE_VTAB";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-env-changed=LIBSQLITE3_FLAGS");
    if !std::env::var("LIBSQLITE3_FLAGS").is_ok_and(|flags| flags.contains(PAGES)) {
        return Err(format!("set LIBSQLITE3_FLAGS={PAGES}, as .cargo/config.toml does: kills need it").into());
    }
    println!("cargo:rustc-env=CABLE_COMMIT={}", commit());
    let out = std::env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let mut set = protox::compile(ROOTS, ["proto"])?;
    add_received(&mut set);

    let log = out.join("log");
    std::fs::create_dir_all(&log)?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).extern_path(".cable.v1", "::cable_proto::v1").out_dir(&log);
    config.compile_fds(set.clone())?;

    let service = out.join("service");
    std::fs::create_dir_all(&service)?;
    let mut builder = tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::rpc::Codec")
        .bytes(".")
        .btree_map(".")
        .out_dir(&service);
    for name in names_in_cable_v1(&set) {
        let short = name.rsplit('.').next().unwrap_or_default();
        if ENTITIES.contains(&name.as_str()) {
            builder = builder.extern_path(&name, "crate::wire::Encoded");
        } else if !holds_encoded(&set, &name) && !has_received(&set, &name) {
            builder = builder.extern_path(&name, format!("::cable_proto::v1::{short}"));
        }
    }
    builder.compile_fds(with_undecoded_records(without_reads(set)))?;
    Ok(())
}

/// Returns the commit that a release build is made of, for `cable --version`. Other builds name none: they would be
/// built again after each commit.
fn commit() -> String {
    if !std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        return "debug".to_owned();
    }
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let of_git = ["HEAD", "logs/HEAD"].map(|file| git(&["rev-parse", "--git-path", file]));
    let watched = of_git.into_iter().flatten().chain(["src".to_owned(), "crates".to_owned()]);
    for path in watched.filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={path}");
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown commit".to_owned() };
    let is_clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|status| status.is_empty());
    if is_clean { commit } else { format!("{commit}, modified") }
}

/// Adds a field to the requests that have a request_id, in the server's bindings alone: the bytes as received, which
/// `rpc::Codec` fills in. With it, the identity of a request also covers fields unknown to this release.
fn add_received(set: &mut FileDescriptorSet) {
    for file in set.file.iter_mut().filter(|file| file.package() == "cable.v1") {
        let comments = file.source_code_info.get_or_insert_default();
        for (index, message) in file.message_type.iter_mut().enumerate() {
            let is_write = message.field.iter().any(|field| field.name() == "request_id");
            if !is_write || !message.name().ends_with("Request") {
                continue;
            }
            // The generator looks up comments by path: 4 is the file's list of messages, 2 the message's list of
            // fields.
            let path = vec![4, index as i32, 2, message.field.len() as i32];
            comments.location.push(Location { path, ..Default::default() });
            message.field.push(FieldDescriptorProto {
                name: Some("received".into()),
                number: Some(RECEIVED),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::Bytes.into()),
                json_name: Some("received".into()),
                ..Default::default()
            });
        }
    }
}

/// Returns whether the message has the field that [`add_received`] adds.
fn has_received(set: &FileDescriptorSet, name: &str) -> bool {
    let files = set.file.iter().filter(|file| file.package() == "cable.v1");
    let mut messages = files.flat_map(|file| &file.message_type);
    messages.any(|message| {
        format!(".cable.v1.{}", message.name()) == name
            && message.field.iter().any(|field| field.number() == RECEIVED)
    })
}

fn without_reads(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.service.retain(|service| service.name() != READS);
        for service in &mut file.service {
            service.method.retain(|method| method.name() != FEEDS);
        }
    }
    set
}

/// Turns the records of an import into bytes, which have the same encoding. A record that cannot be decoded is then
/// refused alone, and not the whole chunk.
fn with_undecoded_records(mut set: FileDescriptorSet) -> FileDescriptorSet {
    let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    let fields = messages.filter(|message| message.name() == "ImportRequest").flat_map(|m| &mut m.field);
    for field in fields.filter(|field| field.name() == "records") {
        field.set_type(Type::Bytes);
        field.type_name = None;
    }
    set
}

/// Returns the full names of the package's messages and enums. The schema has no nested ones.
fn names_in_cable_v1(set: &FileDescriptorSet) -> BTreeSet<String> {
    let files = set.file.iter().filter(|file| file.package() == "cable.v1");
    files
        .flat_map(|file| {
            let messages = file.message_type.iter().map(DescriptorProto::name);
            messages.chain(file.enum_type.iter().map(|e| e.name()))
        })
        .map(|name| format!(".cable.v1.{name}"))
        .collect()
}

/// Returns whether a field of the message, at any depth, has an encoded type.
fn holds_encoded(set: &FileDescriptorSet, name: &str) -> bool {
    fn visit(set: &FileDescriptorSet, name: &str, seen: &mut BTreeSet<String>) -> bool {
        if !seen.insert(name.to_owned()) {
            return false;
        }
        let fields = set
            .file
            .iter()
            .flat_map(|file| file.message_type.iter().map(move |m| (file.package(), m)))
            .filter(|(package, m)| format!(".{package}.{}", m.name()) == name)
            .flat_map(|(_, m)| m.field.iter());
        fields
            .map(|field| field.type_name())
            .any(|field| ENTITIES.contains(&field) || visit(set, field, seen))
    }
    visit(set, name, &mut BTreeSet::new())
}
