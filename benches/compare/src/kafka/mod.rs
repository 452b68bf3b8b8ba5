//! Apache Kafka as a peer: its jars from Maven, one broker process, and its command line tools.
//!
//! - [`provision`] puts the jars into the user's cache directory and returns them as [`Jars`].
//! - [`Broker::start`] runs one combined node (broker and controller) on loopback with a directory of its own.
//! - [`Jars::command`] and [`Jars::run_tool`] run a main class, for instance `org.apache.kafka.tools.TopicCommand`,
//!   against any broker.
//!
//! # Tuning
//! A broker runs as the release ships it, so that a comparison is with what users have:
//! - the JVM options of `kafka-server-start.sh` and `kafka-run-class.sh`: 1 GiB of heap, G1 with a pause target of 20 ms;
//! - the values of `config/server.properties`: `num.network.threads=3`, `num.io.threads=8`, socket buffers of 102,400 bytes,
//!   segments of 1 GiB, no flush before an acknowledgement. They are also the defaults of the code, so the generated file
//!   leaves them out, except where a single node needs another value than the default (replication factors of 1);
//! - logs at the level INFO, into a file.
//!
//! The class "flushed before every acknowledgement" is the topic setting `flush.messages=1`, given when a topic is made.

mod broker;
mod provision;

pub use broker::{Broker, BrokerError, BrokerOptions};
pub use provision::{Jars, ProvisionError, ToolError, VERSION, cache_dir, provision};
