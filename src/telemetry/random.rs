//! Random numbers, for samples and for ids that are not secret.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
};

/// Returns a random number. Each thread has a generator of its own, so that a decision needs no lock.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8) | 1);
    }
    STATE.with(|state| {
        // xorshift64* (Vigna, 2016). Its upper bits are the best ones.
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}
