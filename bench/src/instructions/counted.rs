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
const SETTLED: Duration = Duration::from_millis(200);

/// A running server.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) address: SocketAddr,
    node: Node,
    /// The directory of its counts and pipes.
    dir: PathBuf,
    dumps: usize,
}

impl Counted {
    /// Starts a program that takes `--listen`, in a directory of its own, which must not exist yet.
    ///
    /// # Errors
    /// Fails if the program does not start or Valgrind is missing.
    pub(crate) fn start(program: &Path, arguments: &[&OsStr], dir: PathBuf) -> Outcome<Counted> {
        fs::create_dir(&dir)?;
        let address = free_address()?;
        let mut command = bare("valgrind", &dir);
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(flag("--callgrind-out-file=", &dir.join("counts")))
            .arg(program)
            .args(arguments)
            .args(["--listen", &address.to_string()]);
        let node = Node::start(command, address, &dir.join("log"))?;
        Ok(Counted { address, node, dir, dumps: 0 })
    }

    /// Returns the instructions that the server executes while `load` runs.
    ///
    /// # Errors
    /// Fails if the load fails or Valgrind reports no count.
    pub(crate) fn count(&mut self, load: impl FnOnce() -> Outcome<()>) -> Outcome<u64> {
        sleep(SETTLED);
        self.tell("zero")?;
        load()?;
        sleep(SETTLED);
        self.tell("dump")?;
        self.dumps += 1;
        let counts = fs::read_to_string(self.dir.join(format!("counts.{}", self.dumps)))?;
        let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.ok_or("Valgrind gives no total")?.trim().parse()?)
    }

    fn tell(&self, what: &str) -> Outcome<()> {
        let told = bare("vgdb", &self.dir)
            .arg(format!("--pid={}", self.node.id()))
            .arg(what)
            .stderr(Stdio::piped())
            .output()?;
        if told.status.success() {
            return Ok(());
        }
        Err(format!("vgdb {what}: {}", String::from_utf8_lossy(&told.stderr)).into())
    }
}

/// Returns a program of Valgrind's, in an environment without settings.
fn bare(program: &str, dir: &Path) -> Command {
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
