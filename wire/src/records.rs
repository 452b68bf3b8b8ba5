//! Records of the metadata log, of `__consumer_offsets` and of `__transaction_state`, generated from the field tables.
//!
//! Their [`API_KEY`](crate::Message::API_KEY) is the type of the record: it stands in the frame of a metadata record,
//! and as an int16 before the body of a coordinator's record key. A coordinator's value begins with its version.
#![allow(unused_imports, unused_variables, clippy::all, reason = "one shape of code for all messages")]

include!(concat!(env!("OUT_DIR"), "/records.rs"));
