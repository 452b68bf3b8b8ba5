//! Consumer groups seen from outside: members are programs in any language, and what they say is held against what a group
//! promises.
//!
//! A member is a program that ends with the arguments `BOOTSTRAP TOPIC GROUP`. It begins at the earliest offset where its
//! group has committed none, prints `assigned P,P,…` (`assigned -` for none) whenever its partitions have changed and
//! `record PARTITION OFFSET KEY VALUE` for each record (`-` is no key), and commits what it has printed. When its input
//! ends, it commits, leaves the group and ends with success. One that is to be killed prints `committed` whenever all that it
//! has printed is committed. One that is to be refused prints `refused WHY` as its client names it, and ends without success.
//! One that is to stall takes a line on its input as the wish that it does, prints `stalled` as soon as there are records that
//! it has printed and not committed, and goes on when the next line comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::broker::Broker;
use harness::process::{Output, Running};
use harness::raw::{self, Connection};
use harness::wait::Wait;
use wire::error::ErrorCode;

/// How long one look at a member waits for its next line.
const POLL: Duration = Duration::from_millis(5);

/// A group under test.
pub(crate) struct Group {
    name: String,
    topic: String,
    bootstrap: String,
    partitions: u32,
    dir: PathBuf,
    members: BTreeMap<usize, Member>,
    started: usize,
    killed: BTreeSet<usize>,
    /// Members that are to be refused, with why they were.
    refused: BTreeMap<usize, Option<String>>,
    /// In the order in which they were seen here, which is the order of each member.
    reads: Vec<Read>,
    /// How many of all reads there were when a member has last said that its own are committed.
    committed: BTreeMap<usize, usize>,
    /// Lines that tell of something else than records and assignments.
    remarks: Vec<String>,
}

/// A record that a member has handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// Number of the member in order of starts.
    pub(crate) member: usize,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: String,
}

struct Member {
    process: Running,
    /// How many of its lines were taken already.
    taken: usize,
    assigned: BTreeSet<u32>,
    /// What it was assigned, each time that it said so.
    assignments: Vec<BTreeSet<u32>>,
}

impl Group {
    /// A group without members that reads `topic`, which has so many `partitions`.
    pub(crate) fn new(broker: &Broker, name: &str, topic: &str, partitions: u32) -> Group {
        Group {
            name: name.to_owned(),
            topic: topic.to_owned(),
            bootstrap: broker.bootstrap(),
            partitions,
            dir: broker.dir().to_owned(),
            members: BTreeMap::new(),
            started: 0,
            killed: BTreeSet::new(),
            refused: BTreeMap::new(),
            reads: Vec::new(),
            committed: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    /// Starts a member and returns its number.
    pub(crate) fn start(&mut self, mut program: Command) -> usize {
        let number = self.started;
        self.started += 1;
        program.args([&self.bootstrap, &self.topic, &self.name]);
        let log = self.dir.join(format!("{}-{number}.log", self.name));
        let process = Running::start(&mut program, &log);
        let member = Member { process, taken: 0, assigned: BTreeSet::new(), assignments: Vec::new() };
        self.members.insert(number, member);
        number
    }

    /// Follows the members until each partition is at exactly one of them and each has at least one.
    pub(crate) fn wait_until_shared(&mut self) {
        self.follow_until("each partition to be at one of them", Group::is_shared);
    }

    /// As [`Group::wait_until_shared`], with something to do again and again as long as it waits.
    pub(crate) fn wait_until_shared_while(&mut self, mut meanwhile: impl FnMut()) {
        self.follow_until("each partition to be at one of them", |group| {
            let shared = group.is_shared();
            if !shared {
                meanwhile();
            }
            shared
        });
    }

    /// Follows the members until so many different records were handled.
    pub(crate) fn wait_for_records(&mut self, count: usize) {
        self.follow_until(&format!("{count} records"), |group| distinct(&group.reads) >= count);
    }

    /// Follows the members until so many different records were handled by members that have committed them or will.
    pub(crate) fn wait_for_committed(&mut self, count: usize) {
        self.follow_until(&format!("{count} committed records"), |group| {
            let reads = group.reads.iter().enumerate();
            distinct(reads.filter(|(number, read)| group.is_committed(*number, read)).map(|(_, read)| read)) >= count
        });
    }

    /// Follows the members until one of them, which kills itself, has ended.
    pub(crate) fn wait_for_crash(&mut self, member: usize) {
        self.killed.insert(member);
        self.follow_until(&format!("member {member} to kill itself"), |group| !group.members.contains_key(&member));
    }

    /// Follows the members until one of them has so many partitions.
    pub(crate) fn wait_for_partitions(&mut self, member: usize, count: usize) {
        let what = format!("member {member} to have {count} partitions");
        self.follow_until(&what, |group| group.assigned(member).len() == count);
    }

    /// Follows the members until one of them has been refused and has ended, and returns why.
    pub(crate) fn wait_for_refusal(&mut self, member: usize) -> String {
        self.refused.insert(member, None);
        self.follow_until(&format!("member {member} to be refused"), |group| !group.members.contains_key(&member));
        let why = self.refused[&member].clone();
        why.unwrap_or_else(|| panic!("{}: member {member} ended and was not refused", self.name))
    }

    /// Has a member stall, and has `meanwhile` see to it that there are records for it.
    pub(crate) fn stall(&mut self, member: usize, meanwhile: impl FnOnce()) {
        self.say(member);
        meanwhile();
        self.follow_until(&format!("member {member} to stall"), |group| group.said("stalled").next().is_some());
    }

    /// Has a member go on that has stalled.
    pub(crate) fn resume(&mut self, member: usize) {
        self.say(member);
    }

    /// What was handled, each member's records in its order.
    pub(crate) fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// The partitions that a member has.
    pub(crate) fn assigned(&self, member: usize) -> &BTreeSet<u32> {
        &self.members[&member].assigned
    }

    /// What a member was assigned, each time that it said so.
    pub(crate) fn assignments(&self, member: usize) -> &[BTreeSet<u32>] {
        &self.members[&member].assignments
    }

    /// What members printed in lines that begin with `prefix`, behind it.
    pub(crate) fn said<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.remarks.iter().filter_map(move |line| line.strip_prefix(prefix))
    }

    /// Ends a member in good order: it commits and leaves.
    pub(crate) fn stop(&mut self, member: usize) {
        let stopped = self.members.remove(&member).expect("the member runs");
        let lines = stopped.process.finish();
        self.take_rest(member, &lines[stopped.taken..]);
    }

    /// Ends all members in good order.
    pub(crate) fn stop_all(&mut self) {
        let members: Vec<usize> = self.members.keys().copied().collect();
        for member in members {
            self.stop(member);
        }
    }

    /// Ends a member by SIGKILL, as soon as it has committed something.
    pub(crate) fn kill(&mut self, member: usize) {
        let what = format!("member {member} to commit something");
        self.follow_until(&what, |group| group.committed.contains_key(&member));
        let killed = self.members.remove(&member).expect("the member runs");
        self.killed.insert(member);
        let lines = killed.process.kill();
        self.take_rest(member, &lines[killed.taken..]);
    }

    /// Checks that everything from offset 0 to the `ends` of the partitions was handled, that each member met each
    /// partition in order, and that nothing was handled twice but what a killed or refused member had not committed.
    pub(crate) fn assert_complete(&self, ends: &[i64]) {
        let name = &self.name;
        for member in &self.killed {
            assert!(self.committed.contains_key(member), "{name}: member {member} was killed before it had committed");
        }
        let mut handled: BTreeMap<(u32, i64), Vec<(usize, bool)>> = BTreeMap::new();
        let mut next: BTreeMap<(usize, u32), i64> = BTreeMap::new();
        for (number, read) in self.reads.iter().enumerate() {
            let by = (read.member, self.is_committed(number, read));
            handled.entry((read.partition, read.offset)).or_default().push(by);
            // A member that gets a partition back goes on where others have committed.
            let next = next.entry((read.member, read.partition)).or_insert(read.offset);
            assert!(read.offset >= *next, "{name}: {read:?} after offset {}", *next - 1);
            *next = read.offset + 1;
        }
        for (partition, end) in ends.iter().enumerate() {
            for offset in 0..*end {
                let by = handled.remove(&(partition as u32, offset)).unwrap_or_default();
                assert!(!by.is_empty(), "{name}: partition {partition}, offset {offset} was lost");
                let committed = by.iter().filter(|(_, is_committed)| *is_committed).count();
                assert!(
                    committed <= 1,
                    "{name}: partition {partition}, offset {offset} was handled by {by:?} (member, whether committed)"
                );
            }
        }
        assert!(handled.is_empty(), "{name}: records that nobody wrote: {handled:?}");
    }

    fn is_shared(&self) -> bool {
        let mut owners = vec![0; self.partitions as usize];
        for partition in self.members.values().flat_map(|member| &member.assigned) {
            owners[*partition as usize] += 1;
        }
        owners.iter().all(|owners| *owners == 1) && self.members.values().all(|member| !member.assigned.is_empty())
    }

    /// Whether the read of this number is committed, or will be when its member ends.
    fn is_committed(&self, number: usize, read: &Read) -> bool {
        let ends_well = !self.killed.contains(&read.member) && !self.refused.contains_key(&read.member);
        ends_well || self.committed.get(&read.member).is_some_and(|at| number < *at)
    }

    /// Follows the members until they have done `what`.
    ///
    /// # Panics
    /// When that takes too long, also where they go on doing something else.
    fn follow_until(&mut self, what: &str, mut reached: impl FnMut(&Group) -> bool) {
        let mut wait = Wait::begin();
        while !reached(self) {
            wait.goes_on(|| format!("{what} in the group {}, of which is known: {}", self.name, self.shown()));
            let numbers: Vec<usize> = self.members.keys().copied().collect();
            for number in numbers {
                self.follow(number);
            }
        }
    }

    /// Takes what a member has printed by now.
    fn follow(&mut self, number: usize) {
        while let Some(member) = self.members.get_mut(&number) {
            match member.process.next(POLL) {
                Output::Nothing => return,
                Output::Line(line) => {
                    member.taken += 1;
                    if let Some(partitions) = line.strip_prefix("assigned ") {
                        member.assigned = partitions.split(',').flat_map(str::parse).collect();
                        member.assignments.push(member.assigned.clone());
                    }
                    self.take(number, &line);
                }
                Output::End => {
                    let ended = self.members.remove(&number).expect("it was there a moment ago");
                    if !self.killed.contains(&number) && !self.refused.contains_key(&number) {
                        let lines = ended.process.finish();
                        panic!("{}: member {number} left by itself, after {:?}", self.name, lines.last());
                    }
                }
            }
        }
    }

    fn take(&mut self, member: usize, line: &str) {
        match parse(member, line) {
            Some(read) => self.reads.push(read),
            None if line == "committed" => drop(self.committed.insert(member, self.reads.len())),
            None => match (line.strip_prefix("refused "), self.refused.get_mut(&member)) {
                (Some(why), Some(refused)) => *refused = Some(why.to_owned()),
                _ => self.remarks.push(line.to_owned()),
            },
        }
    }

    /// What is known of the group, for one who waits in vain.
    fn shown(&self) -> String {
        let members = self.members.iter().map(|(number, member)| {
            let own = |reads: &[Read]| reads.iter().filter(|read| read.member == *number).count();
            let committed = self.committed.get(number).map_or(0, |at| own(&self.reads[..*at]));
            let read = own(&self.reads);
            format!("member {number} has {:?}, read {read} and committed {committed}; ", member.assigned)
        });
        format!("{}{} different records were read", members.collect::<String>(), distinct(&self.reads))
    }

    fn say(&mut self, member: usize) {
        self.members.get_mut(&member).expect("the member runs").process.write(b"\n");
    }

    fn take_rest(&mut self, member: usize, lines: &[String]) {
        for line in lines {
            self.take(member, line);
        }
    }
}

/// Writes records without keys to a partition, as soon as a broker that has just started leads it.
pub(crate) fn produce(broker: &Broker, topic: &str, partition: usize, values: &[Vec<u8>]) {
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    let mut wait = Wait::begin();
    loop {
        wait.goes_on(|| format!("a leader of partition {partition} of {topic}"));
        let produced = connection.produce(topic, partition as i32, &raw::batch(None, values)).expect("an answer");
        match ErrorCode::from_code(produced.error_code) {
            Some(ErrorCode::None) => return,
            Some(ErrorCode::NotLeaderOrFollower) => std::thread::sleep(POLL),
            error => panic!("{topic}, partition {partition}: {error:?}"),
        }
    }
}

/// The offsets behind the last records of a topic's partitions.
pub(crate) fn ends(broker: &Broker, topic: &str, partitions: u32) -> Vec<i64> {
    let mut connection = Connection::open(&broker.bootstrap()).expect("a connection");
    (0..partitions as i32).map(|partition| connection.end_offset(topic, partition).expect("an answer")).collect()
}

fn distinct<'a>(reads: impl IntoIterator<Item = &'a Read>) -> usize {
    reads.into_iter().map(|read| (read.partition, read.offset)).collect::<BTreeSet<_>>().len()
}

fn parse(member: usize, line: &str) -> Option<Read> {
    let words: Vec<&str> = line.strip_prefix("record ")?.splitn(4, ' ').collect();
    let [partition, offset, key, value] = words[..] else { panic!("member {member} printed {line:?}") };
    let number = |text: &str| text.parse().unwrap_or_else(|error| panic!("member {member} printed {line:?}: {error}"));
    let (partition, offset) = (number(partition) as u32, number(offset));
    Some(Read { member, partition, offset, key: key.to_owned(), value: value.to_owned() })
}
