//! The store and the per-core runtime of Weir.

pub mod cache;
pub mod io;
pub mod limits;
pub mod mailbox;
pub mod reactor;
