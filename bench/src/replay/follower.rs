//! Followers of tags: one for each tag, some of them unstable.

use std::{ops::AddAssign, time::Duration};

use cable_client::Position;
use tokio::{sync::watch, time::timeout};
use tonic::{Code, Status};

use super::{
    mirror::{Mirror, Traffic},
    watch::Line,
};
use crate::{Outcome, random::Random};

/// The number of feeds on a connection. It is below the node's limit, since the node sees the end of a feed later than
/// the follower that ended it.
const FEEDS: usize = 90;

/// The percentage of followers that disconnect and resume at random, and the percentage that follow at checks only.
const RESTLESS: usize = 33;
const SLOW: usize = 5;

/// The percentage of commits at which a restless follower disconnects, and the range of commits for which it stays
/// away.
const LEAVES: usize = 5;
const AWAY: (usize, usize) = (1, 40);

/// The time limit for a feed to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before a lost stream is reopened.
const PAUSE: Duration = Duration::from_millis(50);

/// The behaviour of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    Steady,
    /// The follower is away for this number of commits.
    Restless(usize),
    Slow,
}

impl Temper {
    fn drawn(random: &mut Random) -> Temper {
        match random.below(100) {
            drawn if drawn < RESTLESS => Temper::Restless(0),
            drawn if drawn < RESTLESS + SLOW => Temper::Slow,
            _ => Temper::Steady,
        }
    }
}

/// The follower of a tag.
#[derive(Debug)]
pub(super) struct Follower {
    temper: Temper,
    here: watch::Sender<bool>,
    pub(super) mirror: watch::Receiver<Mirror>,
}

impl Follower {
    fn open(line: Line, tag: String, after: Position, temper: Temper) -> Follower {
        let (here, wanted) = watch::channel(true);
        let (kept, mirror) = watch::channel(Mirror::new(tag, after));
        tokio::spawn(follow(line, wanted, kept));
        Follower { temper, here, mirror }
    }

    fn stay(&self, here: bool) {
        self.here.send_if_modified(|was| std::mem::replace(was, here) != here);
    }

    /// Handles the end of a commit.
    fn stir(&mut self, random: &mut Random) {
        let Temper::Restless(away) = &mut self.temper else { return };
        match *away {
            0 if random.chance(LEAVES) => *away = random.between(AWAY.0, AWAY.1),
            0 => {}
            _ => *away -= 1,
        }
        let here = *away == 0;
        self.stay(here);
    }

    async fn caught_up(&self, head: i64) -> Outcome<()> {
        let mut mirror = self.mirror.clone();
        let reached = mirror.wait_for(|mirror| mirror.fault.is_some() || mirror.checkpoint >= head);
        let reached =
            timeout(PATIENCE, reached).await.map(|reached| reached.map(|mirror| mirror.fault.clone()));
        let why = match reached {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(fault))) => fault,
            Ok(Err(_)) => "its follower is gone".to_owned(),
            Err(_) => format!("no checkpoint at {head} within {PATIENCE:?}"),
        };
        let mirror = self.mirror.borrow();
        Err(format!("the feed of {}, at {}: {why}", mirror.tag, mirror.position.revision).into())
    }
}

/// Applies messages while the follower is wanted.
async fn follow(line: Line, mut here: watch::Receiver<bool>, mirror: watch::Sender<Mirror>) {
    while here.wait_for(|here| *here).await.is_ok() {
        mirror.send_modify(Mirror::resume);
        let heard = tokio::select! {
            _left = here.wait_for(|here| !*here) => Ok(()),
            heard = hear(&line, &mirror) => heard,
        };
        if let Err(fault) = heard {
            mirror.send_modify(|mirror| mirror.fault = Some(fault));
            return;
        }
    }
}

/// Applies messages until the stream is lost.
async fn hear(line: &Line, mirror: &watch::Sender<Mirror>) -> Result<(), String> {
    let (tag, after) = {
        let mirror = mirror.borrow();
        (mirror.tag.clone(), mirror.position.clone())
    };
    let lost = match line.watch(&tag, after).await {
        Err(status) => status,
        Ok(mut messages) => loop {
            match messages.message().await {
                Ok(Some(message)) => {
                    let mut applied = Ok(());
                    mirror.send_modify(|mirror| applied = mirror.apply(message));
                    applied?;
                }
                Ok(None) => return Err("it ended with OK".to_owned()),
                Err(status) => break status,
            }
        },
    };
    mirror.send_modify(|mirror| mirror.traffic.lost += 1);
    resumable(&lost)?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// Accepts errors after which the follower may retry: a node that drains, or that ends a slow stream.
fn resumable(status: &Status) -> Result<(), String> {
    match status.code() {
        Code::Unavailable | Code::Cancelled => Ok(()),
        code => Err(format!("{code:?}: {}", status.message())),
    }
}

/// All followers, in the order in which their tags were created.
#[derive(Debug)]
pub(super) struct Followers {
    endpoint: String,
    lines: Vec<Line>,
    all: Vec<Follower>,
    random: Random,
}

impl Followers {
    pub(super) fn new(endpoint: &str, seed: u64) -> Followers {
        let (lines, all, random) = (Vec::new(), Vec::new(), Random::new(seed));
        Followers { endpoint: endpoint.to_owned(), lines, all, random }
    }

    /// Adds a follower of the tag `tags/{id}`, after a position.
    ///
    /// # Errors
    /// Fails if the endpoint is invalid.
    pub(super) fn open(&mut self, tag: String, after: Position) -> Outcome<()> {
        if self.all.len() == self.lines.len() * FEEDS {
            self.lines.push(Line::to(&self.endpoint)?);
        }
        let line = self.lines[self.all.len() / FEEDS].clone();
        let temper = Temper::drawn(&mut self.random);
        self.all.push(Follower::open(line, tag, after, temper));
        Ok(())
    }

    /// Handles the end of a commit: some followers disconnect, some resume.
    pub(super) fn stir(&mut self) {
        self.all.iter_mut().for_each(|follower| follower.stir(&mut self.random));
    }

    /// Recalls all followers and waits until each has caught up with the head.
    ///
    /// # Errors
    /// Fails if a feed broke a promise or does not catch up.
    pub(super) async fn gather(&self, head: i64) -> Outcome<()> {
        self.all.iter().for_each(|follower| follower.stay(true));
        for follower in &self.all {
            follower.caught_up(head).await?;
        }
        Ok(())
    }

    /// Dismisses the followers that follow at checks only, and those that were recalled too early.
    pub(super) fn dismiss(&self) {
        for follower in &self.all {
            follower.stay(matches!(follower.temper, Temper::Steady | Temper::Restless(0)));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Follower> {
        self.all.iter()
    }

    /// Returns the numbers of connections and feeds.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.lines.len(), self.all.len())
    }

    /// Returns the total traffic of all followers.
    pub(super) fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        self.all.iter().for_each(|follower| sum += follower.mirror.borrow().traffic);
        sum
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.streams += other.streams;
        self.messages += other.messages;
        self.changes += other.changes;
        self.lost += other.lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_is_restless_and_a_few_are_slow() {
        let mut random = Random::new(1);
        let drawn: Vec<Temper> = (0..10_000).map(|_| Temper::drawn(&mut random)).collect();
        let count = |temper| drawn.iter().filter(|other| **other == temper).count();
        assert!((3_100..3_500).contains(&count(Temper::Restless(0))));
        assert!((400..600).contains(&count(Temper::Slow)));
    }

    #[test]
    fn only_a_lost_stream_is_resumed() {
        assert_eq!(resumable(&Status::unavailable("it drains")), Ok(()));
        assert_eq!(resumable(&Status::cancelled("too slow")), Ok(()));
        let refused = resumable(&Status::failed_precondition("another history")).unwrap_err();
        assert_eq!(refused, "FailedPrecondition: another history");
    }
}
