//! A server whose instructions are counted, by Valgrind's callgrind. Only what the process itself executes counts: the
//! kernel's part does not.

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

/// What a server still does when its last answer has arrived is done in a fraction of this.
const SETTLED: Duration = Duration::from_millis(200);

/// A running server.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) address: SocketAddr,
    node: Node,
    /// Where its counts go, and its pipes are.
    dir: PathBuf,
    dumps: usize,
}

impl Counted {
    /// Starts a program that takes `--listen`, within a directory of its own, which must not be there yet.
    ///
    /// # Errors
    /// It does not start, or there is no Valgrind.
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

    /// Instructions that it executes while `load` runs.
    ///
    /// # Errors
    /// The load fails, or Valgrind does not tell.
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

/// A program of Valgrind's, in an environment without settings.
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
