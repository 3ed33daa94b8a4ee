//! Builds the Go server that Cable is compared with. protoc-gen-go generates its messages from the compiled schema, so
//! protoc is not needed.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use prost::Message as _;
use prost_types::{
    FileDescriptorSet,
    compiler::{CodeGeneratorRequest, CodeGeneratorResponse},
};

use super::tools::{go_tool, run};
use crate::Outcome;

const SOURCES: [&str; 3] = ["main.go", "go.mod", "go.sum"];
/// The import path and the name of the generated Go package, which `main.go` imports.
const PACKAGE: &str = "cable/bench/grpc-go/cable/v1;cablev1";
const GENERATOR: (&str, &str) = ("google.golang.org/protobuf/cmd/protoc-gen-go", "v1.36.12");

/// Builds the server in a subdirectory of `tools` and returns the path of the program.
///
/// # Errors
/// Fails if Go is missing or the server does not compile.
pub(super) fn build(root: &Path, tools: &Path) -> Outcome<PathBuf> {
    let work = tools.join("grpc-go");
    fs::create_dir_all(&work)?;
    for source in SOURCES {
        fs::copy(root.join("bench/rivals/grpc-go").join(source), work.join(source))?;
    }
    generate(&go_tool(tools, GENERATOR.0, GENERATOR.1)?, &work)?;
    let program = work.join("grpc-go");
    run(Command::new("go").current_dir(&work).args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(program)
}

/// Generates the Go messages. The generator is a protoc plugin: it reads a request from standard input and writes a
/// response with the files to standard output.
fn generate(generator: &Path, work: &Path) -> Outcome<()> {
    let set = FileDescriptorSet::decode(cable_proto::DESCRIPTORS)?;
    let cable_files = set.file.iter().map(|file| file.name()).filter(|name| name.starts_with("cable/"));
    let files: Vec<String> = cable_files.map(str::to_owned).collect();
    let packages = files.iter().map(|file| format!("M{file}={PACKAGE}"));
    let parameter =
        std::iter::once("paths=source_relative".to_owned()).chain(packages).collect::<Vec<_>>().join(",");
    let request = CodeGeneratorRequest {
        file_to_generate: files,
        parameter: Some(parameter),
        proto_file: set.file,
        ..CodeGeneratorRequest::default()
    };
    let mut plugin = Command::new(generator).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    plugin.stdin.take().ok_or("the generator has no standard input")?.write_all(&request.encode_to_vec())?;
    let response = CodeGeneratorResponse::decode(&plugin.wait_with_output()?.stdout[..])?;
    if let Some(error) = response.error {
        return Err(format!("protoc-gen-go: {error}").into());
    }
    for file in response.file {
        let path = work.join(file.name());
        fs::create_dir_all(path.parent().unwrap_or(work))?;
        fs::write(path, file.content())?;
    }
    Ok(())
}
