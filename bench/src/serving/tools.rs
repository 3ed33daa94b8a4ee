//! Third-party programs: their locations, and functions to run them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{Outcome, node::Program};

/// Returns the directory of the programs that are built here.
pub(super) fn home(program: &Program) -> PathBuf {
    program.target().join("tools")
}

/// Runs a program and returns its output.
///
/// # Errors
/// Fails if the program is missing or fails. The error has its output.
pub(super) fn run(command: &mut Command) -> Outcome<Output> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    finished(command, output)
}

/// Returns the output of a program that succeeded.
///
/// # Errors
/// Fails if the program failed. The error has its output.
pub(super) fn finished(command: &Command, output: Output) -> Outcome<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?} ended with {}\n{out}\n{err}", output.status).into())
}

/// Returns a program of a Go module, built once.
///
/// # Errors
/// Fails if Go is missing or the module is not available.
pub(super) fn go_tool(tools: &Path, package: &str, version: &str) -> Outcome<PathBuf> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let bin = tools.join(format!("{name}-{version}"));
    let program = bin.join(name);
    if !program.exists() {
        run(Command::new("go").env("GOBIN", &bin).args(["install", &format!("{package}@{version}")]))?;
    }
    Ok(program)
}

/// Returns a program that the system's packages provide.
///
/// # Errors
/// Fails if it is missing. The error has the package to install.
pub(super) fn installed(program: &str, package: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|path| path.exists());
    found.ok_or_else(|| format!("{program} is not installed (Debian's package {package})").into())
}
