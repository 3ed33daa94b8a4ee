//! The limits of the control groups of this process: memory and processor time.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The mount point of control groups. Below it, version 1 has a directory for each controller.
const CGROUP: &str = "/sys/fs/cgroup";

/// A thousandth of a core.
pub(super) const CORE: u64 = 1_000;

/// Returns the memory limit of this process in bytes: the smallest of its control groups.
pub(super) fn memory_limit() -> Option<u64> {
    memory_limit_of(&own_groups(), |path| fs::read_to_string(path).ok())
}

/// Returns the processor time that this process may use, in thousandths of a core.
pub(super) fn processor_limit() -> u64 {
    let cores = rustix::thread::sched_getaffinity(None).map_or(1, |cores| cores.count());
    let cores = u64::from(cores) * CORE;
    processor_limit_of(&own_groups(), |path| fs::read_to_string(path).ok())
        .map_or(cores, |limit| limit.min(cores))
}

fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

fn memory_limit_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let bytes = |path: PathBuf| read(&path)?.trim().parse::<u64>().ok();
    let limits = directories(groups, "memory").filter_map(|(version, group)| match version {
        // Without a limit, version 2 has the word `max`, and version 1 a number near the largest one.
        Version::One => {
            bytes(group.join("memory.limit_in_bytes")).filter(|limit| *limit < i64::MAX as u64 / 2)
        }
        Version::Two => bytes(group.join("memory.max")),
    });
    limits.min()
}

fn processor_limit_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = directories(groups, "cpu").filter_map(|(version, group)| {
        // A quota in each period. Without a limit, it is `max` or -1.
        let text = match version {
            Version::One => {
                format!(
                    "{} {}",
                    read(&group.join("cpu.cfs_quota_us"))?,
                    read(&group.join("cpu.cfs_period_us"))?
                )
            }
            Version::Two => read(&group.join("cpu.max"))?,
        };
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        quota.saturating_mul(CORE).checked_div(period)
    });
    limits.min()
}

#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

/// Returns the directories of the groups of a controller that `/proc/self/cgroup` lists, and of those that contain them.
fn directories(groups: &str, controller: &str) -> impl Iterator<Item = (Version, PathBuf)> {
    groups.lines().flat_map(move |line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let found = match (parts.next(), parts.next()) {
            (Some(""), Some(path)) => Some((Version::Two, PathBuf::from(CGROUP), path)),
            (Some(names), Some(path)) if names.split(',').any(|name| name == controller) => {
                Some((Version::One, Path::new(CGROUP).join(controller), path))
            }
            _ => None,
        };
        found.into_iter().flat_map(|(version, mount, path)| {
            let ancestors = Path::new(path.trim_start_matches('/')).ancestors();
            ancestors.map(move |group| (version, mount.join(group)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn reader<'a>(files: Files<'a>) -> impl Fn(&Path) -> Option<String> + 'a {
        |path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn the_smallest_limit_of_all_control_groups_counts() {
        let files = [
            ("/sys/fs/cgroup/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "2000000\n"),
            ("/sys/fs/cgroup/system.slice/cable.service/memory.max", "3000000\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4000000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let limit = |groups: &str| memory_limit_of(groups, reader(&files));
        assert_eq!(limit("0::/system.slice/cable.service\n"), Some(2_000_000));
        assert_eq!(limit("5:cpu,memory:/a\n1:name=systemd:/b\n0::/\n"), Some(4_000_000));
        assert_eq!(limit("5:cpu:/a\n0::/other\n"), None);
        assert_eq!(limit(""), None);
        assert_eq!(limit("5:memory:/\n"), None);
    }

    #[test]
    fn a_quota_can_be_a_part_of_a_core() {
        let files = [
            ("/sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/pod/container/cpu.max", "50000 100000\n"),
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", "25000\n"),
            ("/sys/fs/cgroup/cpu/b/cpu.cfs_period_us", "50000\n"),
        ];
        let limit = |groups: &str| processor_limit_of(groups, reader(&files));
        assert_eq!(limit("0::/pod/container\n"), Some(500));
        assert_eq!(limit("0::/pod\n"), Some(1_500));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/a\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/b\n"), Some(500));
        assert!(processor_limit() > 0);
    }
}
