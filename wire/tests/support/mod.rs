//! What the tests of this crate share.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod jars;
pub(crate) mod rng;
pub(crate) mod sample;
#[path = "../../build/schema.rs"]
pub(crate) mod schema;

use schema::Message;

/// All messages of the field tables.
pub(crate) fn tables() -> Vec<Message> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schema");
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).unwrap();
            messages.extend(schema::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
    messages
}
