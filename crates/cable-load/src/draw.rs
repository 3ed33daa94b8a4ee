//! Draws of one of many: numbers that look random. Each is a function of the seed and the number of the call alone, so
//! that a run with the same seed makes the same requests in the same order.

use std::hash::{BuildHasher as _, RandomState};

/// A distribution over ranks, uniform or by a Zipf law.
#[derive(Debug)]
pub(crate) struct Draw {
    seed: u64,
    ranks: usize,
    /// The cumulative weights of the ranks; empty if the distribution is uniform.
    sums: Vec<f64>,
}

impl Draw {
    /// Creates a distribution. With an exponent s, the probability of rank r (from 1) is proportional to 1 / r^s.
    pub(crate) fn new(ranks: usize, exponent: Option<f64>, seed: u64) -> Draw {
        let mut sum = 0.0;
        let sums = exponent.into_iter().flat_map(|exponent| {
            (1..=ranks).map(move |rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
        });
        Draw { seed, ranks, sums: sums.collect() }
    }

    /// Returns the rank, from 0, of the call with this number.
    pub(crate) fn rank(&self, number: u64) -> usize {
        let unit = (split_mix(self.seed, number) >> 11) as f64 / (1u64 << 53) as f64;
        let rank = match self.sums.last() {
            Some(all) => self.sums.partition_point(|sum| *sum <= unit * all),
            None => (unit * self.ranks as f64) as usize,
        };
        rank.min(self.ranks.saturating_sub(1))
    }
}

/// Returns a random seed, for a run that was given none.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(())
}

/// Returns the `number`th value of SplitMix64.
fn split_mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exponent: Option<f64>) -> Vec<f64> {
        let draw = Draw::new(10, exponent, 1);
        let mut counts = vec![0.0; 10];
        (0..100_000).for_each(|number| counts[draw.rank(number)] += 1.0);
        counts
    }

    #[test]
    fn split_mix_matches_reference_values() {
        assert_eq!([split_mix(0, 0), split_mix(0, 1)], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn ranks_are_uniform_or_follow_zipf() {
        assert!(counts(None).iter().all(|count| (9_500.0..10_500.0).contains(count)));
        let zipf = counts(Some(1.0));
        assert!((1.9..2.1).contains(&(zipf[0] / zipf[1])) && (9.0..11.0).contains(&(zipf[0] / zipf[9])));
    }

    #[test]
    fn equal_seeds_give_equal_draws() {
        let draws = |seed| (0..50).map(|n| Draw::new(1_000, None, seed).rank(n)).collect::<Vec<_>>();
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
