//! The machine on which figures are measured.

use std::fs;

/// Returns the number and model of its cores, and its load.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!("{cpus} cores ({}); load when it began: {load}.", model.trim_start_matches([' ', '\t', ':']))
}
