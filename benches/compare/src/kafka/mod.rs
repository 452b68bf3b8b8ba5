//! Apache Kafka as a peer: its jars from Maven, one broker process, and its command line tools.
//!
//! - [`provision()`] puts the jars into the user's cache directory and returns them as [`Jars`].
//! - [`Broker::start`] runs one combined node (broker and controller) on loopback with a directory of its own.
//! - [`Jars::command`] and [`Jars::run_tool`] run a main class, for instance `org.apache.kafka.tools.TopicCommand`,
//!   against any broker.
//!
//! # Tuning
//! A broker runs as the release ships it, so that a comparison is with what users have: see [`SETTINGS_IN_WORDS`]. Most
//! values of `config/server.properties` are also the defaults of the code, so the generated file leaves them out, except
//! where a single node needs another value than the default (replication factors of 1).
//!
//! The class "flushed before every acknowledgement" is the topic setting `flush.messages=1`, given when a topic is made.

mod broker;
mod provision;

pub use broker::{Broker, BrokerError, BrokerOptions};
pub use provision::{Jars, ProvisionError, ToolError, VERSION, cache_dir, provision};

/// How a broker is tuned, for reports.
pub const SETTINGS_IN_WORDS: &str = "one combined KRaft node with the options of the release: the JVM options of its start script (1 GiB of \
     heap, G1, pause target 20 ms), `num.network.threads=3`, `num.io.threads=8`, socket buffers of 102,400 bytes, segments of 1 GiB, \
     log level INFO into a file; replication factors of the internal topics 1. Where it is to flush before every \
     acknowledgement, its topics have `flush.messages=1`.";
