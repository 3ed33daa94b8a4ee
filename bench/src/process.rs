//! A measured process, and the system's data about it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// The time limit for a server to start to listen, far more than it needs.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The time for a server to end when its end is not awaited.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running process. It ends on drop if [`Process::stop`] was not called.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The time at which it was started.
    pub(crate) started: Instant,
}

/// Returns a loopback address with a free port.
///
/// # Errors
/// Fails if the system provides none.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Process {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// Fails if the server does not start in time.
    pub(crate) fn serving(command: &mut Command, address: SocketAddr) -> Outcome<Process> {
        let started = Instant::now();
        let mut process = Process { child: command.spawn()?, started };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{command:?} ended with {status}").into());
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(format!("{command:?} does not listen at {address}").into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Requests a shutdown and waits until the process has ended.
    ///
    /// # Errors
    /// Fails if the exit status is not success.
    pub(crate) fn stop(mut self) -> Outcome<Duration> {
        let start = Instant::now();
        self.terminate();
        let status = self.child.wait()?;
        if status.success() {
            Ok(start.elapsed())
        } else {
            Err(format!("process ended with {status}").into())
        }
    }

    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // Only this code waits for the process, so its id is still valid, if only as a zombie's.
            let _ended = kill_process(pid, Signal::TERM);
        }
    }

    /// Returns the processor time so far, user and system, including its children.
    ///
    /// # Errors
    /// Fails if the system does not report it.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        with_children(self.id())?.iter().map(|id| cpu(&id.to_string(), USER_TIME)).sum()
    }

    /// Returns the processor time so far of its current threads, in nanoseconds.
    ///
    /// # Errors
    /// Fails if the system does not report it.
    pub(crate) fn threads_cpu(&self) -> Outcome<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            // A thread can end between the two calls.
            let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos +=
                stat.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Returns the current resident memory in bytes, including its children.
    ///
    /// # Errors
    /// Fails if the system does not report it.
    pub(crate) fn memory(&self) -> Outcome<u64> {
        with_children(self.id())?.iter().map(|id| Ok(read_proc(*id, "status", "VmRSS:")? << 10)).sum()
    }

    /// Returns the peak resident memory in bytes, including its children.
    ///
    /// # Errors
    /// Fails if the system does not report it.
    pub(crate) fn peak_memory(&self) -> Outcome<u64> {
        with_children(self.id())?.iter().map(|id| Ok(read_proc(*id, "status", "VmHWM:")? << 10)).sum()
    }

    /// Returns the number of bytes written to the disk.
    ///
    /// # Errors
    /// Fails if the system does not report it.
    pub(crate) fn written(&self) -> Outcome<u64> {
        read_proc(self.id(), "io", "write_bytes:")
    }
}

impl Drop for Process {
    /// Requests a shutdown first, so that the process can end its children.
    fn drop(&mut self) {
        let start = Instant::now();
        self.terminate();
        while start.elapsed() < STOP_TIMEOUT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        // A process that has ended cannot be killed, and need not be.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Returns a process and its children.
fn with_children(id: u32) -> Outcome<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let children = children.split_whitespace().map(str::parse);
    Ok(std::iter::once(Ok(id)).chain(children).collect::<Result<_, _>>()?)
}

fn read_proc(id: u32, file: &str, label: &str) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .ok_or_else(|| format!("no {label} in /proc/{id}/{file}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Indices in /proc/PID/stat after the name, from 0. The system time follows each of them.
const USER_TIME: usize = 11;
const CHILDREN_USER_TIME: usize = 13;

/// Returns the processor time of this process.
pub(crate) fn own_cpu() -> Outcome<Duration> {
    cpu("self", USER_TIME)
}

/// Returns the processor time of the child processes that have been waited for.
pub(crate) fn children_cpu() -> Outcome<Duration> {
    cpu("self", CHILDREN_USER_TIME)
}

fn cpu(process: &str, index: usize) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("malformed /proc/PID/stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(index)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap_or_default())
        .sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
