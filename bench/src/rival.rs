//! What Cable is compared with, as servers of their own: `limit` is the least that the same libraries can cost,
//! `ordinary` what a service costs that is written as one usually is. Both are run until they are killed.

pub(crate) mod gathered;
pub(crate) mod limit;
pub(crate) mod ordinary;
