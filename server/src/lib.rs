//! The broker: everything between a socket and the store.

pub mod catalog;
pub mod config;
pub mod data_dir;
pub mod features;
pub mod frame;
pub mod handlers;
pub mod hash;
pub mod image;
pub mod machine;
pub mod signals;
