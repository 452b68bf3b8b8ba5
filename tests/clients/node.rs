//! kafkajs on Node.

use std::process::Command;

use harness::client::Client;
use harness::partitioner::Partitioner;
use harness::{provision, suite};

#[test]
#[ignore = "needs Node and kafkajs from the npm registry"]
fn client_kafkajs() {
    Client {
        name: "kafkajs",
        program: &|| {
            let mut command = Command::new("node");
            command.arg(provision::node("clients/node", "kafkajs.js")).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
            command
        },
        codecs: &["none", "gzip", "snappy", "lz4", "zstd"],
        partitioner: Partitioner::Murmur2,
        // kafkajs says false where topics exist.
        existing: "false",
        missing: "UNKNOWN_TOPIC_OR_PARTITION",
        large: "MESSAGE_TOO_LARGE",
    }
    .check(&suite!());
}
