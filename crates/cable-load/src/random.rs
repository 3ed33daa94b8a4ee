//! Numbers that look random, the same for each seed on each machine and in each release.

use std::hash::{BuildHasher as _, RandomState};

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Creates a generator whose next value is the one with this number, from 0. Work that is numbered and done in any
    /// order thus gets the same values in each run.
    #[must_use]
    pub fn at(seed: u64, number: u64) -> Random {
        Random(seed.wrapping_add(number.wrapping_mul(STEP)))
    }

    /// Returns the next value.
    #[expect(clippy::should_implement_trait, reason = "a generator has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Returns true in this percentage of cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns a number from 0 to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a normally distributed number with mean 0 and deviation 1 (Box-Muller transform).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Returns a random seed, for a run that was given none.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(())
}

/// A distribution over ranks, numbered from 0.
#[derive(Debug)]
pub struct Ranks {
    ranks: usize,
    /// The cumulative weights of the ranks; empty if all ranks are equally likely.
    sums: Vec<f64>,
}

impl Ranks {
    /// Returns the distribution in which all ranks are equally likely.
    #[must_use]
    pub fn uniform(ranks: usize) -> Ranks {
        Ranks { ranks, sums: Vec::new() }
    }

    /// Returns Zipf's law with an exponent s: the probability of rank r is proportional to 1 / (r + 1)^s.
    #[must_use]
    pub fn zipf(ranks: usize, exponent: f64) -> Ranks {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Ranks { ranks, sums: sums.collect() }
    }

    /// Draws a rank.
    pub fn draw(&self, random: &mut Random) -> usize {
        let unit = random.unit();
        let rank = match self.sums.last() {
            Some(all) => self.sums.partition_point(|sum| *sum <= unit * all),
            None => (unit * self.ranks as f64) as usize,
        };
        rank.min(self.ranks.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ranks: &Ranks) -> Vec<f64> {
        let mut counts = vec![0.0; 10];
        (0..100_000).for_each(|number| counts[ranks.draw(&mut Random::at(1, number))] += 1.0);
        counts
    }

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut random = Random::new(0);
        for (number, value) in [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4].into_iter().enumerate() {
            assert_eq!((random.next(), Random::at(0, number as u64).next()), (value, value));
        }
        assert_ne!(Random::new(7).next(), Random::new(8).next());
    }

    #[test]
    fn ranks_are_uniform_or_follow_zipf() {
        assert!(counts(&Ranks::uniform(10)).iter().all(|count| (9_500.0..10_500.0).contains(count)));
        let zipf = counts(&Ranks::zipf(10, 1.0));
        assert!((1.9..2.1).contains(&(zipf[0] / zipf[1])) && (9.0..11.0).contains(&(zipf[0] / zipf[9])));
    }
}
