//! The page on what of Kafka's protocol is served, made from the table in `api`. `weir compatibility` prints it, and
//! `docs/compatibility.md` is the same text.

use std::fmt::Write;

use wire::api::ApiKey;

use crate::api::{self, APIS};

/// The whole page, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("| API | key | versions | of them older than Kafka 4 |\n| --- | --- | --- | --- |\n");
    for api in APIS {
        let kafka_min = api.key.info().kafka_min_version;
        let older = if api.min < kafka_min { range(api.min, kafka_min - 1) } else { String::new() };
        let _ = writeln!(out, "| {} | {} | {} | {older} |", api.key, api.key.key(), range(api.min, api.max));
    }
    out.push_str(OLD_CLIENTS);
    out.push_str(CONFIGURATIONS);
    out.push_str("\n## Not served\n\nWhat a broker of Apache Kafka 4.3 serves beside these:\n\n");
    for key in ApiKey::ALL.iter().filter(|key| key.info().on_broker && api::find(**key).is_none()) {
        let info = key.info();
        let _ = writeln!(out, "- {key} ({}), {}", key.key(), range(info.kafka_min_version, info.max_version));
    }
    out
}

fn range(min: i16, max: i16) -> String {
    if min == max { min.to_string() } else { format!("{min}-{max}") }
}

const INTRODUCTION: &str = "\
# Compatibility

`weir compatibility` prints this page; it is made from the table that the broker itself uses, which also makes its answer
to ApiVersions. A version that is listed is served in full.

## Served

";

const OLD_CLIENTS: &str = "
## Clients older than Kafka 0.11

They send and read message sets of magic 0 and 1 (Produce up to version 2, Fetch up to version 3). The log holds batches of
magic 2 alone, so records are converted on their way in and out, in the same codec:

- A message of magic 0 has no timestamp, so its record has none (-1). Of a record, such clients see key, value and offset,
  those of magic 1 the timestamp too. Headers are dropped and the markers of transactions are left out; records of aborted
  transactions are seen, as with every client that reads what is not committed.
- Records that are compressed with zstd cannot be read by them: UNSUPPORTED_COMPRESSION_TYPE.
- An answer to such a Fetch has 8 MiB of records at most, beside the message that crosses this bound. A message that is
  larger than the client asked for comes whole, if it is the first.
- Version 0 of ListOffsets takes the newest timestamp of a segment for the time at which its file was written.

Clients that ask for no ApiVersions, such as those of Kafka 0.9, are served all the same.
";

const CONFIGURATIONS: &str = "
## Configurations

What can be described and changed is in `docs/configuration.md`. Where it is less than with Apache Kafka, the refusal is the one
that Kafka has for what it does not know or cannot change:

- A setting of the broker that is fixed at the start, or that nothing would act on, is not stored: INVALID_REQUEST, `Cannot
  update these configs dynamically`. Kafka stores keys that it does not know.
- Groups have the configurations of the consumer protocol. Those of share and streams groups are unknown: INVALID_CONFIG.
- Client metrics (resource type 16) are not collected, so there are no subscriptions: INVALID_REQUEST.
- Quotas of users, clients and addresses are not served. Their APIs are not advertised, and `kafka-configs` says so:
  `The node does not support DESCRIBE_CLIENT_QUOTAS`.
- Loggers are modules of Weir, with names such as `server::controller`.
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// To bring the page up to date: `cargo run -- compatibility > docs/compatibility.md`.
    #[test]
    fn the_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/compatibility.md is out of date: cargo run -- compatibility > docs/compatibility.md"
        );
    }
}
