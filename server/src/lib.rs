//! The broker: everything between a socket and the store.

pub mod api;
pub mod assembly;
pub mod broker;
pub mod catalog;
pub mod compatibility;
pub mod config;
pub mod connection;
pub mod controller;
pub mod coordinator;
pub mod data_dir;
mod disk;
pub mod exit;
pub mod features;
pub mod frame;
pub mod group;
pub mod handlers;
pub mod hash;
pub mod image;
pub mod limits;
pub mod listener;
pub mod loggers;
pub mod machine;
mod markers;
pub mod pattern;
pub mod router;
pub mod services;
pub mod shard;
pub mod signals;
pub mod state_machine;
pub mod transaction;

#[cfg(test)]
mod plane_tests;
