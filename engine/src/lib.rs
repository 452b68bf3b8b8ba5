//! The store and the per-core runtime of Weir.

pub mod cache;
pub mod limits;
