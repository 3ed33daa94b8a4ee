//! The released program, run as users run it.

use std::{
    fs::File,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Outcome,
    process::{Process, children_cpu, free_address},
};

/// The path of the built program.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Builds the program and the limit in release mode, if they are not built yet.
    ///
    /// # Errors
    /// Fails if one does not compile.
    pub(crate) fn build(root: &Path) -> Outcome<Program> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Together, so that both have the libraries that they share with the same features.
        let mut build = Command::new(&cargo);
        build.current_dir(root).args(["build", "--release", "-p", "cable", "-p", "cable-bench"]);
        build.args(["--bin", "cable", "--bin", "cable-limit"]);
        if !build.status()?.success() {
            return Err("build failed".into());
        }
        let executable = std::env::current_exe()?;
        let target = executable.ancestors().nth(2).ok_or("cable-bench is not in a target directory")?;
        Ok(Program(target.join("release/cable")))
    }

    /// Returns a program that is built already.
    pub(crate) fn at(path: PathBuf) -> Program {
        Program(path)
    }

    /// Imports a file as a user does. Returns the time that it took and the client's processor time.
    ///
    /// # Errors
    /// Fails if not everything was imported.
    pub(crate) fn import(&self, file: &Path, endpoint: &str) -> Outcome<(Duration, Duration)> {
        let (start, busy) = (Instant::now(), children_cpu()?);
        let output =
            self.command().args(["import", "binary"]).arg(file).args(["--endpoint", endpoint]).output()?;
        let elapsed = start.elapsed();
        if !output.status.success() {
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            return Err(format!("the import failed:\n{out}\n{err}").into());
        }
        Ok((elapsed, children_cpu()?.saturating_sub(busy)))
    }

    /// Starts a node on a free port.
    ///
    /// # Errors
    /// Fails if the node does not start.
    pub(crate) fn serve(&self, data: &Path, log: &Path) -> Outcome<Node> {
        self.serve_with(data, log, &[])
    }

    /// Starts a node with settings, given as environment variables.
    ///
    /// # Errors
    /// Fails if the node does not start.
    pub(crate) fn serve_with(&self, data: &Path, log: &Path, settings: &[(&str, &str)]) -> Outcome<Node> {
        let address = free_address()?;
        let mut command = self.command();
        command.args(["serve", "--ops-listen", "off", "--listen", &address.to_string(), "--data"]).arg(data);
        command.envs(settings.iter().copied());
        Node::start(command, address, log)
    }

    /// Starts a node with settings, and with metrics and health at an address.
    ///
    /// # Errors
    /// Fails if the node does not start.
    pub(crate) fn serve_operations(
        &self,
        data: &Path,
        log: &Path,
        operations: &str,
        settings: &[(&str, &str)],
    ) -> Outcome<Node> {
        let address = free_address()?;
        let mut command = self.command();
        command.args(["serve", "--ops-listen", operations, "--listen", &address.to_string(), "--data"]);
        command.arg(data).envs(settings.iter().copied());
        Node::start(command, address, log)
    }

    /// Creates a reader that is limited by a filter, given as options. Returns its token.
    ///
    /// # Errors
    /// Fails if the program does not create it.
    pub(crate) fn new_reader(&self, data: &Path, filter: &[String]) -> Outcome<String> {
        std::fs::create_dir_all(data)?;
        let mut command = self.command();
        command.args(["token", "new", "partner", "--role", "reader", "--data"]).arg(data).args(filter);
        let output = command.stdout(Stdio::piped()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let text = String::from_utf8(output.stdout)?;
        Ok(text.split_whitespace().last().unwrap_or_default().to_owned())
    }

    /// Returns the program's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the limit's program in the same directory.
    pub(crate) fn limit(&self) -> PathBuf {
        self.0.with_file_name("cable-limit")
    }

    /// Returns the directory of the build output.
    pub(crate) fn target(&self) -> PathBuf {
        self.0.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    pub(crate) endpoint: String,
}

impl Node {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// Fails if the server does not start.
    pub(crate) fn start(mut command: Command, address: SocketAddr, log: &Path) -> Outcome<Node> {
        command.stderr(File::options().create(true).append(true).open(log)?);
        let process = Process::serving(&mut command, address)?;
        Ok(Node { process, endpoint: format!("http://{address}") })
    }

    /// Requests a shutdown and waits until the process has ended.
    ///
    /// # Errors
    /// Fails if the exit status is not success.
    pub(crate) fn stop(self) -> Outcome<Duration> {
        self.process.stop()
    }

    /// Returns the endpoint and the process.
    pub(crate) fn into_parts(self) -> (String, Process) {
        (self.endpoint, self.process)
    }
}

impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
