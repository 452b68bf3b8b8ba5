//! Whole runs against brokers on loopback, sound ones and faulty ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use loadgen::cli::Cli;
use loadgen::crew::Observers;
use loadgen::error::RunError;
use loadgen::progress::Progress;
use loadgen::report::Report;
use loadgen::run::run;
use serde_json::Value;
use wire::batch::BatchView;
use wire::error::ErrorCode;

use support::broker::{Broker, Fault, Setup};
use support::control::Speaks;
use support::groups::GroupFault;
use support::transactions::TransactionFault;

mod support;

/// Runs a command line against a broker and answers the report as its readers see it.
fn load(broker: &Broker, line: &str) -> Value {
    try_load(&broker.address.to_string(), line, &Arc::default()).unwrap()
}

fn try_load(address: &str, line: &str, stop: &Arc<AtomicBool>) -> Result<Value, RunError> {
    let words = format!("weir-load {line} --bootstrap {address}");
    let invocation = Cli::try_parse_from(words.split_whitespace()).unwrap().into_invocation().unwrap();
    let observers = Observers { meter: invocation.meter.as_ref(), progress: &Progress::Silent, stop };
    let outcome = run(&invocation.plan, &observers)?;
    let report = Report::new(&invocation.plan, invocation.meter.as_ref(), &outcome);
    assert!(!report.to_string().is_empty());
    Ok(serde_json::to_value(&report).unwrap())
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {report:#}"))
}

fn flag(report: &Value, path: &str) -> bool {
    report.pointer(path).and_then(Value::as_bool).unwrap_or_else(|| panic!("{path} in {report:#}"))
}

fn sound() -> Broker {
    Broker::start(Setup::default())
}

fn faulty(fault: Fault) -> Broker {
    Broker::start(Setup { fault, ..Setup::default() })
}

#[test]
fn a_closed_loop_sends_whole_batches_and_keeps_its_window() {
    let broker = sound();
    let report = load(
        &broker,
        "produce --records 1000 --batch-records 7 --connections 3 --in-flight 4 --partitions 2 --topic-config a=b",
    );
    // 334, 333 and 333 records, rounded up to batches of seven.
    assert_eq!(number(&report, "/produce/acked/records"), 3 * 48 * 7);
    assert_eq!(number(&report, "/produce/acked/requests"), 3 * 48);
    assert_eq!(number(&report, "/produce/acked/value_bytes"), 3 * 48 * 7 * 100);
    assert_eq!(number(&report, "/produce/acked/batch_bytes"), 3 * 48 * (61 + 7 * 109));
    assert_eq!(number(&report, "/produce/ack_latency_us/count"), 3 * 48 * 7);
    assert_eq!(broker.stored().iter().sum::<i64>(), 3 * 48 * 7);
    assert!((1..=4).contains(&broker.deepest()), "{}", broker.deepest());
    let topic = broker.topic().unwrap();
    assert_eq!((topic.partitions, topic.configs), (2, vec![("a".to_owned(), "b".to_owned())]));
    assert_eq!(report["broker"]["produce_version"], 13);
    assert_eq!(report["errors"], Value::Array(Vec::new()));
    assert_eq!(report["audit"], Value::Null);
    assert_eq!(report["outcome"], "completed");
}

#[test]
fn time_bounds_a_closed_loop_and_the_warm_up_is_not_counted() {
    let broker = sound();
    let report = load(&broker, "produce --duration 300ms --warmup 200ms --batch-records 1 --in-flight 2");
    let acked = number(&report, "/produce/acked/records");
    let whole = number(&report, "/whole_run/acked_records");
    assert!(0 < acked && acked < whole, "{acked} of {whole}");
    assert_eq!(broker.stored()[0] as u64, whole);
    assert_eq!(report["window_s"], 0.3);
    let rows = report["seconds"].as_array().unwrap();
    let by_rows: u64 = rows.iter().filter(|row| flag(row, "/measured")).map(|row| number(row, "/acked_records")).sum();
    assert_eq!(by_rows, acked);
}

#[test]
fn large_requests_are_sent_from_where_they_were_prepared() {
    let broker = sound();
    let report = load(&broker, "produce --records 100000 --batch-bytes 200KB --in-flight 5 --record-size 500");
    let batches = broker.all_batches();
    assert_eq!(batches.len() as u64, number(&report, "/produce/acked/requests"));
    // The broker has checked the CRC of each; different variants came.
    assert!(batches.windows(2).any(|pair| pair[0][61..] != pair[1][61..]));
}

#[test]
fn every_generation_of_the_protocol_passes_the_audit() {
    for speaks in [
        Speaks::NEWEST,
        Speaks::OLD,
        Speaks { produce: 12, fetch: 12, ..Speaks::NEWEST },
        Speaks { produce: 3, fetch: 4, metadata: 4, api_versions: 0, transaction: 0 },
    ] {
        let broker = Broker::start(Setup { speaks, ..Setup::default() });
        let report = load(&broker, "produce --records 600 --batch-records 10 --audit --partitions 3 --connections 2");
        assert!(flag(&report, "/audit/passed"), "{report:#}");
        assert_eq!(number(&report, "/audit/read"), 600);
        assert_eq!(report["broker"]["produce_version"], speaks.produce);
        assert_eq!(report["broker"]["fetch_version"], speaks.fetch);
    }
}

#[test]
fn every_codec_passes_the_audit() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let broker = sound();
        let line = format!("produce --records 500 --batch-records 50 --audit --compression {codec} --entropy 0.5");
        let report = load(&broker, &line);
        assert!(flag(&report, "/audit/passed"), "{report:#}");
        assert_eq!(number(&report, "/audit/read"), 500);
        for batch in broker.all_batches() {
            assert_eq!(BatchView::parse(&batch).unwrap().codec().unwrap().name(), codec);
        }
    }
}

#[test]
fn a_constant_workload_is_compressed_too() {
    let broker = sound();
    let report = load(&broker, "produce --records 1000 --batch-records 100 --compression zstd --entropy 0");
    assert!(number(&report, "/produce/acked/batch_bytes") < number(&report, "/produce/acked/value_bytes") / 4);
}

#[test]
fn zstd_needs_a_broker_that_knows_it() {
    let speaks = Speaks { produce: 6, ..Speaks::OLD };
    let broker = Broker::start(Setup { speaks, ..Setup::default() });
    let refused = try_load(&broker.address.to_string(), "produce --compression zstd", &Arc::default());
    assert!(matches!(refused, Err(RunError::CodecUnknown { version: 6, .. })), "{refused:?}");
}

#[test]
fn the_audit_finds_what_the_broker_did_wrong() {
    let line = "produce --records 400 --batch-records 4 --audit --in-flight 3";
    for (fault, found) in
        [(Fault::Lose(50), "lost"), (Fault::Duplicate(50), "duplicates"), (Fault::Swap(50), "reordered")]
    {
        let report = load(&faulty(fault), line);
        assert!(!flag(&report, "/audit/passed"), "{fault:?}");
        for kind in ["lost", "duplicates", "reordered", "invented", "misplaced", "corrupt_batches"] {
            let want = if kind == found { 4 } else { 0 };
            assert_eq!(number(&report, &format!("/audit/{kind}")), want, "{fault:?} {kind}");
        }
        assert!(!report["audit"]["examples"].as_array().unwrap().is_empty());
    }
    let report = load(&faulty(Fault::Corrupt(50)), line);
    assert_eq!(number(&report, "/audit/corrupt_batches"), 1);
    assert!(!flag(&report, "/audit/passed"));
}

#[test]
fn errors_are_counted_by_their_names_and_refused_records_are_not_missed() {
    let broker = faulty(Fault::Refuse(10, ErrorCode::NotEnoughReplicas));
    let report = load(&broker, "produce --records 400 --batch-records 4 --audit");
    let error = &report["errors"][0];
    assert_eq!((error["api"].as_str(), error["name"].as_str()), (Some("Produce"), Some("NOT_ENOUGH_REPLICAS")));
    assert_eq!((number(error, "/times"), number(error, "/records")), (10, 40));
    assert_eq!(number(&report, "/produce/acked/records"), 360);
    assert!(flag(&report, "/audit/passed"), "{report:#}");
    assert_eq!(number(&report, "/audit/acked"), 360);
}

#[test]
fn a_lost_connection_is_reported_and_ends_only_itself() {
    let broker = faulty(Fault::Hang(20));
    let report = load(&broker, "produce --records 400 --batch-records 4 --connections 2 --in-flight 1 --audit");
    assert_eq!(report["lost_connections"].as_array().unwrap().len(), 1);
    assert_eq!(number(&report, "/produce/unanswered_records"), 4);
    assert!(!flag(&report, "/honest"));
    assert!(report["reasons"].as_array().unwrap().iter().any(|reason| reason["code"] == "lost_connections"));
    // The other connection went on to its end, and nothing that was acknowledged is missing.
    assert!(number(&report, "/produce/acked/records") >= 200);
    assert!(flag(&report, "/audit/passed"), "{report:#}");
}

#[test]
fn a_silent_broker_is_given_up() {
    let broker = faulty(Fault::Silence(5));
    let report = load(&broker, "produce --records 400 --batch-records 4 --in-flight 1 --answer-timeout 200ms");
    let lost = report["lost_connections"][0].as_str().unwrap();
    assert!(lost.contains("no answer within"), "{lost}");
    assert_eq!(number(&report, "/produce/acked/records"), 20);
}

#[test]
fn an_answer_out_of_turn_is_not_believed() {
    let report = load(&faulty(Fault::WrongCorrelation(3)), "produce --records 40 --batch-records 4 --in-flight 1");
    let lost = report["lost_connections"][0].as_str().unwrap();
    assert!(lost.contains("answer 5 came where 4 was due"), "{lost}");
}

#[test]
fn transactions_hold_their_batches_and_are_committed_one_after_the_other() {
    // The broker checks producer ids, epochs and sequences, and in version 1 that partitions were added.
    for (transaction, produce) in [(2, 13), (1, 11)] {
        let speaks = Speaks { transaction, ..Speaks::NEWEST };
        let broker = Broker::start(Setup { speaks, ..Setup::default() });
        let line = "produce --transactional --transaction-batches 3 --records 240 --batch-records 10 --connections 2";
        let report = load(&broker, &format!("{line} --partitions 4"));
        // Twelve batches of each connection make four transactions.
        assert_eq!(broker.committed().into_values().collect::<Vec<_>>(), [[3; 4], [3; 4]]);
        assert_eq!(report["broker"]["produce_version"], produce);
        let figures = &report["produce"]["transactions"];
        assert_eq!((&figures["transaction_version"], &figures["committed"]), (&transaction.into(), &8.into()));
        assert_eq!((&figures["commit_latency_us"]["count"], &figures["retries"]), (&8.into(), &0.into()));
        assert_eq!(number(&report, "/produce/acked/records"), 240);
        assert!(flag(&report, "/honest") || !report["reasons"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_transaction_that_the_end_of_the_run_cuts_short_is_committed() {
    let broker = sound();
    load(
        &broker,
        "produce --transactional --transaction-batches 1000000 --duration 100ms --warmup 0 --batch-records 1",
    );
    let committed = broker.committed();
    let [only] = committed["weir-load-0"].as_slice() else { panic!("{committed:?}") };
    assert_eq!(i64::from(*only), broker.stored()[0]);
}

#[test]
fn what_is_refused_for_a_moment_is_sent_again_within_its_transaction() {
    let fault = Fault::Refuse(3, ErrorCode::ConcurrentTransactions);
    let broker =
        Broker::start(Setup { fault, refuse_end: Some((2, ErrorCode::ConcurrentTransactions)), ..Setup::default() });
    let report =
        load(&broker, "produce --transactional --transaction-batches 2 --records 80 --batch-records 10 --in-flight 1");
    assert_eq!(broker.committed()["weir-load-0"], [2; 4]);
    assert_eq!(number(&report, "/produce/acked/records"), 80);
    // Eight batches went through, of numbers 1, 2, 4, 5, 7, 8, 10 and 11; four ends, and three that were refused.
    assert_eq!(number(&report, "/produce/transactions/retries"), 4 + 3);
    assert_eq!(report["errors"], Value::Array(Vec::new()));
}

#[test]
fn a_producer_that_is_fenced_stops() {
    let broker = Broker::start(Setup { refuse_end: Some((3, ErrorCode::InvalidProducerEpoch)), ..Setup::default() });
    let report = load(&broker, "produce --transactional --records 80 --batch-records 10");
    assert_eq!(number(&report, "/produce/transactions/committed"), 2);
    assert_eq!(report["errors"][0]["name"], "INVALID_PRODUCER_EPOCH");
    let lost = report["lost_connections"][0].as_str().unwrap();
    assert!(lost.contains("EndTxn with INVALID_PRODUCER_EPOCH"), "{lost}");
}

/// Two partitions for each of two connections, transactions of four batches of ten records each, of which every third is aborted.
const AUDITED_TRANSACTIONS: &str = "produce --transactional --transaction-batches 4 --abort-every 3 --records 480 \
    --batch-records 10 --partitions 4 --connections 2 --in-flight 4 --audit";

#[test]
fn the_audit_of_transactions_reads_what_was_committed_and_nothing_else() {
    for (transaction, produce, fetch) in [(2, 13, 18), (1, 11, 11)] {
        let speaks = Speaks { transaction, produce, fetch, ..Speaks::NEWEST };
        let broker = Broker::start(Setup { speaks, ..Setup::default() });
        let report = load(&broker, AUDITED_TRANSACTIONS);
        assert!(flag(&report, "/audit/passed"), "{report:#}");
        let figures = &report["produce"]["transactions"];
        assert_eq!((&figures["committed"], &figures["aborted"]), (&8.into(), &4.into()));
        assert_eq!(broker.stored().iter().sum::<i64>(), 480);
        for (path, count) in [("sent", 480), ("acked", 320), ("read", 320), ("stored_unacked", 0), ("aborted", 0)] {
            assert_eq!(number(&report, &format!("/audit/{path}")), count, "{path}");
        }
    }
}

#[test]
fn the_audit_of_transactions_finds_what_the_broker_did_wrong() {
    let find = |setup: Setup, found: &str, count: u64| {
        let context = format!("{:?} {:?}", setup.fault, setup.transaction_fault);
        let report = load(&Broker::start(setup), AUDITED_TRANSACTIONS);
        assert!(!flag(&report, "/audit/passed"), "{context}");
        for kind in ["lost", "duplicates", "reordered", "invented", "misplaced", "aborted"] {
            let want = if kind == found { count } else { 0 };
            assert_eq!(number(&report, &format!("/audit/{kind}")), want, "{context} {kind}: {report:#}");
        }
        assert!(!report["audit"]["examples"].as_array().unwrap().is_empty());
    };
    // The first transactions of both connections, in whatever order: eight batches that are committed.
    for (fault, found) in [(Fault::Lose(0), "lost"), (Fault::Duplicate(0), "duplicates"), (Fault::Swap(0), "reordered")]
    {
        find(Setup { fault, ..Setup::default() }, found, 10);
    }
    let transaction_fault = TransactionFault::AbortInstead(1);
    find(Setup { transaction_fault, ..Setup::default() }, "lost", 40);
}

#[test]
fn records_of_aborted_transactions_that_readers_are_given_fail_the_audit() {
    // One connection, so that the third transaction is the aborted one.
    let broker = Broker::start(Setup { transaction_fault: TransactionFault::Unlisted(3), ..Setup::default() });
    let report = load(
        &broker,
        "produce --transactional --transaction-batches 4 --abort-every 3 --records 240 --batch-records 10 --audit",
    );
    assert_eq!((flag(&report, "/audit/passed"), number(&report, "/audit/aborted")), (false, 40), "{report:#}");
    assert_eq!((number(&report, "/audit/lost"), number(&report, "/audit/stored_unacked")), (0, 0));
}

#[test]
fn a_transaction_that_a_lost_connection_leaves_open_is_ended_before_the_audit_reads() {
    // The connection breaks in the third transaction, with one batch of it stored.
    let report = load(
        &faulty(Fault::Hang(9)),
        "produce --transactional --transaction-batches 4 --records 240 --batch-records 10 --in-flight 1 --audit",
    );
    assert_eq!(report["lost_connections"].as_array().unwrap().len(), 1);
    assert!(flag(&report, "/audit/passed"), "{report:#}");
    assert_eq!((number(&report, "/audit/acked"), number(&report, "/audit/sent")), (80, 100));
}

#[test]
fn an_audit_does_not_wait_for_ever_for_a_transaction_that_never_ends() {
    let transaction_fault = TransactionFault::Forget(3);
    let report = load(
        &Broker::start(Setup { transaction_fault, ..Setup::default() }),
        "produce --transactional --records 30 --batch-records 10 --answer-timeout 300ms --audit",
    );
    assert_eq!((number(&report, "/audit/acked"), number(&report, "/audit/read")), (30, 20), "{report:#}");
    assert!(!flag(&report, "/audit/passed") && !flag(&report, "/audit/complete"));
}

#[test]
fn a_transaction_whose_commit_is_not_answered_may_be_there_as_a_whole_or_not_at_all() {
    for (committed_below, lost, unacked) in [(0, 0, 0), (2, 0, 40), (1, 20, 20)] {
        let transaction_fault = TransactionFault::Tear(2, committed_below);
        let report = load(
            &Broker::start(Setup { transaction_fault, ..Setup::default() }),
            "produce --transactional --transaction-batches 4 --records 240 --batch-records 10 --partitions 2 --audit",
        );
        assert_eq!(flag(&report, "/audit/passed"), lost == 0, "{report:#}");
        let counts = ["acked", "lost", "stored_unacked"].map(|kind| number(&report, &format!("/audit/{kind}")));
        assert_eq!(counts, [40, lost, unacked]);
    }
}

#[test]
fn groups_of_both_protocols_form_rebalance_and_commit() {
    for (protocol, formed) in [("classic", 2), ("consumer", 2)] {
        let broker = sound();
        let line = "group --groups 2 --members 4 --late-members 2 --partitions 10 --heartbeat-interval 20ms \
                    --commit-interval 30ms --duration 300ms --warmup 0";
        let line = format!("{line} --protocol {protocol}");
        let report = load(&broker, &line);
        let figures = &report["group"];
        assert_eq!(figures["formed_us"]["count"], formed, "{report:#}");
        assert_eq!(figures["rebalance_us"]["count"], 4, "two late members of each of two groups");
        assert_eq!(figures["measured_rebalances"], 0);
        assert_eq!((&figures["overlaps"], &figures["not_owned_once"]), (&0.into(), &0.into()));
        assert_eq!((&figures["heartbeat_interval_s"], &figures["offsets_per_commit"]), (&0.02.into(), &3.into()));
        for kind in ["heartbeats", "commits"] {
            let answered = number(figures, &format!("/{kind}/answered"));
            assert!(answered > 0 && figures[kind]["latency_us"]["count"] == answered, "{report:#}");
        }
        assert_eq!(report["errors"], Value::Array(Vec::new()));
        for group in ["weir-load-0", "weir-load-1"] {
            let (members, heartbeats, commits, offsets) = broker.groups().counts(group);
            assert_eq!(members, 0, "all have left");
            assert!(heartbeats > 0 && offsets >= 2 * commits, "{heartbeats} {commits} {offsets}");
        }
    }
}

#[test]
fn a_partition_with_two_owners_is_found() {
    let group = |group_fault, line: &str| {
        let broker = Broker::start(Setup { group_fault, ..Setup::default() });
        let words = format!("group --partitions 4 --duration 50ms --warmup 0 --heartbeat-interval 10ms {line}");
        try_load(&broker.address.to_string(), &words, &Arc::default())
    };
    let report = group(GroupFault::Hasty, "--protocol consumer --members 2 --late-members 1").unwrap();
    assert!(number(&report, "/group/overlaps") > 0, "{report:#}");
    // Where it stays so, the group never settles.
    let stop = Arc::new(AtomicBool::new(false));
    let broker = Broker::start(Setup { group_fault: GroupFault::SameForAll, ..Setup::default() });
    let (address, told) = (broker.address.to_string(), Arc::clone(&stop));
    let run = std::thread::spawn(move || {
        let words = "group --members 2 --partitions 4 --duration 50ms --warmup 0 --heartbeat-interval 10ms";
        try_load(&address, words, &told).unwrap()
    });
    while broker.groups().heartbeats("weir-load-0") < 20 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let report = run.join().unwrap();
    assert_eq!((&report["outcome"], &report["group"]["formed_us"]), (&"interrupted".into(), &Value::Null));
    assert!(number(&report, "/group/overlaps") > 0 && number(&report, "/group/not_owned_once") > 0, "{report:#}");
}

#[test]
fn a_member_that_is_forgotten_joins_again_and_refused_commits_are_told() {
    let line =
        "group --members 3 --partitions 3 --duration 300ms --warmup 0 --heartbeat-interval 10ms --commit-interval 20ms";
    let broker = Broker::start(Setup { group_fault: GroupFault::Forget(30), ..Setup::default() });
    let report = load(&broker, line);
    let error = &report["errors"][0];
    assert_eq!((&error["api"], &error["name"]), (&"Heartbeat".into(), &"UNKNOWN_MEMBER_ID".into()));
    assert!(number(&report, "/group/measured_rebalances") > 0, "{report:#}");
    assert_eq!(number(&report, "/group/not_owned_once"), 0);

    let fault = GroupFault::RefuseCommits(ErrorCode::OffsetMetadataTooLarge);
    let report = load(&Broker::start(Setup { group_fault: fault, ..Setup::default() }), line);
    assert_eq!(report["errors"][0]["name"], "OFFSET_METADATA_TOO_LARGE");
    assert_eq!(number(&report, "/group/commits/answered"), 0);
}

#[test]
fn an_open_loop_sends_exactly_what_was_intended() {
    let broker = sound();
    let report = load(
        &broker,
        "produce --rate 20000 --records 3000 --connections 4 --partitions 4 --audit --threads 2 --batch-records 100",
    );
    for path in
        ["/produce/intended/records", "/audit/sent", "/audit/acked", "/audit/read", "/produce/ack_latency_us/count"]
    {
        assert_eq!(number(&report, path), 3_000, "{path}");
    }
    assert!(flag(&report, "/audit/passed"), "{report:#}");
    assert_eq!(report["window_s"], 0.15);
    assert!(report["generator"]["slip_us"]["max"].is_number());
}

#[test]
fn a_stall_counts_for_every_record_that_it_delayed() {
    // One connection, a record every millisecond. The broker takes 300 ms for one of the first requests and handles one
    // after the other, so that all records of these 300 ms are late by what was left of them. A generator that waits
    // for answers, or counts from the time of the send, would show one slow record.
    let broker = faulty(Fault::Stall(100, Duration::from_millis(300)));
    let report = load(&broker, "produce --rate 1000 --records 600 --audit");
    assert_eq!(number(&report, "/produce/ack_latency_us/count"), 600);
    let p90 = report["produce"]["ack_latency_us"]["p90"].as_f64().unwrap();
    let max = report["produce"]["ack_latency_us"]["max"].as_f64().unwrap();
    assert!(max >= 299_000.0, "{max}");
    // 60 of the 600 records waited longer than this: those due in the first 60 ms of the stall.
    assert!(p90 >= 235_000.0, "{p90}");
    assert!(flag(&report, "/audit/passed"));
}

#[test]
fn a_full_window_holds_batches_back_and_says_so() {
    let broker = faulty(Fault::Stall(10, Duration::from_millis(100)));
    let report = load(&broker, "produce --rate 1000 --records 200 --in-flight 2");
    assert!(number(&report, "/produce/held_batches") >= 50, "{report:#}");
    assert_eq!(number(&report, "/produce/ack_latency_us/count"), 200, "overdue batches were sent after the stall");
}

#[test]
fn end_to_end_every_record_arrives_and_is_timed() {
    for (line, records) in [
        ("e2e --rate 5000 --records 1500 --connections 2 --partitions 3 --consumers 2", 1_500),
        ("e2e --rate 5000 --records 500 --threads 3 --partitions 5 --consumers 9 --compression lz4", 500),
        ("e2e --rate 5000 --records 501 --fetch-bytes 1KiB --fetch-max-wait-ms 10", 501),
    ] {
        let report = load(&sound(), line);
        assert!(flag(&report, "/audit/passed"), "{line}: {report:#}");
        for path in ["/audit/read", "/end_to_end_latency_us/count", "/produce/ack_latency_us/count"] {
            assert_eq!(number(&report, path), records, "{line}: {path}");
        }
    }
}

#[test]
fn end_to_end_a_loss_is_found_and_does_not_hang() {
    let report = load(&faulty(Fault::Lose(3)), "e2e --rate 2000 --records 300");
    assert!(!flag(&report, "/audit/passed"));
    assert!(number(&report, "/audit/lost") >= 1, "{report:#}");
}

#[test]
fn answers_that_come_too_late_are_no_loss() {
    // The broker needs seconds for what is overdue and keeps answering when the run gives up waiting. What it stores after
    // that must not be missed.
    for mode in ["e2e", "produce --audit"] {
        let broker = faulty(Fault::Slow(Duration::from_millis(10)));
        let report = load(&broker, &format!("{mode} --rate 1000 --records 200 --answer-timeout 300ms"));
        assert!(number(&report, "/produce/unanswered_records") > 0, "{report:#}");
        assert!(flag(&report, "/audit/passed"), "{mode}: {report:#}");
    }
}

#[test]
fn a_broker_that_dies_leaves_a_report() {
    for mode in ["produce --audit --rate 1000", "e2e --rate 1000", "produce --audit"] {
        let report = load(&faulty(Fault::Die(20)), &format!("{mode} --records 1000 --batch-records 1 --in-flight 1"));
        assert!(!report["lost_connections"].as_array().unwrap().is_empty(), "{mode}");
        assert_eq!(number(&report, "/audit/acked"), 20, "{mode}: {report:#}");
        assert!(!flag(&report, "/audit/passed") && !flag(&report, "/audit/complete"), "{mode}");
        assert_eq!(number(&report, "/audit/lost"), 0, "what cannot be read is not called lost");
        assert!(!flag(&report, "/honest"));
    }
}

#[test]
fn fetch_reads_to_the_end_that_it_found() {
    let broker = sound();
    load(&broker, "produce --records 5000 --batch-records 10 --partitions 4");
    for line in
        ["fetch", "fetch --connections 2 --in-flight 2 --fetch-bytes 5KiB --check", "fetch --connections 4 --threads 2"]
    {
        let report = load(&broker, line);
        assert_eq!(number(&report, "/fetch/received/records"), 5_000, "{line}");
        assert_eq!(number(&report, "/fetch/received/batch_bytes"), 500 * (61 + 10 * 109), "{line}");
        assert_eq!(number(&report, "/fetch/corrupt_batches"), 0, "{line}");
    }
    // As many consumers as one likes may read the same partition.
    let report = load(&broker, "fetch --connections 8");
    assert_eq!(number(&report, "/fetch/received/records"), 10_000);
    let report = load(&broker, "fetch --records 1000 --fetch-bytes 2KiB");
    let records = number(&report, "/fetch/received/records");
    assert!((1_000..1_100).contains(&records), "{records}");
}

#[test]
fn fetch_reads_the_same_range_again_and_again() {
    let broker = sound();
    load(&broker, "produce --records 1000 --batch-records 10");
    // Ten batches of 1,151 bytes are the loop; each fetch holds four whole ones and a part of the next.
    let report = load(&broker, "fetch --loop-range 11510 --fetch-bytes 5000 --records 5000");
    assert!(number(&report, "/fetch/received/records") >= 5_000);
    let report = load(&broker, "fetch --loop-range 1GiB --records 2500");
    assert!(number(&report, "/fetch/received/records") >= 2_500, "a loop longer than the log begins again at its end");
}

#[test]
fn fetch_checks_what_it_is_told_to_check() {
    let broker = faulty(Fault::Corrupt(3));
    load(&broker, "produce --records 100 --batch-records 10");
    assert_eq!(number(&load(&broker, "fetch --check"), "/fetch/corrupt_batches"), 1);
    assert_eq!(number(&load(&broker, "fetch"), "/fetch/corrupt_batches"), 0);
}

#[test]
fn without_acknowledgements_only_sends_are_counted() {
    let broker = sound();
    let report = load(&broker, "produce --acks 0 --records 700 --batch-records 7 --connections 2");
    assert_eq!(number(&report, "/produce/sent/records"), 700);
    assert_eq!(number(&report, "/produce/acked/records"), 0);
    assert!(report["produce"]["throughput"]["records_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["produce"]["ack_latency_us"], Value::Null);
}

#[test]
fn keys_arrive() {
    let broker = sound();
    load(&broker, "produce --records 300 --batch-records 30 --keys sequential");
    let mut next = 0_u64;
    for batch in broker.all_batches() {
        for record in BatchView::parse(&batch).unwrap().records().unwrap() {
            assert_eq!(record.unwrap().key, Some(next.to_be_bytes().as_slice()));
            next += 1;
        }
    }
    assert_eq!(next, 300);
}

#[test]
fn a_run_can_be_ended_early_and_still_reports() {
    let broker = sound();
    for line in [
        "produce --duration 1h --audit",
        "produce --rate 1000 --duration 1h",
        "e2e --rate 1000 --duration 1h",
        "fetch --from latest --duration 1h",
    ] {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopper, before) = (Arc::clone(&stop), broker.batches());
        let watch = Arc::clone(&stop);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The broker tells when the load has begun; a fetch may be stopped at once.
                while !line.starts_with("fetch") && broker.batches() < before + 20 && !watch.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                stopper.store(true, Ordering::Relaxed);
            });
            let report = try_load(&broker.address.to_string(), line, &stop).unwrap();
            assert_eq!(report["outcome"], "interrupted", "{line}");
            if line.starts_with("produce --duration") || line.starts_with("e2e") {
                assert!(flag(&report, "/audit/passed"), "{line}: {report:#}");
            }
        });
    }
}

#[test]
fn a_broker_that_cannot_be_used_is_named_with_its_reason() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let refused = Setup { refuse_creation: Some(ErrorCode::TopicAuthorizationFailed), ..Setup::default() };
    let cases = [
        (free, "produce", "cannot connect to 127.0.0.1"),
        ("no-port".to_owned(), "produce", "cannot resolve no-port"),
        (sound().address.to_string(), "fetch --topic nothing", "topic nothing does not exist"),
        (Broker::start(refused).address.to_string(), "produce", "TOPIC_AUTHORIZATION_FAILED (not today)"),
        (sound().address.to_string(), "produce --broker-pid 4294967295", "the CPU time of process 4294967295"),
        (sound().address.to_string(), "produce --audit --record-size 20", "at least 32 bytes"),
        (sound().address.to_string(), "produce --pin 4095 --records 1", "cannot pin a thread to processors [4095]"),
    ];
    for (address, line, because) in cases {
        let error = try_load(&address, line, &Arc::default()).expect_err(line).to_string();
        assert!(error.contains(because), "{line}: {error}");
    }
}

#[test]
fn the_brokers_cpu_time_is_part_of_the_report() {
    let broker = sound();
    let own = std::process::id();
    let report = load(&broker, &format!("produce --records 20000 --batch-records 20 --broker-pid {own}"));
    assert!(report["broker_cpu"]["total_s"].as_f64().unwrap() > 0.0);
    assert!(report["broker_cpu"]["s_per_gb"].as_f64().unwrap() > 0.0);
    assert!(report["broker_cpu"]["us_per_request"].as_f64().unwrap() > 0.0);
    assert_eq!(report["broker_cpu"]["source"], format!("process {own}"));
}

#[test]
fn the_sink_that_measures_the_ceiling_works() {
    let address = support::sink::start(|| {}).to_string();
    for line in [
        "produce --connections 8 --in-flight 10 --batch-records 1 --records 5000",
        "produce --connections 2 --batch-bytes 500KB --record-size 1KiB --records 5000",
    ] {
        let report = try_load(&address, line, &Arc::default()).unwrap();
        assert!(number(&report, "/produce/acked/records") >= 5_000, "{line}");
    }
}
