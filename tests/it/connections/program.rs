//! The program itself, with system limits of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::PATIENCE;

/// A running node. It is killed on drop.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The address of metrics and health, if the node serves them.
    pub(crate) ops_address: Option<SocketAddr>,
    log: mpsc::Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // The process may have ended on its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that serves on an address, in a shell that runs another command first.
fn shell(before: &str, listen: &str) -> Command {
    let script = format!("{before}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_cable"), "serve", "--listen", listen]);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    // The tests load the machine, and only those of overload expect a node to refuse calls for it.
    command.envs([("CABLE__STORE__RESERVE_BYTES", "0"), ("CABLE__OVERLOAD__MAX_DELAY", "60s")]);
    command
}

/// Returns the address of a field in the line that has it.
fn logged_address(line: &str, field: &str) -> Option<SocketAddr> {
    let json = format!("\"{}\":\"", field.trim_matches([' ', '=']));
    let value = line.split_once(field).or_else(|| line.split_once(&json))?.1;
    value.split([' ', '"']).next()?.parse().ok()
}

impl Program {
    /// Starts a node on a directory, in a shell that runs another command first.
    pub(crate) fn start(dir: &Path, before: &str, env: &[(&str, &str)]) -> Program {
        let off = [env, &[("CABLE__SERVER__OPS_LISTEN", "off")]].concat();
        Program::start_serving_ops(dir, before, &off)
    }

    /// Does the same, with metrics and health at the address that the environment sets.
    pub(crate) fn start_serving_ops(dir: &Path, before: &str, env: &[(&str, &str)]) -> Program {
        let mut command = shell(before, "127.0.0.1:0");
        command.arg("--data").arg(dir).envs(env.iter().copied());
        Program::spawn(command.stdin(Stdio::null()))
    }

    /// Starts a node as systemd does after socket activation: it inherits the listener.
    pub(crate) fn start_activated(dir: &Path, listener: &TcpListener, env: &[(&str, &str)]) -> Program {
        let inherit = "exec 3<&0 </dev/null; export LISTEN_FDS=${LISTEN_FDS:-1} LISTEN_PID=$$";
        let mut command = shell(inherit, &listener.local_addr().unwrap().to_string());
        command.arg("--data").arg(dir).env("CABLE__SERVER__OPS_LISTEN", "off").envs(env.iter().copied());
        Program::spawn(command.stdin(OwnedFd::from(listener.try_clone().unwrap())))
    }

    fn spawn(command: &mut Command) -> Program {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let find =
            |line: String| Some((logged_address(&line, " address=")?, logged_address(&line, "ops_address=")));
        let mut lines = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok());
        let (address, ops_address) = lines.find_map(find).expect("the address is logged");
        Program { child, address, ops_address, log }
    }

    /// Returns the number of log lines since the last call that contain this text.
    pub(crate) fn count_log_lines(&self, text: &str) -> usize {
        self.log.try_iter().filter(|line| line.contains(text)).count()
    }

    /// Returns the log lines since the last call, and those within a time from now.
    pub(crate) fn lines_within(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let next = || self.log.recv_timeout(end.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for a log line that contains this text.
    pub(crate) fn wait_for_line(&self, text: &str) {
        while !self.log.recv_timeout(PATIENCE).expect("the line is logged").contains(text) {}
    }

    /// Waits until the process ends on its own. Returns its exit code.
    pub(crate) fn wait_for_exit(self) -> Option<i32> {
        self.wait_for_end().0
    }

    /// Waits until the process ends on its own. Returns its exit code, if no signal ended it, and its last log lines.
    pub(crate) fn wait_for_end(mut self) -> (Option<i32>, Vec<String>) {
        let mut lines = Vec::new();
        // The log ends with the process.
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        (self.child.wait().unwrap().code(), lines)
    }

    /// Returns the number of open file descriptors.
    pub(super) fn file_descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64
    }

    /// Limits the number of file descriptors.
    pub(super) fn limit_file_descriptors(&self, max: u64) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap());
        let limit = Rlimit { current: Some(max), maximum: Some(256) };
        prlimit(id, Resource::Nofile, limit).unwrap();
    }

    /// Returns the used processor time in hundredths of a second: the kernel's USER_HZ.
    pub(crate) fn processor_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Fields 14 and 15 of proc_pid_stat(5): utime and stime.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Returns a memory size in kilobytes, by its name in proc_pid_status(5).
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
