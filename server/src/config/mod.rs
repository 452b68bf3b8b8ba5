//! The configuration of the broker.
//!
//! [`settings`] and [`topic`] are tables; everything else follows from them. Values are read by `main` and handed on as
//! [`options::Options`]; other modules use the tables (the admin APIs describe and check by them), never the sources.

pub mod cli;
pub mod consumer_groups;
pub mod coordinators;
pub mod docs;
pub mod kafka_keys;
pub mod kind;
pub mod live;
pub mod load;
pub mod options;
pub mod properties;
pub mod settings;
pub mod topic;
