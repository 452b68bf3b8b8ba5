//! The first steps of every tutorial: topics, a console producer, a console consumer, and what consumer groups have read.

use std::time::Duration;

use harness::broker::Broker;
use harness::process::Output;
use harness::wait::Wait;
use harness::{cache, suite};

use crate::tools::{GROUPS, TOPICS, Tools, rows};

const PARTITIONS: u32 = 3;
const LINES: usize = 300;

#[test]
#[ignore = "needs Java, and Apache Kafka from Maven"]
fn scenario_console() {
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "scenario-console", &[("auto.create.topics.enable", "false")]);
    let tools = Tools::new(&broker);

    tools.create("quickstart-events", PARTITIONS);
    assert!(tools.run(TOPICS, &["--list"]).contains(&"quickstart-events".to_owned()));
    let described = tools.run(TOPICS, &["--describe", "--topic", "quickstart-events"]);
    assert!(described[0].contains("PartitionCount: 3\tReplicationFactor: 1"), "{described:?}");
    assert_eq!(described.len(), 1 + PARTITIONS as usize, "{described:?}");

    let mut lines: Vec<String> = (0..LINES).map(|number| format!("{number}: an event of the day")).collect();
    // One batch goes to one partition, so that several runs are needed to fill more than one.
    for part in lines.chunks(LINES / 3) {
        tools.produce("quickstart-events", part.iter().map(String::as_str));
    }
    lines.sort();
    let everything = |read: &[Vec<String>]| {
        let mut read = read.concat();
        read.sort();
        read
    };
    let read = tools.consume("quickstart-events", LINES, &["--from-beginning"]);
    assert_eq!(everything(&[read]), lines);
    let nothing = tools.consume_for("quickstart-events", 2_000, &[]);
    assert_eq!(nothing, [""; 0], "a consumer without --from-beginning starts at the end");

    // A consumer that stops in the middle, and one that goes on there after the broker has restarted.
    let group = ["--group", "readers", "--from-beginning"];
    let first = tools.consume("quickstart-events", 120, &group);
    assert_eq!(progress(&tools), Progress { current: 120, end: LINES as i64, lag: 180 });
    broker.restart();
    assert!(has_group(&tools));
    assert_eq!(progress(&tools), Progress { current: 120, end: LINES as i64, lag: 180 });
    let second = tools.consume("quickstart-events", 180, &group);
    assert_eq!(everything(&[first, second]), lines, "a stop in the middle loses nothing and repeats nothing");
    assert_eq!(progress(&tools), Progress { current: LINES as i64, end: LINES as i64, lag: 0 });

    offsets_are_reset(&tools, &lines);
    a_member_guards_its_group(&tools);

    let deleted = tools.said(GROUPS, &["--delete", "--group", "readers"]);
    assert!(deleted.contains("Deletion of requested consumer groups ('readers') was successful."), "{deleted}");
    assert!(!has_group(&tools));
    let missing = tools.said(GROUPS, &["--describe", "--group", "readers"]);
    assert!(missing.contains("GroupIdNotFoundException: Group readers not found."), "{missing}");
}

fn offsets_are_reset(tools: &Tools, lines: &[String]) {
    let reset = |arguments: &[&str]| -> i64 {
        let arguments = [&["--reset-offsets", "--group", "readers"], arguments].concat();
        let rows = rows(&tools.run(GROUPS, &arguments), "GROUP");
        // A warning says of a partition without records that it stands at its end.
        let rows = rows.iter().filter(|row| row[0] == "readers");
        rows.map(|row| row[3].parse::<i64>().unwrap_or_else(|error| panic!("{row:?}: {error}"))).sum()
    };
    let topic = ["--topic", "quickstart-events"];
    assert_eq!(reset(&[&topic[..], &["--to-earliest", "--dry-run"]].concat()), 0);
    assert_eq!(progress(tools).lag, 0, "a dry run changes nothing");
    assert_eq!(reset(&["--all-topics", "--to-earliest", "--execute"]), 0);
    assert_eq!(progress(tools).lag, LINES as i64);
    // No partition has so many records, so each stands at its end.
    assert_eq!(reset(&[&topic[..], &["--shift-by", "100000", "--execute"]].concat()), LINES as i64);
    let before = ["--to-datetime", "2024-01-01T00:00:00.000", "--execute"];
    assert_eq!(reset(&[&topic[..], &before].concat()), 0, "everything was written later");
    let after = ["--by-duration", "PT0S", "--execute"];
    assert_eq!(reset(&[&topic[..], &after].concat()), LINES as i64, "nothing was written since");
    assert_eq!(reset(&[&topic[..], &["--to-offset", "0", "--execute"]].concat()), 0);
    let mut read = tools.consume("quickstart-events", lines.len(), &["--group", "readers"]);
    read.sort();
    assert_eq!(read, lines);
}

/// While a member is there, its group cannot be reset or deleted, and the tools show it.
fn a_member_guards_its_group(tools: &Tools) {
    let mut member = tools.start_consumer("quickstart-events", &["--group", "readers"]);
    // It starts at the end, and what it prints shows that it has its partitions.
    let mut wait = Wait::begin();
    let described = loop {
        wait.goes_on(|| "a console consumer to have its partitions".to_owned());
        let described = rows(&tools.run(GROUPS, &["--describe", "--group", "readers", "--members"]), "GROUP");
        if described.iter().any(|row| row.last().is_some_and(|partitions| partitions == "3")) {
            break described;
        }
        assert_eq!(member.next(Duration::ZERO), Output::Nothing);
    };
    assert_eq!(described.len(), 1, "{described:?}");
    assert_eq!(described[0][2..4], ["/127.0.0.1", "console-consumer"], "{described:?}");
    tools.produce("quickstart-events", ["one more"]);
    member.wait_for("one more");
    let state = rows(&tools.run(GROUPS, &["--describe", "--group", "readers", "--state"]), "GROUP");
    assert_eq!(state[0][3..], ["range", "Stable", "1"], "{state:?}");
    for (arguments, reason) in [
        (
            &["--reset-offsets", "--topic", "quickstart-events", "--to-earliest", "--execute"][..],
            "Assignments can only be reset if the group 'readers' is inactive, but the current state is Stable.",
        ),
        (&["--delete"], "GroupNotEmptyException: The group is not empty."),
        (
            &["--delete-offsets", "--topic", "quickstart-events"],
            "GroupSubscribedToTopicException: Deleting offsets of a topic is forbidden",
        ),
    ] {
        let said = tools.said(GROUPS, &[&["--group", "readers"], arguments].concat());
        assert!(said.contains(reason), "kafka-consumer-groups {arguments:?} said\n{said}");
    }
    member.terminate();
    // It has left and committed on its way out.
    assert_eq!(progress(tools), Progress { current: LINES as i64 + 1, end: LINES as i64 + 1, lag: 0 });
    let states = rows(&tools.run(GROUPS, &["--list", "--state"]), "GROUP");
    assert!(states.iter().any(|row| row == &["readers", "Empty"]), "{states:?}");
    let deleted = tools.run(GROUPS, &["--group", "readers", "--delete-offsets", "--topic", "quickstart-events"]);
    let deleted = rows(&deleted, "TOPIC");
    assert_eq!(deleted.iter().filter(|row| row.last().is_some_and(|status| status == "Successful")).count(), 3);
    assert_eq!(progress(tools), Progress { current: 0, end: 0, lag: 0 }, "a group without offsets has no rows");
}

/// Console consumers without `--group` make groups of their own, which are listed as well.
fn has_group(tools: &Tools) -> bool {
    tools.run(GROUPS, &["--list"]).contains(&"readers".to_owned())
}

/// Sums over all partitions that `readers` has committed.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    current: i64,
    end: i64,
    lag: i64,
}

fn progress(tools: &Tools) -> Progress {
    let rows = rows(&tools.run(GROUPS, &["--describe", "--group", "readers"]), "GROUP");
    // A partition of which nothing was read shows a dash.
    let sum = |column: usize| rows.iter().map(|row| row[column].parse::<i64>().unwrap_or(0)).sum();
    Progress { current: sum(3), end: sum(4), lag: sum(5) }
}
