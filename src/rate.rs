//! Rates: how often callers may do something.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock, QuantaInstant},
};

/// The number of networks that are distinguished. Open connections bound how many are active at once. Beyond this
/// number, larger networks are distinguished, and beyond it again, none.
const MAX_NETWORKS: usize = 100_000;

/// A limit on the calls of one caller. One second's worth may come at once.
#[derive(Debug)]
pub(crate) struct Rate(DefaultDirectRateLimiter);

impl Rate {
    /// Returns a rate of this many calls per second.
    pub(crate) fn per_second(calls: NonZeroU32) -> Rate {
        Rate(RateLimiter::direct(Quota::per_second(calls)))
    }

    /// Counts a call.
    ///
    /// # Errors
    /// It is one too many. The error is the time after which the next one is allowed.
    pub(crate) fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(wait)
    }
}

/// A limit for each network of callers.
#[derive(Debug)]
pub(crate) struct NetworkRates([Level; 3]);

/// The networks of one size.
#[derive(Debug)]
struct Level {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    /// Returns the network that an address is counted for.
    network: fn(IpAddr) -> IpAddr,
    full: AtomicBool,
}

impl NetworkRates {
    /// Returns a rate of this many events per second and network.
    pub(crate) fn per_second(events: NonZeroU32) -> NetworkRates {
        NetworkRates::new(Quota::per_second(events))
    }

    /// Returns a rate of this many events per minute and network, in any minute.
    pub(crate) fn per_minute(events: NonZeroU32) -> NetworkRates {
        NetworkRates::new(in_any_minute(events))
    }

    fn new(quota: Quota) -> NetworkRates {
        let everyone = |_| IpAddr::from(Ipv6Addr::UNSPECIFIED);
        NetworkRates([network, large_network, everyone].map(|network: fn(IpAddr) -> IpAddr| Level {
            limiter: RateLimiter::keyed(quota),
            network,
            full: AtomicBool::new(false),
        }))
    }

    /// Counts an event of an address.
    ///
    /// # Errors
    /// It is one too many. The error is the time after which the next one is allowed.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let level = self.0.iter().find(|level| !level.full.load(Relaxed));
        // The last level has one network, so it is never full.
        let Some(level) = level else { return Ok(()) };
        level.limiter.check_key(&(level.network)(address)).map_err(wait)
    }

    /// Forgets the networks that have their full allowance again. To be called every second or so.
    pub(crate) fn shrink(&self) {
        for level in &self.0 {
            level.limiter.retain_recent();
            level.limiter.shrink_to_fit();
            level.full.store(level.limiter.len() >= MAX_NETWORKS, Relaxed);
        }
    }
}

/// Returns the quota of this many events in any minute. Half of them may come at once; the others are allowed again
/// within the minute.
fn in_any_minute(events: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(events.get().div_ceil(2)).unwrap_or(events);
    let period = Duration::from_secs(60) / (events.get() / 2).max(1);
    Quota::with_period(period).map_or(Quota::per_minute(events), |quota| quota.allow_burst(burst))
}

/// Returns the address by which a peer is counted. A /64 is the smallest IPv6 network that one customer gets.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Returns the network that an address belongs to: about as large as those of one provider.
fn large_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xffff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 96 << 96).into(),
    }
}

fn wait(refused: NotUntil<QuantaInstant>) -> Duration {
    refused.wait_time_from(DefaultClock::default().now())
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

    #[test]
    fn an_ipv6_peer_is_its_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::9"), "2001:db8:1:2::");
        assert_ne!(of("2001:db8:1:3::9"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_burst_is_allowed_and_the_next_call_has_to_wait() {
        let rate = Rate::per_second(TEN);
        let allowed = (0..30).filter(|_| rate.check().is_ok()).count();
        assert!((10..=12).contains(&allowed), "{allowed}");
        let wait = rate.check().unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
    }

    #[test]
    fn networks_are_limited_apart_and_their_number_is_bounded() {
        let rates = NetworkRates::per_minute(TEN);
        let network = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        for n in 0..3 {
            let allowed = (0..30).filter(|_| rates.check(network(n)).is_ok()).count();
            assert_eq!(allowed, 5);
        }
        for n in 3..MAX_NETWORKS as u32 + 3 {
            assert!(rates.check(network(n)).is_ok());
        }
        rates.shrink();
        let before = rates.0[0].limiter.len();
        assert!(before >= MAX_NETWORKS, "none has its full allowance again");
        let allowed = (0..60).filter(|n| rates.check(network(u32::MAX - n)).is_ok()).count();
        assert_eq!(allowed, 5, "the addresses of a larger network are counted together");
        assert!(rates.check(network(9 << 24)).is_ok(), "one of another network");
        assert_eq!(rates.0[0].limiter.len(), before, "no further network is remembered");
    }

    #[test]
    fn a_limit_holds_for_any_number_of_networks() {
        let rates = NetworkRates::per_minute(TEN);
        for n in 0..MAX_NETWORKS as u128 {
            assert!(rates.check(Ipv6Addr::from_bits(n << 64).into()).is_ok());
        }
        rates.shrink();
        for n in 0..MAX_NETWORKS as u128 {
            assert!(rates.check(Ipv6Addr::from_bits(n << 96).into()).is_ok());
        }
        rates.shrink();
        let allowed =
            (0..100_u128).filter(|n| rates.check(Ipv6Addr::from_bits(n << 100).into()).is_ok()).count();
        assert_eq!(allowed, 5);
    }

    /// A caller that tries all the time is allowed the number of the limit in any minute, and half of it at least.
    #[test]
    fn no_minute_has_more_events_than_its_limit() {
        for limit in (1..=12).chain([59, 60, 61]) {
            let clock = FakeRelativeClock::default();
            let quota = in_any_minute(NonZeroU32::new(limit).unwrap());
            let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
            let mut allowed = Vec::new();
            for tick in 0..6_000 {
                while limiter.check().is_ok() {
                    allowed.push(tick);
                }
                clock.advance(Duration::from_millis(50));
            }
            let minute = 60_000 / 50;
            let most = (0..6_000)
                .map(|start| allowed.iter().filter(|tick| (start..start + minute).contains(*tick)).count())
                .max();
            let least = (limit / 2).max(1) as usize;
            assert!((least..=limit as usize).contains(&most.unwrap()), "{limit}: {most:?}");
        }
    }
}
