//! Rates: how often callers may do something.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock, QuantaInstant},
};

/// The number of networks that are distinguished. Open connections bound how many are active at once; beyond this number,
/// none is limited.
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
pub(crate) struct NetworkRates {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    full: AtomicBool,
}

impl NetworkRates {
    /// Returns a rate of this many events per second and network.
    pub(crate) fn per_second(events: NonZeroU32) -> NetworkRates {
        NetworkRates::new(Quota::per_second(events))
    }

    /// Returns a rate of this many events per minute and network.
    pub(crate) fn per_minute(events: NonZeroU32) -> NetworkRates {
        NetworkRates::new(Quota::per_minute(events))
    }

    fn new(quota: Quota) -> NetworkRates {
        NetworkRates { limiter: RateLimiter::keyed(quota), full: AtomicBool::new(false) }
    }

    /// Counts an event of a network.
    ///
    /// # Errors
    /// It is one too many. The error is the time after which the next one is allowed.
    pub(crate) fn check(&self, network: IpAddr) -> Result<(), Duration> {
        if self.full.load(Relaxed) {
            return Ok(());
        }
        self.limiter.check_key(&network).map_err(wait)
    }

    /// Forgets the networks that have their full allowance again. To be called every second or so.
    pub(crate) fn shrink(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        self.full.store(self.limiter.len() >= MAX_NETWORKS, Relaxed);
    }
}

/// Returns the address by which a peer is counted. A /64 is the smallest IPv6 network that one customer gets.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

fn wait(refused: NotUntil<QuantaInstant>) -> Duration {
    refused.wait_time_from(DefaultClock::default().now())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
            assert!((10..=11).contains(&allowed), "{allowed}");
        }
        for n in 3..MAX_NETWORKS as u32 + 3 {
            assert!(rates.check(network(n)).is_ok());
        }
        rates.shrink();
        let before = rates.limiter.len();
        assert!(before >= MAX_NETWORKS, "none has its full allowance again");
        assert!(rates.check(network(u32::MAX)).is_ok());
        assert_eq!(rates.limiter.len(), before, "no further network is remembered");
    }
}
