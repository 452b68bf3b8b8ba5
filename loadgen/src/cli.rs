//! The command line, and how it becomes a [`Plan`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wire::compression::Codec;

use crate::cpu::Meter;
use crate::plan::{
    Acks, BatchBound, FetchLoad, Generator, GroupLoad, GroupProtocol, Keys, Load, Pace, Plan, ProduceLoad, StartAt,
    Target, Timing,
};
use crate::units::{parse_bytes, parse_duration};

/// Length of a run that is bounded by nothing else.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Warm-up of a run that is bounded by time.
const DEFAULT_WARMUP: Duration = Duration::from_secs(1);
/// Unanswered requests per connection, as the Java producer allows.
const CLOSED_LOOP_IN_FLIGHT: u32 = 5;
/// An open loop does not wait for answers; this only bounds its memory.
const OPEN_LOOP_IN_FLIGHT: u32 = 10_000;
/// Batches are this large unless something else is asked for: the Java producer's `batch.size`.
const DEFAULT_BATCH_BYTES: u32 = 16 << 10;
/// One batch is no larger than this, nor is one fetch.
const MAX_BATCH_BYTES: u64 = 128 << 20;
/// What the connections of a run may hold together, for requests or answers.
const MAX_MEMORY_BYTES: u64 = 8 << 30;
/// What a connection costs besides its requests or answers.
const CONNECTION_BYTES: u64 = 32 << 10;
/// At most this many connections: each takes a file descriptor and a port.
const MAX_CONNECTIONS: u32 = 50_000;

/// Load, latency and audit of any Kafka-protocol broker.
#[derive(Debug, Parser)]
#[command(name = "weir-load", version, about, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes records: in a closed loop as fast as acknowledgements come, or with --rate by a schedule fixed in advance.
    Produce(ProduceArgs),
    /// Reads records in a closed loop.
    Fetch(FetchArgs),
    /// Writes by a schedule and reads the same records: latency from the intended send to the receipt, with audit.
    E2e(EndToEndArgs),
    /// Joins consumer groups, heartbeats and commits: how long rebalances take, and what the traffic costs.
    Group(GroupArgs),
}

#[derive(Debug, Args)]
struct ProduceArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    writer: WriterArgs,
    /// Records per second over all connections; without it the loop is closed.
    #[arg(long, value_name = "RECORDS/S")]
    rate: Option<u64>,
    /// Stamps every record, reads all of them back after the run and judges loss, duplicates and order; with
    /// --transactional of what was committed, and that nothing else is found.
    #[arg(long)]
    audit: bool,
    /// Gives each connection a transactional id and commits as the Java producer does: the next transaction begins when
    /// the commit is answered.
    #[arg(long, conflicts_with = "rate")]
    transactional: bool,
    /// Batches of a transaction.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "transactional", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    transaction_batches: u32,
    /// Aborts every N-th transaction of a connection. [default: none]
    #[arg(long, value_name = "N", requires = "transactional", value_parser = clap::value_parser!(u32).range(1..))]
    abort_every: Option<u32>,
}

#[derive(Debug, Args)]
struct FetchArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// Connections; each is one consumer.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)))]
    connections: u32,
    /// Unanswered requests per connection, each for other partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: u32,
    /// Where reading begins.
    #[arg(long, value_enum, default_value_t = FromArg::Beginning)]
    from: FromArg,
    /// Reads the first SIZE bytes of every partition again and again.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    loop_range: Option<u64>,
    /// Checks the CRC of every batch. Without it the generator reads headers alone.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct EndToEndArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    writer: WriterArgs,
    #[command(flatten)]
    reader: ReaderArgs,
    /// Records per second over all connections.
    #[arg(long, value_name = "RECORDS/S")]
    rate: u64,
    /// Consuming connections; partitions are dealt to them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)))]
    consumers: u32,
}

#[derive(Debug, Args)]
struct GroupArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// What members speak with their coordinator: classic, where the leader assigns by ranges, or consumer (KIP-848).
    #[arg(long, value_enum, default_value_t = ProtocolArg::Classic)]
    protocol: ProtocolArg,
    /// Groups; all of them have the one topic.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// Members of each group, each on a connection of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)))]
    members: u32,
    /// Of these, the last ones to join: one at a time, each when its group has settled.
    #[arg(long, value_name = "N", default_value_t = 0)]
    late_members: u32,
    /// What the groups' ids begin with.
    #[arg(long, value_name = "ID", default_value = "weir-load")]
    group_id: String,
    /// Between two heartbeats of a member of a classic group. In the consumer protocol the broker says it.
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    heartbeat_interval: Duration,
    /// Between two commits of all offsets of a member; 0 is none at all.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    commit_interval: Duration,
}

/// What the modes have that carry records.
#[derive(Debug, Args)]
struct LoadArgs {
    /// Ends the measurement after so many records.
    #[arg(long)]
    records: Option<u64>,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    threads: u32,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Any broker of the cluster.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    bootstrap: String,
    /// The topic; a writing run makes it if it is missing.
    #[arg(long, default_value = "weir-load")]
    topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// Replication factor of a topic that is made; -1 leaves it to the broker.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-1..=100))]
    replication_factor: i16,
    /// Configuration of a topic that is made; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_config)]
    topic_config: Vec<(String, String)>,
    /// The client id of all requests.
    #[arg(long, default_value = "weir-load")]
    client_id: String,
    /// Length of the measurement: 10s, 500ms, 2m. [default: 10s, unless --records is given]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Load before the measurement. [default: 1s, or none if only --records bounds the run]
    #[arg(long, value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Gives up a connection without an answer for this long.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    answer_timeout: Duration,
    /// Processors to pin the generator's threads to: 1 or 2,4-6.
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pin: Option<CpuList>,
    /// Seed of payloads and random keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measures the CPU time of this process: the broker.
    #[arg(long, value_name = "PID", conflicts_with = "broker_cgroup")]
    broker_pid: Option<u32>,
    /// Measures the CPU time of this control group (version 2), a directory with cpu.stat.
    #[arg(long, value_name = "DIR")]
    broker_cgroup: Option<PathBuf>,
    /// Writes the report as JSON; - is standard output, in place of the text.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct WriterArgs {
    /// Connections; each is one producer.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)))]
    connections: u32,
    /// Unanswered requests per connection. [default: 5; 10000 with --rate, where it only bounds memory]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: Option<u32>,
    /// Bytes of a batch before compression, header included, at most. [default: 16KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, conflicts_with = "batch_records")]
    batch_bytes: Option<u64>,
    /// Records of a batch; at most so many where a schedule brings fewer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    batch_records: Option<u32>,
    /// Bytes of a record's value.
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = parse_bytes)]
    record_size: u64,
    /// What an acknowledgement waits for.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// Codec of the batches.
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    compression: Codec,
    /// none, random:N (one of N keys) or sequential.
    #[arg(long, default_value = "none", value_parser = parse_keys)]
    keys: Keys,
    /// Share of a value's bytes that is random, 0 to 1.
    #[arg(long, default_value_t = 1.0, value_parser = parse_share)]
    entropy: f64,
    /// With --rate: records due within this time are sent at its beginning.
    #[arg(long, default_value = "1ms", value_parser = parse_duration)]
    tick: Duration,
    /// How long the broker may wait for other replicas.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    request_timeout: Duration,
}

#[derive(Debug, Args)]
struct ReaderArgs {
    /// Bytes that an answer and each partition in it may hold.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_bytes)]
    fetch_bytes: u64,
    /// How long the broker may wait for --fetch-min-bytes.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=600_000))]
    fetch_max_wait_ms: u32,
    /// Bytes for which the broker waits.
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = parse_bytes)]
    fetch_min_bytes: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AcksArg {
    /// No answer at all.
    #[value(name = "0")]
    None,
    /// The leader.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas.
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolArg {
    /// JoinGroup, SyncGroup, Heartbeat.
    Classic,
    /// ConsumerGroupHeartbeat.
    Consumer,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FromArg {
    /// The first offset of the log.
    Beginning,
    /// Behind its last one.
    Latest,
}

#[derive(Debug, Clone)]
struct CpuList(Vec<usize>);

/// A command line that contradicts itself or asks for too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// The audit needs acknowledgements to judge loss by.
    AuditWithoutAcks,
    /// Records of a transaction need the acknowledgement of all replicas.
    TransactionsWithoutAcks,
    /// More members come late than there are.
    LateMembers,
    /// More members than connections can be.
    Members,
    /// Heartbeats without a pause.
    NoHeartbeatInterval,
    /// A schedule without records.
    NoRate,
    /// A tick of zero, or longer than the run.
    Tick,
    /// A larger batch or fetch than any broker takes: the option and the bytes.
    TooLarge(&'static str, u64),
    /// The fetch size is zero.
    NoFetchBytes,
    /// All connections together would hold this many bytes.
    Memory(u64),
    /// Nothing is to be measured.
    Nothing,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::AuditWithoutAcks => f.write_str("an audit needs acknowledgements: --acks 0 gives none"),
            PlanError::TransactionsWithoutAcks => f.write_str("transactions need --acks all"),
            PlanError::LateMembers => f.write_str("--late-members must be fewer than --members"),
            PlanError::Members => write!(f, "--groups times --members must be at most {MAX_CONNECTIONS}"),
            PlanError::NoHeartbeatInterval => f.write_str("--heartbeat-interval must be above zero"),
            PlanError::NoRate => f.write_str("--rate must be at least 1"),
            PlanError::Tick => f.write_str("--tick must be above zero and no longer than --duration"),
            PlanError::TooLarge(option, bytes) => {
                write!(f, "{option} asks for {bytes} bytes; the bound is {MAX_BATCH_BYTES}")
            }
            PlanError::NoFetchBytes => f.write_str("--fetch-bytes must be above zero"),
            PlanError::Memory(bytes) => write!(
                f,
                "the connections could hold {bytes} bytes; the bound is {MAX_MEMORY_BYTES}. Take fewer connections or less in flight"
            ),
            PlanError::Nothing => f.write_str("--duration and --records must be above zero"),
        }
    }
}

impl std::error::Error for PlanError {}

/// A command line understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub plan: Plan,
    /// Where the broker's CPU time is read.
    pub meter: Option<Meter>,
    /// Where the JSON report goes.
    pub json: Option<PathBuf>,
    /// Whether progress is shown.
    pub progress: bool,
}

impl Cli {
    /// Fills in the defaults and refuses contradictions.
    pub fn into_invocation(self) -> Result<Invocation, PlanError> {
        let (load, common, args) = match self.command {
            Command::Produce(args) => {
                let pace = match args.rate {
                    Some(0) => return Err(PlanError::NoRate),
                    Some(records_per_second) => Pace::Open { records_per_second, tick: args.writer.tick },
                    None => Pace::Closed,
                };
                let mut produce = args.writer.into_load(pace, args.audit)?;
                if args.transactional && produce.acks != Acks::All {
                    return Err(PlanError::TransactionsWithoutAcks);
                }
                produce.transaction_batches = args.transactional.then_some(args.transaction_batches);
                produce.abort_every = args.abort_every;
                (Load::Produce { produce }, args.common, Some(args.load))
            }
            Command::Fetch(args) => {
                let from = match args.from {
                    FromArg::Beginning => StartAt::Beginning,
                    FromArg::Latest => StartAt::Latest,
                };
                let fetch =
                    args.reader.into_load(args.connections, args.in_flight, from, args.loop_range, args.check)?;
                (Load::Fetch { fetch }, args.common, Some(args.load))
            }
            Command::E2e(args) => {
                if args.rate == 0 {
                    return Err(PlanError::NoRate);
                }
                let pace = Pace::Open { records_per_second: args.rate, tick: args.writer.tick };
                let produce = args.writer.into_load(pace, true)?;
                let fetch = args.reader.into_load(args.consumers, 1, StartAt::Latest, None, true)?;
                (Load::E2e { produce, fetch }, args.common, Some(args.load))
            }
            Command::Group(args) => {
                if args.late_members >= args.members {
                    return Err(PlanError::LateMembers);
                }
                if u64::from(args.groups) * u64::from(args.members) > u64::from(MAX_CONNECTIONS) {
                    return Err(PlanError::Members);
                }
                if args.heartbeat_interval.is_zero() {
                    return Err(PlanError::NoHeartbeatInterval);
                }
                let group = GroupLoad {
                    protocol: match args.protocol {
                        ProtocolArg::Classic => GroupProtocol::Classic,
                        ProtocolArg::Consumer => GroupProtocol::Consumer,
                    },
                    groups: args.groups,
                    members: args.members,
                    late_members: args.late_members,
                    group_id: args.group_id,
                    heartbeat_interval: args.heartbeat_interval,
                    commit_interval: args.commit_interval,
                };
                (Load::Group { group }, args.common, None)
            }
        };
        let (records, threads) = args.map_or((None, 1), |args| (args.records, args.threads));
        common.into_invocation(load, records, threads)
    }
}

impl CommonArgs {
    fn into_invocation(self, load: Load, records: Option<u64>, threads: u32) -> Result<Invocation, PlanError> {
        let reads_to_the_end = matches!(&load, Load::Fetch { fetch }
            if fetch.loop_range.is_none() && fetch.from == StartAt::Beginning);
        let duration = match self.duration {
            None if records.is_none() && !reads_to_the_end => Some(DEFAULT_DURATION),
            given => given,
        };
        let warmup = self.warmup.unwrap_or(if duration.is_some() { DEFAULT_WARMUP } else { Duration::ZERO });
        if duration == Some(Duration::ZERO) || records == Some(0) {
            return Err(PlanError::Nothing);
        }
        if let Some(Pace::Open { tick, .. }) = load.produce().map(|produce| produce.pace)
            && (tick.is_zero() || duration.is_some_and(|duration| tick > duration))
        {
            return Err(PlanError::Tick);
        }
        check_memory(&load)?;
        let plan = Plan {
            target: Target {
                bootstrap: self.bootstrap,
                topic: self.topic,
                partitions: self.partitions,
                replication_factor: self.replication_factor,
                topic_config: self.topic_config,
                client_id: self.client_id,
                answer_timeout: self.answer_timeout.max(Duration::from_millis(1)),
            },
            timing: Timing { warmup, duration, records },
            generator: Generator { threads, pin: self.pin.map(|list| list.0).unwrap_or_default(), seed: self.seed },
            load,
        };
        let meter = self.broker_pid.map(Meter::Process).or(self.broker_cgroup.map(Meter::Cgroup));
        Ok(Invocation { plan, meter, json: self.json, progress: !self.quiet })
    }
}

impl WriterArgs {
    fn into_load(self, pace: Pace, audit: bool) -> Result<ProduceLoad, PlanError> {
        let acks = match self.acks {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        };
        if audit && acks == Acks::None {
            return Err(PlanError::AuditWithoutAcks);
        }
        let default_in_flight = if pace == Pace::Closed { CLOSED_LOOP_IN_FLIGHT } else { OPEN_LOOP_IN_FLIGHT };
        let record_bytes = bounded("--record-size", self.record_size)?;
        let batch = match (self.batch_records, self.batch_bytes) {
            (Some(records), _) => {
                bounded("--batch-records", u64::from(records) * (self.record_size + 20))?;
                BatchBound::Records(records)
            }
            (None, Some(bytes)) => BatchBound::Bytes(bounded("--batch-bytes", bytes)?),
            (None, None) => BatchBound::Bytes(DEFAULT_BATCH_BYTES),
        };
        Ok(ProduceLoad {
            connections: self.connections,
            in_flight: self.in_flight.unwrap_or(default_in_flight),
            pace,
            batch,
            record_bytes,
            acks,
            compression: self.compression,
            keys: self.keys,
            entropy: self.entropy,
            audit,
            transaction_batches: None,
            abort_every: None,
            request_timeout: self.request_timeout,
        })
    }
}

impl ReaderArgs {
    fn into_load(
        self,
        connections: u32,
        in_flight: u32,
        from: StartAt,
        loop_range: Option<u64>,
        check: bool,
    ) -> Result<FetchLoad, PlanError> {
        let max_bytes = bounded("--fetch-bytes", self.fetch_bytes)?;
        if max_bytes == 0 {
            return Err(PlanError::NoFetchBytes);
        }
        Ok(FetchLoad {
            connections,
            in_flight,
            max_bytes,
            max_wait: Duration::from_millis(self.fetch_max_wait_ms.into()),
            min_bytes: bounded("--fetch-min-bytes", self.fetch_min_bytes)?,
            from,
            loop_range,
            check,
        })
    }
}

fn bounded(option: &'static str, bytes: u64) -> Result<u32, PlanError> {
    match u32::try_from(bytes) {
        Ok(fits) if bytes <= MAX_BATCH_BYTES => Ok(fits),
        _ => Err(PlanError::TooLarge(option, bytes)),
    }
}

/// What the connections may hold: a round of requests for each producer, an answer for each consumer.
fn check_memory(load: &Load) -> Result<(), PlanError> {
    let produce = load.produce().map_or(0, |produce| {
        let batch = match produce.batch {
            BatchBound::Records(records) => u64::from(records) * (u64::from(produce.record_bytes) + 20),
            BatchBound::Bytes(bytes) => u64::from(bytes.max(produce.record_bytes)),
        };
        // A round is a window of requests, or the mebibyte that one write gathers and the request that fills it.
        let round = (u64::from(produce.in_flight) * batch).min((1 << 20) + batch);
        u64::from(produce.connections) * (round + CONNECTION_BYTES)
    });
    let fetch =
        load.fetch().map_or(0, |fetch| u64::from(fetch.connections) * (u64::from(fetch.max_bytes) + CONNECTION_BYTES));
    let bytes = produce + fetch;
    if bytes > MAX_MEMORY_BYTES { Err(PlanError::Memory(bytes)) } else { Ok(()) }
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    text.parse().map_err(|_| format!("`{text}` is none of none, gzip, snappy, lz4, zstd"))
}

fn parse_keys(text: &str) -> Result<Keys, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(Keys::None),
        None if text == "sequential" => Ok(Keys::Sequential),
        Some(("random", of)) => match of.replace('_', "").parse() {
            Ok(of) if of > 0 => Ok(Keys::Random(of)),
            _ => Err(format!("`{of}` is not a number of keys")),
        },
        _ => Err(format!("`{text}` is none of none, random:N, sequential")),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not between 0 and 1")),
    }
}

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let bad = || format!("`{text}` is not a list of processors such as 1 or 2,4-6");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last >= 4_096 {
            return Err(bad());
        }
        cpus.extend(first..=last);
    }
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, String> {
        let words = std::iter::once("weir-load").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.into_invocation().map_err(|error| error.to_string())
    }

    fn plan(line: &str) -> Plan {
        parse(line).unwrap().plan
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_of_the_three_modes() {
        let produce = plan("produce");
        assert_eq!((produce.timing.warmup, produce.timing.duration), (DEFAULT_WARMUP, Some(DEFAULT_DURATION)));
        let load = produce.load.produce().unwrap();
        assert_eq!((load.pace, load.in_flight, load.acks), (Pace::Closed, 5, Acks::All));
        assert_eq!(load.batch, BatchBound::Bytes(16_384));

        let open = plan("produce --rate 1000 --records 500");
        assert_eq!((open.timing.warmup, open.timing.duration), (Duration::ZERO, None));
        let tick = Duration::from_millis(1);
        assert_eq!(open.load.produce().unwrap().pace, Pace::Open { records_per_second: 1_000, tick });
        assert_eq!(open.load.produce().unwrap().in_flight, OPEN_LOOP_IN_FLIGHT);

        let fetch = plan("fetch");
        assert_eq!((fetch.timing.warmup, fetch.timing.duration), (Duration::ZERO, None), "it ends with the log");
        assert_eq!(plan("fetch --from latest").timing.duration, Some(DEFAULT_DURATION));
        assert_eq!(plan("fetch --loop-range 1MiB").timing.duration, Some(DEFAULT_DURATION));

        assert_eq!(load.transaction_batches, None);
        let transactional = plan("produce --transactional --batch-records 100");
        let load = transactional.load.produce().unwrap();
        assert_eq!((load.transaction_batches, load.abort_every, load.audit), (Some(1), None, false));
        let audited = plan("produce --transactional --abort-every 3 --audit");
        let load = audited.load.produce().unwrap();
        assert_eq!((load.abort_every, load.audit), (Some(3), true));

        let both = plan("e2e --rate 5000 --consumers 2");
        assert!(both.load.produce().unwrap().audit);
        assert_eq!(both.load.fetch().unwrap().connections, 2);
    }

    #[test]
    fn defaults_of_groups_are_those_of_kafkas_consumer() {
        let plan = plan("group --members 3 --late-members 2");
        let Load::Group { group } = &plan.load else { panic!("{:?}", plan.load) };
        assert_eq!((group.protocol, group.groups, group.late_members), (GroupProtocol::Classic, 1, 2));
        assert_eq!((group.heartbeat_interval.as_secs(), group.commit_interval.as_secs()), (3, 5));
        assert_eq!((plan.timing.duration, plan.generator.threads), (Some(DEFAULT_DURATION), 1));
    }

    #[test]
    fn values_of_every_kind() {
        let plan = plan(
            "produce --batch-bytes 500KB --record-size 1KiB --acks 1 --compression zstd --keys random:1_000 \
             --pin 1,3-4 --topic-config flush.messages=1 --topic-config a=b=c --warmup 250ms --duration 2m",
        );
        let load = plan.load.produce().unwrap();
        assert_eq!((load.batch, load.record_bytes), (BatchBound::Bytes(500_000), 1_024));
        assert_eq!((load.acks, load.compression, load.keys), (Acks::Leader, Codec::Zstd, Keys::Random(1_000)));
        assert_eq!(plan.generator.pin, [1, 3, 4]);
        assert_eq!(plan.target.topic_config[1], ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(plan.timing.warmup, Duration::from_millis(250));
    }

    #[test]
    fn contradictions_and_excess_are_refused() {
        for (line, because) in [
            ("produce --audit --acks 0", "needs acknowledgements"),
            ("produce --transactional --acks 1", "--acks all"),
            ("produce --transactional --rate 5", "cannot be used with"),
            ("produce --transaction-batches 5", "--transactional"),
            ("produce --abort-every 5", "--transactional"),
            ("produce --transactional --abort-every 0", "not in"),
            ("produce --transactional --transaction-batches 0", "not in"),
            ("produce --rate 0", "at least 1"),
            ("e2e --rate 0", "at least 1"),
            ("produce --rate 5 --tick 0", "--tick"),
            ("produce --rate 5 --tick 20s", "--tick"),
            ("produce --duration 0", "above zero"),
            ("produce --records 0", "above zero"),
            ("produce --batch-bytes 1GiB", "--batch-bytes"),
            ("produce --batch-records 10000000", "--batch-records"),
            ("fetch --fetch-bytes 0", "above zero"),
            ("fetch --connections 50000 --fetch-bytes 1MiB", "bound is"),
            ("produce --batch-bytes 1k --batch-records 1", "cannot be used with"),
            ("produce --broker-pid 1 --broker-cgroup /x", "cannot be used with"),
            ("produce --keys random:0", "number of keys"),
            ("produce --keys often", "none of"),
            ("produce --entropy 2", "between 0 and 1"),
            ("produce --pin 3-1", "list of processors"),
            ("produce --compression brotli", "none of"),
            ("produce --acks 2", "possible values"),
            ("produce --topic-config flush", "NAME=VALUE"),
            ("e2e", "--rate"),
            ("group --members 5 --late-members 5", "--late-members"),
            ("group --groups 1000 --members 1000", "at most"),
            ("group --heartbeat-interval 0", "above zero"),
            ("group --records 5", "unexpected argument"),
        ] {
            let refused = parse(line).expect_err(line);
            assert!(refused.contains(because), "{line}: {refused}");
        }
    }
}
