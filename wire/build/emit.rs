//! The files that the build script writes: all messages, all records, the table of APIs.

use crate::emit_struct;
use crate::schema::{Kind, Message, Versions};
use std::fmt::Write;

/// File names and contents.
pub(crate) fn all(messages: &[Message]) -> [(&'static str, String); 4] {
    // Headers are written by hand in `wire::header`: their form depends on the request inside.
    let described = || messages.iter().filter(|message| message.versions.is_some() && message.kind != Kind::Header);
    let (records, others): (Vec<_>, Vec<_>) = described().partition(|message| is_record(message));
    [
        ("messages.rs", modules(&others)),
        ("records.rs", modules(&records)),
        ("apis.rs", apis(messages)),
        ("every_message.rs", every_message(&others, &records)),
    ]
}

fn is_record(message: &Message) -> bool {
    matches!(message.kind, Kind::MetadataRecord | Kind::CoordinatorKey | Kind::CoordinatorValue)
}

fn modules(messages: &[&Message]) -> String {
    let mut out = String::new();
    for message in messages {
        let module = emit_struct::snake(&message.name);
        writeln!(out, "pub use {module}::{};", message.name).unwrap();
        writeln!(out, "/// [`{}`] and its structs.\npub mod {module} {{", message.name).unwrap();
        out.push_str(
            "use crate::reader::require;\nuse crate::{put, DecodeError, EncodeError, Message, Reader, Uuid};\n",
        );
        out.push_str(&emit_struct::message(message));
        out.push_str("}\n");
    }
    out
}

/// A macro call with one row per API: variant, key, versions, versions of Kafka, first flexible version, listeners.
fn apis(messages: &[Message]) -> String {
    let mut requests: Vec<_> = messages.iter().filter(|message| message.kind == Kind::Request).collect();
    requests.sort_by_key(|message| message.key);
    let mut out = String::from("apis! {\n");
    for request in requests {
        let (Some(versions), Some(kafka), Some(key)) = (request.versions, request.kafka, request.key) else { continue };
        let name = request.name.strip_suffix("Request").expect("a request is named so");
        let flexible = first(request.flexible);
        let Versions { min, max } = versions;
        let on = |listener: &str| request.listeners.iter().any(|known| known == listener);
        writeln!(
            out,
            "    {name} = {key}, {min}, {max}, {}, {flexible}, {}, {}, {};",
            kafka.min,
            on("broker"),
            on("controller"),
            request.unstable
        )
        .unwrap();
    }
    out.push_str("}\n");
    out
}

/// A macro that calls another with the path of every message: for the tests that walk over all of them.
fn every_message(others: &[&Message], records: &[&Message]) -> String {
    let mut out = String::from("macro_rules! every_message {\n    ($callback:ident) => {\n        $callback! {\n");
    for (module, messages) in [("messages", others), ("records", records)] {
        for message in messages {
            writeln!(out, "            {module} {},", message.name).unwrap();
        }
    }
    out.push_str("        }\n    };\n}\n");
    out
}

/// The first of the versions, or the number that stands for none.
pub(crate) fn first(versions: Option<Versions>) -> i16 {
    versions.map_or(i16::MAX, |versions| versions.min)
}
