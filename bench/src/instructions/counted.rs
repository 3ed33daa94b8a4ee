//! A server whose instructions Valgrind's callgrind counts. Only the process's own instructions count, not the kernel's
//! part.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{Outcome, node::Node, process::free_address};

/// The time after the last response in which a server finishes its work. It takes a fraction of this.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// A running server.
#[derive(Debug)]
pub(crate) struct CountedServer {
    pub(crate) address: SocketAddr,
    node: Node,
    /// The directory of its counts and pipes.
    dir: PathBuf,
    dumps: usize,
}

impl CountedServer {
    /// Starts a program that takes `--listen`, in a directory of its own, which must not exist yet.
    ///
    /// # Errors
    /// Fails if the program does not start or Valgrind is missing.
    pub(crate) fn start(program: &Path, arguments: &[&OsStr], dir: PathBuf) -> Outcome<CountedServer> {
        CountedServer::start_with(program, arguments, dir, &[])
    }

    /// Starts a program with settings, given as environment variables.
    ///
    /// # Errors
    /// Fails if the program does not start or Valgrind is missing.
    pub(crate) fn start_with(
        program: &Path,
        arguments: &[&OsStr],
        dir: PathBuf,
        settings: &[(&str, &str)],
    ) -> Outcome<CountedServer> {
        fs::create_dir(&dir)?;
        let address = free_address()?;
        let mut command = valgrind_command("valgrind", &dir);
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(flag("--callgrind-out-file=", &dir.join("counts")))
            .arg(program)
            .args(arguments)
            .args(["--listen", &address.to_string()])
            .envs(settings.iter().copied());
        let node = Node::start(command, address, &dir.join("log"))?;
        Ok(CountedServer { address, node, dir, dumps: 0 })
    }

    /// Returns the instructions that the server executes while `load` runs.
    ///
    /// # Errors
    /// Fails if the load fails or Valgrind reports no count.
    pub(crate) fn count(&mut self, load: impl FnOnce() -> Outcome<()>) -> Outcome<u64> {
        sleep(SETTLE_TIME);
        self.send_command("zero")?;
        load()?;
        sleep(SETTLE_TIME);
        self.send_command("dump")?;
        self.dumps += 1;
        let counts = fs::read_to_string(self.dir.join(format!("counts.{}", self.dumps)))?;
        let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.ok_or("no total in the output of Valgrind")?.trim().parse()?)
    }

    fn send_command(&self, command: &str) -> Outcome<()> {
        let output = valgrind_command("vgdb", &self.dir)
            .arg(format!("--pid={}", self.node.id()))
            .arg(command)
            .stderr(Stdio::piped())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("vgdb {command}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Returns a program of Valgrind's, in an environment without settings.
fn valgrind_command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.arg(flag("--vgdb-prefix=", &dir.join("vgdb"))).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn flag(name: &str, value: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(name);
    flag.push(value);
    flag
}
