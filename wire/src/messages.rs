//! Requests and responses, and data inside them, generated from the field tables.
//!
//! Each message has a module with its structs; the message itself is re-exported here.
#![allow(unused_imports, unused_variables, clippy::all, reason = "one shape of code for all messages")]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
