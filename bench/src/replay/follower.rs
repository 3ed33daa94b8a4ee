//! Followers of tags: one for each tag, some of them unstable.

use std::{ops::AddAssign, time::Duration};

use cable_client::Position;
use tokio::{sync::watch, time::timeout};
use tonic::{Code, Status};

use super::{
    mirror::{Mirror, Traffic},
    watch::Connection,
};
use crate::Outcome;
use cable_load::random::Random;

/// The number of feeds on a connection. It is below the node's limit, since the node sees the end of a feed later than
/// the follower that ended it.
const FEEDS_PER_CONNECTION: usize = 90;

/// The percentage of followers that disconnect and resume at random, and the percentage that follow at checks only.
const INTERMITTENT_PERCENT: usize = 33;
const CHECKS_ONLY_PERCENT: usize = 5;

/// The percentage of commits at which an intermittent follower disconnects, and the range of commits for which it stays
/// away.
const DISCONNECT_PERCENT: usize = 5;
const COMMITS_AWAY: (usize, usize) = (1, 40);

/// The time limit for a feed to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause before a lost stream is reopened.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The behaviour of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Steady,
    /// The follower is away for this number of commits.
    Intermittent(usize),
    ChecksOnly,
}

impl Behaviour {
    fn draw(random: &mut Random) -> Behaviour {
        match random.below(100) {
            percent if percent < INTERMITTENT_PERCENT => Behaviour::Intermittent(0),
            percent if percent < INTERMITTENT_PERCENT + CHECKS_ONLY_PERCENT => Behaviour::ChecksOnly,
            _ => Behaviour::Steady,
        }
    }
}

/// The follower of a tag.
#[derive(Debug)]
pub(super) struct Follower {
    behaviour: Behaviour,
    active: watch::Sender<bool>,
    pub(super) mirror: watch::Receiver<Mirror>,
}

impl Follower {
    fn open(connection: Connection, tag: String, after: Position, behaviour: Behaviour) -> Follower {
        let (active, wanted) = watch::channel(true);
        let (updates, mirror) = watch::channel(Mirror::new(tag, after));
        tokio::spawn(follow(connection, wanted, updates));
        Follower { behaviour, active, mirror }
    }

    fn set_active(&self, active: bool) {
        self.active.send_if_modified(|was| std::mem::replace(was, active) != active);
    }

    /// Handles the end of a commit.
    fn advance(&mut self, random: &mut Random) {
        let Behaviour::Intermittent(away) = &mut self.behaviour else { return };
        match *away {
            0 if random.chance(DISCONNECT_PERCENT) => *away = random.between(COMMITS_AWAY.0, COMMITS_AWAY.1),
            0 => {}
            _ => *away -= 1,
        }
        let active = *away == 0;
        self.set_active(active);
    }

    async fn wait_until_caught_up(&self, head: i64) -> Outcome<()> {
        let mut mirror = self.mirror.clone();
        let reached = mirror.wait_for(|mirror| mirror.fault.is_some() || mirror.checkpoint >= head);
        let reached = timeout(CATCH_UP_TIMEOUT, reached)
            .await
            .map(|reached| reached.map(|mirror| mirror.fault.clone()));
        let reason = match reached {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(fault))) => fault,
            Ok(Err(_)) => "its follower has ended".to_owned(),
            Err(_) => format!("no checkpoint at {head} within {CATCH_UP_TIMEOUT:?}"),
        };
        let mirror = self.mirror.borrow();
        Err(format!("the feed of {}, at {}: {reason}", mirror.tag, mirror.position.revision).into())
    }
}

/// Applies messages while the follower is wanted.
async fn follow(connection: Connection, mut active: watch::Receiver<bool>, mirror: watch::Sender<Mirror>) {
    while active.wait_for(|active| *active).await.is_ok() {
        mirror.send_modify(Mirror::resume);
        let outcome = tokio::select! {
            _disconnected = active.wait_for(|active| !*active) => Ok(()),
            outcome = apply_stream(&connection, &mirror) => outcome,
        };
        if let Err(fault) = outcome {
            mirror.send_modify(|mirror| mirror.fault = Some(fault));
            return;
        }
    }
}

/// Applies messages until the stream is lost.
async fn apply_stream(connection: &Connection, mirror: &watch::Sender<Mirror>) -> Result<(), String> {
    let (tag, after) = {
        let mirror = mirror.borrow();
        (mirror.tag.clone(), mirror.position.clone())
    };
    let lost = match connection.watch(&tag, after).await {
        Err(status) => status,
        Ok(mut messages) => loop {
            match messages.message().await {
                Ok(Some(message)) => {
                    let mut applied = Ok(());
                    mirror.send_modify(|mirror| applied = mirror.apply(message));
                    applied?;
                }
                Ok(None) => return Err("stream ended with OK".to_owned()),
                Err(status) => break status,
            }
        },
    };
    mirror.send_modify(|mirror| mirror.traffic.lost += 1);
    resumable(&lost)?;
    tokio::time::sleep(RETRY_DELAY).await;
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
    connections: Vec<Connection>,
    all: Vec<Follower>,
    random: Random,
}

impl Followers {
    pub(super) fn new(endpoint: &str, seed: u64) -> Followers {
        let (connections, all, random) = (Vec::new(), Vec::new(), Random::new(seed));
        Followers { endpoint: endpoint.to_owned(), connections, all, random }
    }

    /// Adds a follower of the tag `tags/{id}`, after a position.
    ///
    /// # Errors
    /// Fails if the endpoint is invalid.
    pub(super) fn open(&mut self, tag: String, after: Position) -> Outcome<()> {
        if self.all.len() == self.connections.len() * FEEDS_PER_CONNECTION {
            self.connections.push(Connection::new(&self.endpoint)?);
        }
        let connection = self.connections[self.all.len() / FEEDS_PER_CONNECTION].clone();
        let behaviour = Behaviour::draw(&mut self.random);
        self.all.push(Follower::open(connection, tag, after, behaviour));
        Ok(())
    }

    /// Handles the end of a commit: some followers disconnect, some resume.
    pub(super) fn advance(&mut self) {
        self.all.iter_mut().for_each(|follower| follower.advance(&mut self.random));
    }

    /// Recalls all followers and waits until each has caught up with the head.
    ///
    /// # Errors
    /// Fails if a feed broke a promise or does not catch up.
    pub(super) async fn recall_all(&self, head: i64) -> Outcome<()> {
        self.all.iter().for_each(|follower| follower.set_active(true));
        for follower in &self.all {
            follower.wait_until_caught_up(head).await?;
        }
        Ok(())
    }

    /// Disconnects the followers that follow at checks only, and those that were recalled too early.
    pub(super) fn release(&self) {
        for follower in &self.all {
            follower.set_active(matches!(follower.behaviour, Behaviour::Steady | Behaviour::Intermittent(0)));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Follower> {
        self.all.iter()
    }

    /// Returns the numbers of connections and feeds.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.connections.len(), self.all.len())
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
    fn behaviours_have_the_intended_shares() {
        let mut random = Random::new(1);
        let drawn: Vec<Behaviour> = (0..10_000).map(|_| Behaviour::draw(&mut random)).collect();
        let count = |behaviour| drawn.iter().filter(|other| **other == behaviour).count();
        assert!((3_100..3_500).contains(&count(Behaviour::Intermittent(0))));
        assert!((400..600).contains(&count(Behaviour::ChecksOnly)));
    }

    #[test]
    fn only_transient_errors_are_resumable() {
        assert_eq!(resumable(&Status::unavailable("it drains")), Ok(()));
        assert_eq!(resumable(&Status::cancelled("too slow")), Ok(()));
        let refused = resumable(&Status::failed_precondition("another history")).unwrap_err();
        assert_eq!(refused, "FailedPrecondition: another history");
    }
}
