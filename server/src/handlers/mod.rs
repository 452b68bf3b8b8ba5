//! The handlers: one module per API, or per family of APIs that share their rules.

pub mod fetch_session;
