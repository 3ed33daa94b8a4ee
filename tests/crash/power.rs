//! Power cuts: the program's calls that change its files are recorded, and images of the disk are made of the record,
//! as a power cut at any point can leave them. Each image must open, with all that was acknowledged before the point.
//!
//! `CABLE_POWER_IMAGES` sets the number of images (1,000 by default).

mod disk;
mod image;
mod recording;

use std::time::Instant;

use crate::{dice::Rng, from_env, seed};
use disk::{Call, Disk, Entry};
use image::Directory;
use recording::Recording;

/// The number of images of one recording.
const IMAGES_PER_RECORDING: usize = 1_000;

/// The number of recoveries that are cut off, and of the images of each.
const RECOVERIES: usize = 5;
const IMAGES_PER_RECOVERY: usize = 40;

/// The maximum number of rounds of 50 images until each kind of loss is found without syncs.
const UNSYNCED_ROUNDS: usize = 40;

/// One image in this many is opened by a node. The others are only verified and read.
const OPENED: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_no_acknowledged_write() {
    let mut rng = Rng::new(seed("power cuts"));
    let mut left = from_env("CABLE_POWER_IMAGES").unwrap_or(1_000) as usize;
    while left > 0 {
        let start = Instant::now();
        let count = left.min(IMAGES_PER_RECORDING);
        let recording = Recording::new(&mut rng).await;
        let entries = disk::entries(&recording.trace);
        recording.assert_complete(&entries);
        let mut examination = Examination::new(&recording);
        let recoveries = RECOVERIES.min(count / 2 / IMAGES_PER_RECOVERY);
        let others = count - recoveries * IMAGES_PER_RECOVERY;
        examination.examine(Disk::default(), &entries, others, None, &mut rng);
        for _ in 0..recoveries {
            examination.examine_recovery(&entries, &mut rng).await;
        }
        println!(
            "{} images of {} calls and {} writes in {:.1} s, of them {} of {recoveries} recoveries, {} opened by a node",
            examination.images,
            entries.len(),
            recording.acknowledgements.len(),
            start.elapsed().as_secs_f64(),
            recoveries * IMAGES_PER_RECOVERY,
            examination.opened,
        );
        let faults = examination.faults;
        let first = &faults[..faults.len().min(8)];
        assert!(faults.is_empty(), "{} faults, the first ones: {first:#?}", faults.len());
        left -= count;
    }
}

/// The images of a recording and their faults.
struct Examination<'a> {
    directory: Directory<'a>,
    recording: &'a Recording,
    images: usize,
    opened: usize,
    faults: Vec<String>,
}

impl<'a> Examination<'a> {
    fn new(recording: &'a Recording) -> Examination<'a> {
        let directory = Directory::new(recording);
        Examination { directory, recording, images: 0, opened: 0, faults: Vec::new() }
    }

    /// Checks images at random points. The time of a point is its own, or that at which a recovery started.
    fn examine(
        &mut self,
        disk: Disk<'_>,
        entries: &[Entry<'_>],
        count: usize,
        time: Option<u64>,
        rng: &mut Rng,
    ) {
        let points = points(entries, count, rng);
        walk(disk, entries, &points, |disk, point| {
            let (image, time) = (disk.cut(rng), time.unwrap_or(point));
            self.images += 1;
            self.directory.write(&image);
            let mut result = self.directory.check(&image, time);
            if self.images.is_multiple_of(OPENED) {
                self.opened += 1;
                result = result.and_then(|state| self.directory.open(state));
            }
            let Err(fault) = result else { return };
            self.faults.push(format!("image {}, at {time} and {point}: {fault}", self.images));
        });
    }

    /// Cuts the power while a node recovers from an earlier power cut.
    async fn examine_recovery(&mut self, entries: &[Entry<'_>], rng: &mut Rng) {
        // Before the first acknowledgement, a node may create another store.
        let first = self.recording.acknowledgements.iter().map(|(time, _)| *time).min().unwrap();
        let later = points(entries, IMAGES_PER_RECOVERY, rng).into_iter().filter(|point| *point >= first);
        let later: Vec<u64> = later.collect();
        let point = later[rng.between(0, later.len() as u64 - 1) as usize];
        let mut image = None;
        walk(Disk::default(), entries, &[point], |disk, _| image = Some(disk.cut(rng)));
        self.directory.write(&image.unwrap());
        let disk = Disk::of(&self.recording.dir());
        let trace = self.recording.record_recovery().await;
        self.examine(disk, &disk::entries(&trace), IMAGES_PER_RECOVERY, Some(point), rng);
    }
}

/// Without the syncs, acknowledged writes are lost: the checks find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncs_a_power_cut_loses_acknowledged_writes() {
    let mut rng = Rng::new(seed("power cuts without syncs"));
    let recording = Recording::new(&mut rng).await;
    let mut entries = disk::entries(&recording.trace);
    let mut examination = Examination::new(&recording);
    entries.retain(|entry| !matches!(entry.call, Call::Sync { .. }));
    // Most images have damage that hides a loss behind it, so their number is not fixed.
    let is_found = |faults: &[String], of: &str| faults.iter().any(|fault| fault.contains(of));
    for _ in 0..UNSYNCED_ROUNDS {
        examination.examine(Disk::default(), &entries, 50, None, &mut rng);
        let faults = &examination.faults;
        if is_found(faults, "is lost") && is_found(faults, "credential") {
            return;
        }
    }
    panic!("{:?}", examination.faults);
}

/// Returns points of a trace in ascending order, in bytes. Each sync is as likely to be the next one after a point.
fn points(entries: &[Entry<'_>], count: usize, rng: &mut Rng) -> Vec<u64> {
    let is_sync = |index: &usize| matches!(entries[*index].call, Call::Sync { .. } | Call::SyncDirectory);
    let syncs: Vec<usize> = (0..entries.len()).filter(is_sync).collect();
    let mut points: Vec<u64> = (0..count)
        .map(|_| {
            let sync = rng.between(0, syncs.len() as u64 - 1) as usize;
            let first = if sync == 0 { 0 } else { syncs[sync - 1] };
            entries[rng.between(first as u64, syncs[sync] as u64) as usize].end
        })
        .collect();
    points.sort_unstable();
    points
}

/// Calls a function with the disk at each point.
fn walk<'a>(
    mut disk: Disk<'a>,
    entries: &[Entry<'a>],
    points: &[u64],
    mut at_point: impl FnMut(&Disk<'a>, u64),
) {
    let mut rest = entries;
    for point in points {
        while let Some((entry, after)) = rest.split_first().filter(|(entry, _)| entry.end <= *point) {
            disk.apply(&entry.call);
            rest = after;
        }
        at_point(&disk, *point);
    }
}
