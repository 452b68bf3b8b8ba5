//! The table of cases: what is run, in which classes, and what is to be reached. Nothing else in this crate knows a case
//! by name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::Side;
use crate::text::value;

/// What is compared with what. Figures of different classes are never put side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Every acknowledgement of Weir is on disk; Apache Kafka acknowledges from the page cache.
    DiskAgainstShipped,
    /// Both acknowledge from the page cache: survives SIGKILL, not a power cut.
    OsAgainstShipped,
    /// Both have every acknowledgement on disk: Kafka by `flush.messages=1`.
    DiskAgainstFlushed,
}

impl Class {
    /// All classes, in the order of the report.
    pub const ALL: [Class; 3] = [Class::DiskAgainstShipped, Class::OsAgainstShipped, Class::DiskAgainstFlushed];

    /// The number on the command line and in the report.
    pub fn number(self) -> u8 {
        match self {
            Class::DiskAgainstShipped => 1,
            Class::OsAgainstShipped => 2,
            Class::DiskAgainstFlushed => 3,
        }
    }

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Class::DiskAgainstShipped => "Weir with durability=disk against Apache Kafka as it ships",
            Class::OsAgainstShipped => "Weir with durability=os against Apache Kafka as it ships",
            Class::DiskAgainstFlushed => "Weir with durability=disk against Apache Kafka with flush.messages=1",
        }
    }

    /// What an acknowledgement promises on each side.
    pub fn promise(self) -> &'static str {
        match self {
            Class::DiskAgainstShipped => {
                "Not the same promise: Weir acknowledges after an fdatasync, Kafka from the page cache, which a power cut empties."
            }
            Class::OsAgainstShipped => {
                "The same promise: both acknowledge from the page cache, which survives the end of the process and not a power cut."
            }
            Class::DiskAgainstFlushed => "The same promise: both acknowledge after the data is on disk.",
        }
    }

    /// `durability` of Weir in this class.
    pub fn weir_durability(self) -> &'static str {
        match self {
            Class::DiskAgainstShipped | Class::DiskAgainstFlushed => "disk",
            Class::OsAgainstShipped => "os",
        }
    }

    /// True where Kafka's topics get `flush.messages=1`.
    pub fn kafka_flushes(self) -> bool {
        self == Class::DiskAgainstFlushed
    }
}

/// One row of the comparison.
#[derive(Debug)]
pub struct Case {
    /// Name on the command line and in file names.
    pub name: &'static str,
    /// Name in the report.
    pub title: &'static str,
    /// Name in a chart, where there is less room.
    pub short_title: &'static str,
    /// The classes in which it is run.
    pub classes: &'static [Class],
    /// What the generator does.
    pub load: Load,
    /// What is to be reached.
    pub floors: &'static [Floor],
    /// No peer writes more than this in a second, in MB, on the reference machine: decides how much free disk a run needs.
    pub write_mb_per_s_max: u64,
    /// What Kafka at most writes in a second, in MB, on the reference machine: decides how much page cache is touched before.
    pub kafka_mb_per_s_max: u64,
}

/// The work of one run. Records hold random bytes. Produce requests ask for `acks=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Produce requests, each of one batch for one partition; connection `i` writes to partition `i`.
    Produce {
        /// Connections, and as many partitions.
        connections: u32,
        /// What a request holds.
        batch: Batch,
        /// When a request is sent.
        pace: Pace,
    },
    /// Fetch requests for ranges of [`Load::PREFILL_BYTES`] bytes that were written just before.
    Fetch {
        /// Connections, and as many partitions.
        connections: u32,
        /// Bytes that a request asks for.
        range_bytes: u32,
    },
    /// Open loop from the intended time of a record to its arrival at a consumer: one producer, one consumer.
    EndToEnd {
        /// Records per second, in ticks of 1 ms.
        rate: u64,
        /// Bytes of a record's value.
        record_bytes: u32,
        /// Bytes that a batch may have: enough for all records of a tick.
        batch_bytes: u32,
    },
    /// One connection that writes to one partition of a broker on two cores or more, again and again with a new topic: by chance
    /// the connection and the partition are on the same core or on different ones, which the broker's threads show afterwards.
    OtherCore {
        /// What a request holds.
        batch: Batch,
        /// Requests that the connection sends before it waits for an answer.
        in_flight: u32,
    },
    /// Members of consumer groups that heartbeat every 3 s and commit every 5 s, as Kafka's consumer does; before that they join.
    Groups {
        /// Groups, all with the one topic.
        groups: u32,
        /// Members of each, on a connection each.
        members: u32,
        /// Of these, the last ones to join, one at a time: the rebalances that are timed.
        late_members: u32,
        /// Partitions of the topic.
        partitions: u32,
    },
    /// Producers with a transactional id each and one batch in a transaction, in turn with producers of the same batches
    /// without transactions that as well wait for each acknowledgement: connection `i` writes to partition `i`.
    Transactions {
        /// Connections, and as many partitions.
        connections: u32,
        /// What a transaction holds.
        batch: Batch,
    },
    /// No clients at all: what the broker burns by itself.
    Idle,
}

/// When produce requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as answers come.
    Closed {
        /// Requests that a connection sends before it waits for an answer.
        in_flight: u32,
    },
    /// At times fixed in advance, in ticks of 1 ms.
    Open {
        /// Records per second.
        rate: u64,
    },
}

/// The content of one produce request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Batch {
    /// As many records of 100 bytes as fit into a batch of so many bytes.
    Bytes(u32),
    /// This many records of so many bytes of value.
    Records {
        /// Records in the batch.
        count: u32,
        /// Bytes of a record's value.
        bytes: u32,
    },
}

/// A figure of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Acknowledged or fetched bytes of record batches per second, in MB (10^6).
    MegabytesPerSecond,
    /// Seconds of broker CPU (user and system, all threads) per GB (10^9) of record batches.
    CpuSecondsPerGb,
    /// Microseconds of broker CPU per request.
    CpuMicrosPerRequest,
    /// Seconds of broker CPU per GB where a connection and its partition are on the same core.
    SameCoreCpuSecondsPerGb,
    /// Seconds of broker CPU per GB where a connection and its partition are on different cores.
    OtherCoreCpuSecondsPerGb,
    /// The latter over the former.
    OtherCoreFactor,
    /// Broker CPU over elapsed time: 1 is one core.
    CpuCores,
    /// The longest time from the first request of a group's last member to the settled group, in seconds.
    RebalanceSeconds,
    /// Of the rebalances, in the median what passed after the last member had asked to be in, in microseconds.
    RebalanceAfterLastMicros,
    /// Bytes of record batches per second that the same producers write without transactions, in MB (10^6).
    PlainMegabytesPerSecond,
    /// Bytes per second within transactions over those without.
    TransactionalShare,
    /// Median latency in microseconds.
    P50Micros,
    /// 99th percentile of latency in microseconds.
    P99Micros,
    /// 99.9th percentile of latency in microseconds.
    P999Micros,
}

impl Metric {
    /// Words for a table.
    pub fn title(self) -> &'static str {
        match self {
            Metric::MegabytesPerSecond => "throughput, MB/s",
            Metric::CpuSecondsPerGb => "broker CPU, s/GB",
            Metric::CpuMicrosPerRequest => "broker CPU, µs/request",
            Metric::SameCoreCpuSecondsPerGb => "broker CPU, same core, s/GB",
            Metric::OtherCoreCpuSecondsPerGb => "broker CPU, other core, s/GB",
            Metric::OtherCoreFactor => "broker CPU per GB, other core : same core",
            Metric::CpuCores => "broker CPU, cores",
            Metric::RebalanceSeconds => "rebalance, s",
            Metric::RebalanceAfterLastMicros => "rebalance after the last member asked, µs",
            Metric::PlainMegabytesPerSecond => "throughput without transactions, MB/s",
            Metric::TransactionalShare => "throughput in transactions : without",
            Metric::P50Micros => "p50, µs",
            Metric::P99Micros => "p99, µs",
            Metric::P999Micros => "p99.9, µs",
        }
    }

    /// True where more is better; ratios are turned so that above 1 means that Weir is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Metric::MegabytesPerSecond | Metric::PlainMegabytesPerSecond | Metric::TransactionalShare)
    }
}

/// A figure to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// The class that it is about.
    pub class: Class,
    /// The figure.
    pub metric: Metric,
    /// What is asked.
    pub bound: Bound,
}

/// What a floor asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Weir is better than Kafka by at least this factor.
    TimesBetter(f64),
    /// Weir's own figure is at most this.
    AtMost(f64),
    /// Weir's own figure is at least this.
    AtLeast(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::TimesBetter(factor) => write!(f, "≥ {factor}×"),
            Bound::AtMost(limit) => write!(f, "Weir ≤ {}", value(*limit)),
            Bound::AtLeast(limit) => write!(f, "Weir ≥ {}", value(*limit)),
        }
    }
}

impl Load {
    /// Topic size for a fetch case: small enough to stay in memory on both sides, large enough not to sit in the
    /// processor's cache.
    pub const PREFILL_BYTES: u64 = 256_000_000;

    /// Partitions of the topic.
    pub fn partitions(self) -> u32 {
        match self {
            Load::Produce { connections, .. }
            | Load::Fetch { connections, .. }
            | Load::Transactions { connections, .. } => connections,
            Load::Groups { partitions, .. } => partitions,
            Load::EndToEnd { .. } | Load::OtherCore { .. } | Load::Idle => 1,
        }
    }

    /// The figures that a reader looks for first.
    pub fn headline(self) -> &'static [Metric] {
        use Metric::*;
        match self {
            // With one request at a time there is nothing but latency.
            Load::Produce { connections: 1, pace: Pace::Closed { in_flight: 1 }, .. } => &[P50Micros, P99Micros],
            Load::Produce { pace: Pace::Closed { .. }, .. } | Load::Fetch { .. } => {
                &[MegabytesPerSecond, CpuSecondsPerGb]
            }
            Load::EndToEnd { .. } => &[P50Micros, P99Micros, P999Micros],
            Load::OtherCore { .. } => &[OtherCoreFactor],
            Load::Groups { late_members: 1.., .. } => &[RebalanceSeconds],
            Load::Groups { .. } => &[CpuCores],
            Load::Transactions { .. } => &[MegabytesPerSecond, TransactionalShare],
            Load::Produce { pace: Pace::Open { .. }, .. } | Load::Idle => &[CpuCores],
        }
    }

    /// The figure by which a load is seen to have become steady: throughput, or where that is given, CPU. `None` where nothing
    /// goes before the measured run.
    pub fn steady_by(self) -> Option<Metric> {
        match self {
            Load::Produce { pace: Pace::Closed { .. }, .. } | Load::Fetch { .. } | Load::Transactions { .. } => {
                Some(Metric::MegabytesPerSecond)
            }
            Load::Produce { pace: Pace::Open { .. }, .. }
            | Load::EndToEnd { .. }
            | Load::Groups { late_members: 0, .. } => Some(Metric::CpuCores),
            // The time of a rebalance is that of the members' waits.
            Load::Groups { .. } | Load::OtherCore { .. } | Load::Idle => None,
        }
    }

    /// The sides that run it. Cores that each own partitions are Weir's alone.
    pub fn sides(self) -> &'static [Side] {
        match self {
            Load::OtherCore { .. } => &[Side::Weir],
            _ => &Side::BOTH,
        }
    }

    /// The figures that say something about this load, in the order of the report.
    pub fn metrics(self) -> &'static [Metric] {
        use Metric::*;
        match self {
            Load::Produce { pace: Pace::Closed { .. }, .. } => {
                &[MegabytesPerSecond, CpuSecondsPerGb, CpuMicrosPerRequest, P50Micros, P99Micros, P999Micros]
            }
            Load::Produce { pace: Pace::Open { .. }, .. } => &[CpuCores, P50Micros, P99Micros, P999Micros],
            Load::Fetch { .. } => &[MegabytesPerSecond, CpuSecondsPerGb, P50Micros, P99Micros],
            Load::EndToEnd { .. } => &[P50Micros, P99Micros, P999Micros, CpuCores],
            Load::OtherCore { .. } => &[OtherCoreFactor, SameCoreCpuSecondsPerGb, OtherCoreCpuSecondsPerGb],
            Load::Groups { late_members: 1.., .. } => &[RebalanceSeconds, RebalanceAfterLastMicros],
            Load::Groups { .. } => &[CpuCores, CpuMicrosPerRequest, P50Micros, P99Micros],
            Load::Transactions { .. } => {
                &[MegabytesPerSecond, PlainMegabytesPerSecond, TransactionalShare, P50Micros, P99Micros]
            }
            Load::Idle => &[CpuCores],
        }
    }
}

/// The case with this name.
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

const SHIPPED: &[Class] = &[Class::DiskAgainstShipped, Class::OsAgainstShipped];
/// Reading and idling do not differ between the durability classes.
const SHIPPED_DISK: &[Class] = &[Class::DiskAgainstShipped];
const FLUSHED: &[Class] = &[Class::DiskAgainstFlushed];

/// A closed loop with five requests in flight on each connection, the default of the Java producer.
const fn closed(connections: u32, batch: Batch) -> Load {
    Load::Produce { connections, batch, pace: Pace::Closed { in_flight: 5 } }
}

const fn end_to_end(rate: u64) -> Load {
    Load::EndToEnd { rate, record_bytes: 100, batch_bytes: 256 << 10 }
}

/// Nine records of 100 bytes make a batch of about 1 KiB.
const NINE_RECORDS: Batch = Batch::Records { count: 9, bytes: 100 };

/// A record in a batch of its own: 170 bytes with 100 bytes of value.
const ONE_RECORD: Batch = Batch::Records { count: 1, bytes: 100 };

const fn better(metric: Metric, factor: f64) -> Floor {
    Floor { class: Class::DiskAgainstShipped, metric, bound: Bound::TimesBetter(factor) }
}

const fn at_most(metric: Metric, limit: f64) -> Floor {
    Floor { class: Class::DiskAgainstShipped, metric, bound: Bound::AtMost(limit) }
}

/// Half as much again as a bare loop of receive, check, write, fdatasync and answer costs on the reference machine.
const fn near_limit(limit_cpu_seconds_per_gb: f64) -> Floor {
    Floor {
        class: Class::DiskAgainstShipped,
        metric: Metric::CpuSecondsPerGb,
        bound: Bound::AtMost(limit_cpu_seconds_per_gb * 1.5),
    }
}

/// Every row. The floors are those of the project's plan.
pub const CASES: &[Case] = &[
    Case {
        name: "produce-64k",
        title: "64 KiB × 4 connections",
        short_title: "64 KiB × 4 connections",
        classes: SHIPPED,
        load: closed(4, Batch::Bytes(64 << 10)),
        floors: &[better(Metric::CpuSecondsPerGb, 4.2), better(Metric::MegabytesPerSecond, 3.2), near_limit(0.27)],
        write_mb_per_s_max: 1_600,
        kafka_mb_per_s_max: 700,
    },
    Case {
        name: "produce-500k",
        title: "500 KB of 1 KiB records × 4",
        short_title: "500 KB of 1 KiB records × 4",
        classes: SHIPPED,
        load: closed(4, Batch::Records { count: 488, bytes: 1 << 10 }),
        floors: &[better(Metric::CpuSecondsPerGb, 4.0), better(Metric::MegabytesPerSecond, 3.0), near_limit(0.165)],
        write_mb_per_s_max: 3_200,
        kafka_mb_per_s_max: 1_300,
    },
    Case {
        name: "produce-16k",
        title: "16 KiB × 4",
        short_title: "16 KiB × 4",
        classes: SHIPPED,
        load: closed(4, Batch::Bytes(16 << 10)),
        floors: &[better(Metric::CpuSecondsPerGb, 5.0), better(Metric::MegabytesPerSecond, 4.0), near_limit(0.59)],
        write_mb_per_s_max: 1_000,
        kafka_mb_per_s_max: 350,
    },
    Case {
        name: "produce-1k",
        title: "1 KiB × 4",
        short_title: "1 KiB × 4",
        classes: SHIPPED,
        load: closed(4, NINE_RECORDS),
        floors: &[better(Metric::CpuSecondsPerGb, 3.5), better(Metric::MegabytesPerSecond, 2.2), near_limit(5.5)],
        write_mb_per_s_max: 150,
        kafka_mb_per_s_max: 60,
    },
    Case {
        name: "produce-170b",
        title: "170 B × 8",
        short_title: "170 B × 8",
        classes: SHIPPED,
        load: closed(8, ONE_RECORD),
        floors: &[better(Metric::CpuSecondsPerGb, 4.0), better(Metric::MegabytesPerSecond, 2.7), near_limit(20.0)],
        write_mb_per_s_max: 60,
        kafka_mb_per_s_max: 15,
    },
    Case {
        name: "fleet-1k",
        title: "1 KiB × 64 connections, 10 in flight each",
        short_title: "1 KiB × 64, 10 in flight",
        classes: SHIPPED,
        load: Load::Produce { connections: 64, batch: NINE_RECORDS, pace: Pace::Closed { in_flight: 10 } },
        floors: &[better(Metric::CpuSecondsPerGb, 10.0), better(Metric::MegabytesPerSecond, 8.0), near_limit(0.88)],
        write_mb_per_s_max: 900,
        kafka_mb_per_s_max: 100,
    },
    Case {
        name: "fleet-170b",
        title: "170 B × 64 connections, 10 in flight each (a sensor fleet)",
        short_title: "170 B × 64, 10 in flight",
        classes: SHIPPED,
        load: Load::Produce { connections: 64, batch: ONE_RECORD, pace: Pace::Closed { in_flight: 10 } },
        floors: &[better(Metric::CpuSecondsPerGb, 9.0), better(Metric::MegabytesPerSecond, 8.0), near_limit(5.9)],
        write_mb_per_s_max: 250,
        kafka_mb_per_s_max: 30,
    },
    Case {
        name: "fetch-1m",
        title: "hot fetch, 1 MiB",
        short_title: "hot fetch, 1 MiB",
        classes: SHIPPED_DISK,
        load: Load::Fetch { connections: 4, range_bytes: 1 << 20 },
        floors: &[better(Metric::CpuSecondsPerGb, 1.35), better(Metric::MegabytesPerSecond, 1.5), near_limit(0.167)],
        write_mb_per_s_max: 1,
        kafka_mb_per_s_max: 1,
    },
    Case {
        name: "flush-16k",
        title: "16 KiB × 8 connections, 1 in flight each",
        short_title: "16 KiB × 8, 1 in flight",
        classes: FLUSHED,
        load: Load::Produce { connections: 8, batch: Batch::Bytes(16 << 10), pace: Pace::Closed { in_flight: 1 } },
        floors: &[Floor {
            class: Class::DiskAgainstFlushed,
            metric: Metric::MegabytesPerSecond,
            bound: Bound::TimesBetter(10.0),
        }],
        write_mb_per_s_max: 800,
        kafka_mb_per_s_max: 60,
    },
    Case {
        name: "flush-16k-single",
        title: "16 KiB × 1 connection, 1 in flight",
        short_title: "16 KiB × 1, 1 in flight",
        classes: FLUSHED,
        load: Load::Produce { connections: 1, batch: Batch::Bytes(16 << 10), pace: Pace::Closed { in_flight: 1 } },
        floors: &[],
        write_mb_per_s_max: 300,
        kafka_mb_per_s_max: 60,
    },
    Case {
        name: "e2e-1k",
        title: "end to end, 1,000 rec/s",
        short_title: "end to end, 1,000 rec/s",
        classes: SHIPPED,
        load: end_to_end(1_000),
        floors: &[],
        write_mb_per_s_max: 1,
        kafka_mb_per_s_max: 1,
    },
    Case {
        name: "e2e-100k",
        title: "end to end, 100,000 rec/s",
        short_title: "end to end, 100,000 rec/s",
        classes: SHIPPED,
        load: end_to_end(100_000),
        floors: &[better(Metric::P999Micros, 2.0)],
        write_mb_per_s_max: 30,
        kafka_mb_per_s_max: 30,
    },
    Case {
        name: "e2e-1m",
        title: "end to end, 1,000,000 rec/s",
        short_title: "end to end, 1,000,000 rec/s",
        classes: SHIPPED,
        load: end_to_end(1_000_000),
        floors: &[],
        write_mb_per_s_max: 200,
        kafka_mb_per_s_max: 200,
    },
    Case {
        name: "single",
        title: "one record of 150 B at a time",
        short_title: "one record of 150 B at a time",
        classes: SHIPPED,
        load: Load::Produce {
            connections: 1,
            batch: Batch::Records { count: 1, bytes: 80 },
            pace: Pace::Closed { in_flight: 1 },
        },
        floors: &[Floor { class: Class::OsAgainstShipped, metric: Metric::P50Micros, bound: Bound::TimesBetter(1.0) }],
        write_mb_per_s_max: 20,
        kafka_mb_per_s_max: 20,
    },
    Case {
        name: "trickle",
        title: "trickle of 1,000 rec/s in ticks of 1 ms",
        short_title: "trickle, 1,000 rec/s",
        classes: SHIPPED,
        load: Load::Produce { connections: 1, batch: ONE_RECORD, pace: Pace::Open { rate: 1_000 } },
        floors: &[better(Metric::CpuCores, 3.0)],
        write_mb_per_s_max: 1,
        kafka_mb_per_s_max: 1,
    },
    Case {
        name: "other-core",
        title: "two broker cores, 64 KiB batches for a partition of the other core",
        short_title: "partition of the other core",
        classes: SHIPPED_DISK,
        load: Load::OtherCore { batch: Batch::Bytes(64 << 10), in_flight: 5 },
        floors: &[Floor {
            class: Class::DiskAgainstShipped,
            metric: Metric::OtherCoreFactor,
            bound: Bound::AtMost(1.3),
        }],
        write_mb_per_s_max: 1_600,
        kafka_mb_per_s_max: 0,
    },
    Case {
        name: "groups-2000",
        title: "20 groups of 100 members on 1,000 partitions: heartbeats and commits (latency: of commits)",
        short_title: "2,000 members of groups",
        classes: SHIPPED_DISK,
        load: Load::Groups { groups: 20, members: 100, late_members: 0, partitions: 1_000 },
        floors: &[at_most(Metric::CpuCores, 0.05)],
        write_mb_per_s_max: 10,
        kafka_mb_per_s_max: 10,
    },
    Case {
        name: "rebalance-100",
        title: "one more member joins, up to 100, over 1,000 partitions",
        short_title: "rebalance of 100 members",
        classes: SHIPPED_DISK,
        load: Load::Groups { groups: 1, members: 100, late_members: 4, partitions: 1_000 },
        // One heartbeat: so long members may take until they hear of it.
        floors: &[at_most(Metric::RebalanceSeconds, 3.0)],
        write_mb_per_s_max: 1,
        kafka_mb_per_s_max: 1,
    },
    Case {
        name: "transactions-16k",
        title: "transactions of 100 records in one batch of 16 KiB × 32 (latency: of transactions)",
        short_title: "transactions of 16 KiB × 32",
        classes: SHIPPED_DISK,
        load: Load::Transactions { connections: 32, batch: Batch::Records { count: 100, bytes: 150 } },
        floors: &[Floor {
            class: Class::DiskAgainstShipped,
            metric: Metric::TransactionalShare,
            bound: Bound::AtLeast(0.6),
        }],
        write_mb_per_s_max: 1_000,
        kafka_mb_per_s_max: 350,
    },
    Case {
        name: "idle",
        title: "idle, no clients",
        short_title: "idle, no clients",
        classes: SHIPPED_DISK,
        load: Load::Idle,
        floors: &[Floor { class: Class::DiskAgainstShipped, metric: Metric::CpuCores, bound: Bound::AtMost(0.002) }],
        write_mb_per_s_max: 1,
        kafka_mb_per_s_max: 1,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_into_file_names() {
        let names: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            assert_eq!(find(name).unwrap().name, name);
        }
        assert!(find("no-such-case").is_none());
    }

    #[test]
    fn every_floor_is_about_a_class_and_a_figure_of_its_case() {
        for case in CASES {
            assert!(!case.classes.is_empty(), "{}", case.name);
            for floor in case.floors {
                assert!(case.classes.contains(&floor.class), "{}: {:?}", case.name, floor);
                assert!(case.load.metrics().contains(&floor.metric), "{}: {:?}", case.name, floor);
                assert!(case.load.headline().contains(&floor.metric), "{}: {:?}", case.name, floor);
                let (Bound::TimesBetter(value) | Bound::AtMost(value) | Bound::AtLeast(value)) = floor.bound;
                assert!(value > 0.0 && value.is_finite());
            }
        }
    }

    #[test]
    fn every_class_has_cases_and_only_the_flushed_one_flushes() {
        for class in Class::ALL {
            assert!(CASES.iter().any(|case| case.classes.contains(&class)), "{class:?}");
        }
        assert_eq!(Class::ALL.map(Class::number), [1, 2, 3]);
        assert_eq!(Class::ALL.map(Class::kafka_flushes), [false, false, true]);
        assert_eq!(Class::ALL.map(Class::weir_durability), ["disk", "os", "disk"]);
    }

    #[test]
    fn floors_of_the_plan_are_all_there() {
        let floor = |name: &str, metric| -> Vec<Bound> {
            find(name).unwrap().floors.iter().filter(|floor| floor.metric == metric).map(|floor| floor.bound).collect()
        };
        let plan = [
            ("produce-64k", 4.2, 3.2),
            ("produce-500k", 4.0, 3.0),
            ("produce-16k", 5.0, 4.0),
            ("produce-1k", 3.5, 2.2),
            ("produce-170b", 4.0, 2.7),
            ("fleet-1k", 10.0, 8.0),
            ("fleet-170b", 9.0, 8.0),
            ("fetch-1m", 1.35, 1.5),
        ];
        for (name, cpu, throughput) in plan {
            assert!(floor(name, Metric::CpuSecondsPerGb).contains(&Bound::TimesBetter(cpu)), "{name}");
            assert_eq!(floor(name, Metric::MegabytesPerSecond), [Bound::TimesBetter(throughput)], "{name}");
        }
        assert_eq!(floor("flush-16k", Metric::MegabytesPerSecond), [Bound::TimesBetter(10.0)]);
        assert_eq!(floor("e2e-100k", Metric::P999Micros), [Bound::TimesBetter(2.0)]);
        assert_eq!(floor("single", Metric::P50Micros), [Bound::TimesBetter(1.0)]);
        assert_eq!(floor("trickle", Metric::CpuCores), [Bound::TimesBetter(3.0)]);
        assert_eq!(floor("other-core", Metric::OtherCoreFactor), [Bound::AtMost(1.3)]);
        assert_eq!(floor("groups-2000", Metric::CpuCores), [Bound::AtMost(0.05)]);
        assert_eq!(floor("rebalance-100", Metric::RebalanceSeconds), [Bound::AtMost(3.0)]);
        assert_eq!(floor("transactions-16k", Metric::TransactionalShare), [Bound::AtLeast(0.6)]);
        assert_eq!(floor("idle", Metric::CpuCores), [Bound::AtMost(0.002)]);
    }
}
