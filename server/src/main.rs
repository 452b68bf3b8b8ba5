//! The broker.

use std::io::Write;

use server::config::{cli, docs};

fn main() {
    let matches = cli::command().get_matches();
    match cli::invocation(&matches) {
        cli::Invocation::Config => {
            // A reader that has seen enough closes the pipe: no error.
            let _ = std::io::stdout().write_all(docs::markdown().as_bytes());
        }
        cli::Invocation::Serve(_) => {}
    }
}
