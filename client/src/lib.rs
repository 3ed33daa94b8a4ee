//! Client for Cable.
