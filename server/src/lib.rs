//! The broker: everything between a socket and the store.

pub mod config;
pub mod frame;
pub mod handlers;
pub mod hash;
