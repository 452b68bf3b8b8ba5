//! The broker: everything between a socket and the store.

pub mod frame;
