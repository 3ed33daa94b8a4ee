//! The released program as a process of its own, and what the system says about it.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// How long a node may take to listen: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, built.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Builds it as a release, if that is not done yet.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn build(root: &Path) -> Outcome<Program> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built =
            Command::new(cargo).current_dir(root).args(["build", "--release", "--bin", "cable"]).status()?;
        if !built.success() {
            return Err("the program does not compile".into());
        }
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).ok_or("this program lies in no target directory")?;
        Ok(Program(target.join("release/cable")))
    }

    /// Imports a file as a user does, and gives the time that it took and the client's processor time.
    ///
    /// # Errors
    /// Not everything was taken.
    pub(crate) fn import(&self, file: &Path, endpoint: &str) -> Outcome<(Duration, Duration)> {
        let (start, busy) = (Instant::now(), children_cpu()?);
        let output =
            self.command().args(["import", "binary"]).arg(file).args(["--endpoint", endpoint]).output()?;
        let took = start.elapsed();
        if !output.status.success() {
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            return Err(format!("the import failed:\n{out}\n{err}").into());
        }
        Ok((took, children_cpu()?.saturating_sub(busy)))
    }

    /// Starts a node on a port that is free.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn serve(&self, data: &Path, log: &Path) -> Outcome<Node> {
        self.serve_with(data, log, &[])
    }

    /// The same with settings, named as variables of the environment are.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn serve_with(&self, data: &Path, log: &Path, settings: &[(&str, &str)]) -> Outcome<Node> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let started = Instant::now();
        let child = self
            .command()
            .envs(settings.iter().copied())
            .args(["serve", "--ops-listen", "off", "--listen", &address.to_string(), "--data"])
            .arg(data)
            .stderr(File::options().create(true).append(true).open(log)?)
            .spawn()?;
        let mut node = Node { child, endpoint: format!("http://{address}"), started };
        while TcpStream::connect(address).is_err() {
            if node.child.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                return Err(format!("the node does not start; see {}", log.display()).into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(node)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// A running node. It is killed when this is dropped without [`Node::stop`].
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub(crate) endpoint: String,
    /// When its process was started.
    pub(crate) started: Instant,
}

impl Node {
    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// It ended otherwise than in peace.
    pub(crate) fn stop(mut self) -> Outcome<Duration> {
        let asked = Instant::now();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(asked.elapsed())
        } else {
            Err(format!("the node ended with {status}").into())
        }
    }

    /// Processor time so far, by user and system.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        cpu(&self.child.id().to_string(), USER_TIME)
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn memory(&self) -> Outcome<u64> {
        self.told("status", "VmRSS:").map(|kib| kib << 10)
    }

    /// The most resident memory that it ever had, in bytes.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn peak_memory(&self) -> Outcome<u64> {
        self.told("status", "VmHWM:").map(|kib| kib << 10)
    }

    /// Bytes that it has sent to the disk.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn written(&self) -> Outcome<u64> {
        self.told("io", "write_bytes:")
    }

    fn told(&self, file: &str, label: &str) -> Outcome<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(label)).ok_or("the system does not tell")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Places in /proc/PID/stat behind the name, from 0, each followed by that of the system time.
const USER_TIME: usize = 11;
const CHILDREN_USER_TIME: usize = 13;

/// Processor time of this process.
pub(crate) fn own_cpu() -> Outcome<Duration> {
    cpu("self", USER_TIME)
}

/// Processor time of the processes that this one has waited for.
fn children_cpu() -> Outcome<Duration> {
    cpu("self", CHILDREN_USER_TIME)
}

fn cpu(process: &str, place: usize) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind) = stat.rsplit_once(')').ok_or("the system does not tell")?;
    let ticks: u64 = behind
        .split_whitespace()
        .skip(place)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
        .sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
