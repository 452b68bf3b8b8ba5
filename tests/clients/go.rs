//! The Go clients.

use std::process::Command;

use harness::client::Client;
use harness::partitioner::Partitioner;
use harness::{provision, suite};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
#[ignore = "needs Go and franz-go from the module proxy"]
fn client_franz_go() {
    Client {
        name: "franz-go",
        program: &|| program("franz-go"),
        codecs: &CODECS,
        partitioner: Partitioner::Murmur2,
        existing: "TOPIC_ALREADY_EXISTS",
        missing: "UNKNOWN_TOPIC_OR_PARTITION",
        large: "MESSAGE_TOO_LARGE",
    }
    .check(&suite!());
}

#[test]
#[ignore = "needs Go and sarama from the module proxy"]
fn client_sarama() {
    Client {
        name: "sarama",
        program: &|| program("sarama"),
        codecs: &CODECS,
        partitioner: Partitioner::Fnv1a,
        existing: "36",
        missing: "3",
        large: "10",
    }
    .check(&suite!());
}

fn program(client: &str) -> Command {
    let mut command = Command::new(provision::go("clients/go", "go"));
    command.arg(client);
    command
}
