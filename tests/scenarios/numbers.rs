//! Numbers from a producer through a group of two consumers into MongoDB: stopped in the middle, by a crash and in good order,
//! and started again, it holds each number once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::broker::{Broker, free_port};
use harness::process::{Output, Running, run};
use harness::raw::Connection;
use harness::wait::Wait;
use harness::{cache, provision, suite};

use crate::group::{Group, ends};
use crate::python;

const TOPIC: &str = "numtest";
const PARTITIONS: u32 = 4;
const NUMBERS: usize = 1000;
/// Of the programs that produce, store and read.
const PACKAGES: &str = "mongo";
/// What a member takes at a time (`max_poll_records` in its program), so what it stores before it commits.
const POLLED: i64 = 20;

#[test]
#[ignore = "needs kafka-python and pymongo from the Python package index, and FerretDB from the Go module proxy"]
fn scenario_numbers_into_mongodb() {
    // Built for minutes where it is missing: other tests may have the machine meanwhile.
    let ferretdb = provision::go("scenarios/ferretdb", "ferretdb");
    provision::python(PACKAGES);
    let _machine = cache::whole_machine();
    let mut broker = Broker::start(&suite!(), "scenario-numbers", &[("auto.create.topics.enable", "false")]);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic(TOPIC, PARTITIONS as i32, &[]).expect("an answer"), 0);
    let database = Database::start(&broker, &ferretdb);
    let produce = |broker: &Broker, first: usize, last: usize| {
        let arguments = ["produce", &broker.bootstrap(), &first.to_string(), &last.to_string()];
        run(script().args(arguments), &broker.dir().join("produce.log"));
    };

    let mut group = Group::new(&broker, "my-group", TOPIC, PARTITIONS);
    let steady = group.start(database.storing(0));
    let crashing = group.start(database.storing(100));
    group.wait_until_shared();
    let left_behind = group.assigned(crashing).clone();
    produce(&broker, 1, NUMBERS / 2);
    group.wait_for_crash(crashing);
    // What it had not committed goes to the other one, which stops in good order.
    group.wait_for_records(NUMBERS / 2);
    group.stop(steady);
    assert_eq!(database.numbers(), (1..=NUMBERS / 2).collect::<Vec<_>>());
    broker.restart();
    produce(&broker, NUMBERS / 2 + 1, NUMBERS);

    group.start(database.storing(0));
    group.start(database.storing(0));
    group.wait_for_records(NUMBERS);
    group.stop_all();
    assert_eq!(database.numbers(), (1..=NUMBERS).collect::<Vec<_>>(), "each number once");
    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));

    // What the broker knew of each start: the crashed member had stored one poll more than it had committed, nobody else had.
    let mut resumed_behind = BTreeSet::new();
    let mut latest: BTreeMap<u32, i64> = BTreeMap::new();
    for line in group.said("resume ") {
        let numbers: Vec<i64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [partition, committed, stored] = numbers[..] else { panic!("resume {line}") };
        assert!(committed <= stored, "committed before it was stored: {line}");
        if committed < stored {
            assert!(stored - committed <= POLLED, "more than one poll was not committed: {line}");
            assert!(left_behind.contains(&(partition as u32)), "the crash has left {left_behind:?} behind: {line}");
            resumed_behind.insert(partition);
        }
        latest.insert(partition as u32, stored);
    }
    assert!(!resumed_behind.is_empty(), "the crash has left nothing behind");
    assert_eq!(latest.len(), PARTITIONS as usize);
}

/// What answers as MongoDB; ended when dropped.
struct Database {
    url: String,
    dir: PathBuf,
    _server: Running,
}

impl Database {
    fn start(broker: &Broker, program: &Path) -> Database {
        let dir = broker.dir().join("mongodb");
        std::fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let port = free_port();
        let mut server = Command::new(program);
        server.arg(port.to_string()).arg(&dir);
        let mut server = Running::start(&mut server, &dir.join("server.log"));
        let mut wait = Wait::begin();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            wait.goes_on(|| "FerretDB to listen".to_owned());
            assert_eq!(server.next(CONNECT_PAUSE), Output::Nothing, "FerretDB says what is wrong");
        }
        Database { url: format!("mongodb://127.0.0.1:{port}/"), dir, _server: server }
    }

    /// A member that stores what it reads, and dies after `crash_after` numbers where that is above 0.
    fn storing(&self, crash_after: usize) -> Command {
        let mut member = script();
        member.args(["store", &self.url, &crash_after.to_string()]);
        member
    }

    /// All numbers stored, sorted.
    fn numbers(&self) -> Vec<usize> {
        let lines = run(script().args(["read", &self.url]), &self.dir.join("read.log"));
        let number = |line: &String| line.split(' ').nth(2).and_then(|number| number.parse().ok());
        let mut numbers: Vec<usize> =
            lines.iter().map(|line| number(line).unwrap_or_else(|| panic!("the database holds {line:?}"))).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// How long to wait before the database is asked again whether it listens.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

fn script() -> Command {
    python(PACKAGES, "number_store.py")
}
