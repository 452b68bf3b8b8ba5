//! A fleet of sensors: 200 devices whose messages each arrive in order, while consumers come and go.

use std::collections::BTreeMap;

use harness::broker::Broker;
use harness::process::Running;
use harness::raw::Connection;
use harness::{cache, suite};

use crate::group::{Group, Read, ends};
use crate::python;

const TOPIC: &str = "sensors";
const PARTITIONS: u32 = 6;
const DEVICES: usize = 200;
const MESSAGES: usize = 40;

#[test]
#[ignore = "needs confluent-kafka from the Python package index"]
fn scenario_sensor_fleet() {
    let _machine = cache::whole_machine();
    let broker = Broker::start(&suite!(), "scenario-sensors", &[("auto.create.topics.enable", "false")]);
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    assert_eq!(connection.create_topic(TOPIC, PARTITIONS as i32, &[]).expect("an answer"), 0);
    let member = || {
        let mut member = python("confluent-kafka", "member_confluent.py");
        member.arg("cooperative-sticky");
        member
    };

    let mut group = Group::new(&broker, "plant", TOPIC, PARTITIONS);
    let first = group.start(member());
    let second = group.start(member());
    group.wait_until_shared();
    let mut fleet = python("confluent-kafka", "sensors.py");
    fleet.args([&broker.bootstrap(), TOPIC, &DEVICES.to_string(), &MESSAGES.to_string()]);
    let mut fleet = Running::start(&mut fleet, &broker.dir().join("sensors.log"));
    fleet.wait_for("PAUSE 1");
    group.wait_for_records(DEVICES * MESSAGES / 8);
    // One joins and one dies in the middle of their work, and the fleet goes on.
    let third = group.start(member());
    fleet.write(b"\n");
    group.wait_until_shared();
    assert!(!group.assigned(third).is_empty());
    fleet.wait_for("PAUSE 2");
    let left_behind = group.assigned(first).clone();
    // Before the fleet goes on: it would be quick enough to read all that is left.
    group.kill(first);
    fleet.write(b"\n");
    let sent = sent(&fleet.finish());
    group.wait_for_records(DEVICES * MESSAGES);
    group.wait_until_shared();
    assert_eq!(group.assigned(second).len() + group.assigned(third).len(), PARTITIONS as usize);
    group.stop_all();
    let goes_on = |read: &Read| read.member != first && left_behind.contains(&read.partition);
    assert!(group.reads().iter().any(goes_on), "there was nothing left for others to do");

    group.assert_complete(&ends(&broker, TOPIC, PARTITIONS));
    let read = group.reads().iter().map(|read| ((read.partition, read.offset), (read.key.clone(), read.value.clone())));
    let read: BTreeMap<_, _> = read.collect();
    assert_eq!(read.len(), DEVICES * MESSAGES);
    assert!(read == sent, "each message is where its device was told that it is");
    // Offsets are in order at each member, so a device's messages are when each carries the number after the one before it.
    let mut devices: BTreeMap<&str, BTreeMap<i64, usize>> = BTreeMap::new();
    for read in group.reads() {
        devices.entry(&read.key).or_default().insert(read.offset, read.value.parse().expect("a number"));
    }
    assert_eq!(devices.len(), DEVICES);
    for (device, messages) in devices {
        let numbers: Vec<usize> = messages.into_values().collect();
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{device}");
    }
}

/// What the fleet was told of each message: by partition and offset, its key and its value.
fn sent(said: &[String]) -> BTreeMap<(u32, i64), (String, String)> {
    let message = |line: &str| {
        let [key, value, partition, offset] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        Some(((partition.parse().ok()?, offset.parse().ok()?), (key.to_owned(), value.to_owned())))
    };
    let lines = said.iter().filter_map(|line| line.strip_prefix("sent "));
    lines.map(|line| message(line).unwrap_or_else(|| panic!("the fleet printed {line:?}"))).collect()
}
