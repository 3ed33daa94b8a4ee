//! The metrics of the process, under the names that Prometheus clients use. They are read from the operating system at
//! each scrape.

use std::{
    fs,
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::{metrics::Declaration, panics};

const CPU: Declaration = Declaration { name: "process_cpu_seconds", help: "User and system CPU time." };
const MEMORY: Declaration = Declaration { name: "process_resident_memory_bytes", help: "Resident memory." };
const OPEN_FDS: Declaration = Declaration { name: "process_open_fds", help: "Open file descriptors." };
const MAX_FDS: Declaration = Declaration { name: "process_max_fds", help: "Maximum open file descriptors." };
const START: Declaration =
    Declaration { name: "process_start_time_seconds", help: "Start of the process in Unix time." };
const PANICS: Declaration = Declaration { name: "cable_panics", help: "Panics of the process." };

pub(super) const DECLARED: [Declaration; 6] = [PANICS, CPU, MEMORY, OPEN_FDS, MAX_FDS, START];

/// Encodes the metrics of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        encode(&mut encoder, PANICS, &ConstCounter::new(panics::count()))?;
        encode(&mut encoder, CPU, &ConstCounter::new(cpu_seconds()))?;
        encode(&mut encoder, MEMORY, &ConstGauge::new(resident_bytes()))?;
        encode(&mut encoder, OPEN_FDS, &ConstGauge::new(open_descriptors()))?;
        let max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        encode(&mut encoder, MAX_FDS, &ConstGauge::new(max))?;
        encode(&mut encoder, START, &ConstGauge::new(start_time()))
    }
}

fn encode(
    encoder: &mut DescriptorEncoder,
    Declaration { name, help }: Declaration,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Returns the processor time that the process has used, in seconds, 0 where the system does not report it.
pub(super) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let used = fields_after_name(&stat).skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    used.sum::<f64>() / clock_ticks_per_second() as f64
}

/// Returns the fields of `/proc/self/stat` from the third on. The name of the program, in parentheses, may contain
/// spaces.
fn fields_after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ')
}

/// Returns the resident memory in bytes, 0 where the system does not report it.
pub(crate) fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size() as u64
}

/// Returns the resident memory in bytes that the system cannot reclaim, 0 where it does not report it. Pages of files
/// are no part of it.
pub(crate) fn private_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = pages.split(' ').skip(1).filter_map(|pages| pages.parse::<u64>().ok());
    let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(of_files) * page_size() as u64
}

fn open_descriptors() -> u64 {
    // One of them is the directory itself.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// Returns the start of the process in Unix time, 0 where the system does not report it.
pub(crate) fn start_time() -> f64 {
    static START: LazyLock<f64> = LazyLock::new(|| {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let started = fields_after_name(&stat).nth(19).and_then(|started| started.parse::<f64>().ok());
        // /proc/uptime is hidden from a service that may see only processes.
        let uptime = clock_gettime(ClockId::Boottime);
        let uptime = uptime.tv_sec as f64 + uptime.tv_nsec as f64 / 1e9;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let age = started.map(|started| uptime - started / clock_ticks_per_second() as f64);
        age.map_or(0.0, |age| now - age)
    });
    *START
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_describes_itself() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3_600.0..=now + 1.0).contains(&start_time()), "{}", start_time());
        // The system counts in hundredths of a second.
        while cpu_seconds() == 0.0 {
            std::hint::spin_loop();
        }
        assert!(resident_bytes() > 1 << 20);
        assert!((1 << 18..resident_bytes()).contains(&private_bytes()), "{}", private_bytes());
        assert!(open_descriptors() >= 3);
    }
}
