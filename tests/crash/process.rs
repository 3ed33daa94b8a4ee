//! The real program, on a port of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use cable_client::{Cable, Retry};

/// A running node. It is killed on drop.
pub(crate) struct Process {
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn program(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
    command.env_clear().current_dir("/").args(arguments).arg("--data").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Any address of this machine.
const ANY: &str = "127.0.0.1:0";

fn serve(address: &str) -> [&str; 5] {
    ["serve", "--listen", address, "--ops-listen", "off"]
}

impl Process {
    /// Starts a node on a directory.
    pub(crate) fn start(dir: &Path) -> Process {
        Process::start_with(dir, &[])
    }

    /// Does the same with variables of the environment.
    pub(crate) fn start_with(dir: &Path, variables: &[(&str, String)]) -> Process {
        Process::start_on(ANY, dir, variables)
    }

    /// Does the same on an address that another node had before.
    pub(crate) fn start_on(address: &str, dir: &Path, variables: &[(&str, String)]) -> Process {
        let mut program = program(&serve(address), dir);
        program.env("CABLE__STORE__RESERVE_BYTES", "0").envs(variables.iter().cloned());
        let mut child = program.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = mpsc::channel();
        // The thread reads to the end, so that the node never waits for a reader.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        Process { child, log }
    }

    /// Returns a client that does not retry, once the node has logged its address.
    pub(crate) fn client(&self) -> Cable {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut received = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("{error}: the log is only {received:?}"));
            if let Some(address) = address(&line) {
                let builder = Cable::builder(format!("http://{address}"));
                return builder.retry(Retry::none()).build().unwrap();
            }
            received.push(line);
        }
    }

    /// Sends SIGKILL and waits until the process has ended.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.code().is_none(), "the process ended: {status}, {:?}", self.log.try_iter().last());
    }

    /// Asks the process to stop, and waits until it has ended.
    pub(crate) fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the process ended: {status}, {:?}", self.log.try_iter().last());
    }

    /// Waits until the process has ended by itself, at most for a time. Otherwise it is killed.
    pub(crate) fn wait(mut self, limit: Duration) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill_after(self, wait: Duration) {
        std::thread::sleep(wait);
        self.kill();
    }
}

/// Returns the address in the line that has it, in any log format.
fn address(line: &str) -> Option<&str> {
    let from = line.find("127.0.0.1:")?;
    let rest = &line[from..];
    let end = rest[10..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |digits| 10 + digits);
    (end > 10).then(|| &rest[..end])
}

/// Runs `verify` on a store, which must find no fault.
pub(crate) fn verify(dir: &Path) {
    let output = program(&["verify"], dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a start that must fail. Returns its output and its duration.
pub(crate) fn refused(dir: &Path) -> (Output, Duration) {
    let start = Instant::now();
    let mut child = program(&serve(ANY), dir).spawn().unwrap();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > Duration::from_secs(10) => {
                child.kill().unwrap();
                panic!("the process was not refused");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let took = start.elapsed();
    let mut stderr = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    (Output { status, stdout: Vec::new(), stderr }, took)
}
