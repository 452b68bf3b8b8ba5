//! Turns the field tables in `schema/` into structs and codecs.

use std::path::Path;
use std::{env, fs};

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_struct.rs"]
mod emit_struct;
#[path = "build/schema.rs"]
mod schema;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=schema");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let mut paths: Vec<_> = fs::read_dir(Path::new(&root).join("schema"))
        .expect("the folder schema/ is part of this crate")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let mut messages = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a readable table");
        messages.extend(schema::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for (name, text) in emit::all(&messages) {
        fs::write(Path::new(&out).join(name), text).expect("OUT_DIR is writable");
    }
}
