//! All members of a run, on one thread: one epoll, one queue of what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use wire::Uuid;

use crate::client::{Client, ClientError, connect};
use crate::coordinators::CoordinatorOf;
use crate::crew::Observers;
use crate::error::RunError;
use crate::group::classic::Classic;
use crate::group::consumer::Consumer;
use crate::group::ledger::Ledger;
use crate::group::member::{Counts, Member, NEVER, Protocol, Surroundings};
use crate::group::{Context, GroupFigures, Traffic};
use crate::histogram::{Latencies, LatencySummary};
use crate::link::{Link, Lost};
use crate::plan::{GroupLoad, GroupProtocol, Plan};
use crate::progress::Progress;
use crate::random::{Random, unique};
use crate::tally::Tally;

/// Events taken from one wait.
const EVENTS: usize = 1024;
/// How often flags, silence and progress are looked at.
const HOUSEKEEPING_NS: u64 = 50_000_000;
/// How long a group may take to settle: members of an earlier run that were killed leave after Kafka's session timeout
/// of 45 s.
const SETTLES_WITHIN_NS: u64 = 120_000_000_000;
/// An answer of a member is seldom longer.
const ANSWER_BYTES: usize = 1 << 10;

struct Group {
    id: String,
    ledger: Ledger,
    /// Places of its members, in order of their numbers.
    members: std::ops::Range<usize>,
}

/// The members and groups of a run.
pub(crate) struct Driver<'a> {
    context: Context,
    load: &'a GroupLoad,
    progress: &'a Progress,
    stop: &'a Arc<AtomicBool>,
    members: Vec<Option<Member>>,
    groups: Vec<Group>,
    counts: Counts,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    /// When members have something to send. What a member changed its mind about is passed over.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    random: Random,
    lost: Vec<Lost>,
    formed: Latencies,
    rebalanced: Latencies,
    rebalanced_after_last: Latencies,
    rebalances_before: u64,
    measured_rebalances: u64,
    next_housekeeping_ns: u64,
}

impl<'a> Driver<'a> {
    /// Connects all members to the coordinators of their groups.
    pub(crate) fn new(
        context: Context,
        plan: &Plan,
        load: &'a GroupLoad,
        bootstrap: &mut Client,
        observers: &Observers<'a>,
    ) -> Result<Driver<'a>, RunError> {
        let setup = |source: nix::Error| RunError::Client(ClientError::Wait(source.into()));
        let mut ids = Random::seeded(unique());
        let (mut members, mut groups) = (Vec::new(), Vec::new());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(setup)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        for group in 0..load.groups {
            let id = format!("{}-{group}", load.group_id);
            let coordinator = bootstrap.coordinator(CoordinatorOf::Group, &id)?;
            let first = members.len();
            for number in 0..load.members as usize {
                let stream = connect(&coordinator, plan.target.answer_timeout)?;
                let socket_error = |source| ClientError::Connect { address: coordinator.clone(), source };
                let link = Link::new(stream, ANSWER_BYTES).map_err(socket_error)?;
                let protocol = match load.protocol {
                    GroupProtocol::Classic => Protocol::Classic(Classic::default()),
                    GroupProtocol::Consumer => {
                        let mut id = Uuid::ZERO;
                        ids.fill(&mut id.0);
                        Protocol::Consumer(Consumer::new(id))
                    }
                };
                epoll.add(link.stream().as_fd(), EpollEvent::new(interest, members.len() as u64)).map_err(setup)?;
                members.push(Some(Member::new(link, number, protocol)));
            }
            let ledger = Ledger::new(load.protocol, load.members as usize, context.partitions);
            groups.push(Group { id, ledger, members: first..members.len() });
        }
        Ok(Driver {
            context,
            load,
            progress: observers.progress,
            stop: observers.stop,
            members,
            groups,
            counts: Counts::default(),
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
            due: BinaryHeap::new(),
            random: Random::seeded(plan.generator.seed),
            lost: Vec::new(),
            formed: Latencies::new(),
            rebalanced: Latencies::new(),
            rebalanced_after_last: Latencies::new(),
            rebalances_before: 0,
            measured_rebalances: 0,
            next_housekeeping_ns: 0,
        })
    }

    /// Lets all members join that do not come late, and waits until each group has settled.
    pub(crate) fn form(&mut self) -> Result<(), RunError> {
        self.progress.say("members join");
        let first = (self.load.members - self.load.late_members) as usize;
        for number in 0..first {
            for group in 0..self.groups.len() {
                self.join(group, number);
            }
        }
        self.settle()?;
        for group in &self.groups {
            if let Some(after_ns) = group.ledger.settled_after_ns() {
                self.formed.record(after_ns, 1);
            }
        }
        Ok(())
    }

    /// Lets the late members of each group join one after the other, each at a moment anywhere between two heartbeats of
    /// the others, and waits until its group has settled again.
    pub(crate) fn let_late_ones_join(&mut self) -> Result<(), RunError> {
        let first = (self.load.members - self.load.late_members) as usize;
        for number in first..self.load.members as usize {
            self.progress.say(&format!("member {} of each group joins", number + 1));
            let mut moments: Vec<(u64, usize)> = (0..self.groups.len())
                .map(|group| {
                    let interval_ns = self.heartbeat_ns(group).max(1);
                    (self.now() + self.random.below(interval_ns), group)
                })
                .collect();
            moments.sort_unstable();
            for (at_ns, group) in moments {
                self.drive(at_ns);
                self.join(group, number);
            }
            self.settle()?;
            for group in &self.groups {
                let ledger = &group.ledger;
                let (Some(after_ns), Some(after_last_ns)) = (ledger.settled_after_ns(), ledger.settled_after_last_ns())
                else {
                    continue;
                };
                self.rebalanced.record(after_ns, 1);
                if self.load.protocol == GroupProtocol::Classic {
                    self.rebalanced_after_last.record(after_last_ns, 1);
                }
            }
        }
        Ok(())
    }

    /// Spreads the heartbeats and commits of all members over their intervals.
    pub(crate) fn spread(&mut self) {
        let now = self.now();
        for place in 0..self.members.len() {
            let Some(member) = &mut self.members[place] else { continue };
            member.spread(&mut self.random, &self.context, now);
            self.note_due(place);
        }
    }

    /// Begins or ends the measurement.
    pub(crate) fn measure(&mut self, on: bool) {
        self.counts.measuring = on;
        let rebalances = self.groups.iter().map(|group| group.ledger.rebalances()).sum();
        if on {
            self.rebalances_before = rebalances;
        } else {
            self.measured_rebalances = rebalances - self.rebalances_before;
        }
    }

    /// Carries the members until `until_ns` of the clock, or until the run is to end.
    pub(crate) fn drive(&mut self, until_ns: u64) {
        while self.now() < until_ns && !self.is_told() {
            self.turn(until_ns);
        }
    }

    /// Waits for the last answers, then lets all members leave.
    pub(crate) fn end(&mut self) {
        self.members.iter_mut().flatten().for_each(Member::rest);
        self.quieten();
        for group in 0..self.groups.len() {
            for place in self.groups[group].members.clone() {
                self.with(place, Member::leave);
            }
        }
        self.quieten();
    }

    /// What was found, in a measurement of this length.
    pub(crate) fn figures(&self, measured_ns: u64) -> GroupFigures {
        let ledgers = || self.groups.iter().map(|group| &group.ledger);
        let traffic = |latencies: &Latencies| {
            let latency_us = latencies.summary();
            let answered = latency_us.map_or(0, |summary: LatencySummary| summary.count);
            let answered_per_s = if measured_ns > 0 { answered as f64 / (measured_ns as f64 / 1e9) } else { 0.0 };
            Traffic { answered, answered_per_s, latency_us }
        };
        GroupFigures {
            formed_us: self.formed.summary(),
            rebalance_us: self.rebalanced.summary(),
            rebalance_after_last_us: self.rebalanced_after_last.summary(),
            rebalances: ledgers().map(Ledger::rebalances).sum(),
            measured_rebalances: self.measured_rebalances,
            overlaps: ledgers().map(Ledger::overlaps).sum(),
            not_owned_once: ledgers().map(|ledger| ledger.not_owned_once() as u64).sum(),
            heartbeats: traffic(&self.counts.heartbeats),
            commits: traffic(&self.counts.commits),
            offsets_per_commit: self.context.partitions.div_ceil(self.load.members as usize),
            heartbeat_interval_s: self.heartbeat_ns(0) as f64 / 1e9,
        }
    }

    /// The errors.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.counts.tally)
    }

    /// Why connections were given up.
    pub(crate) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// Carries the members until all groups have settled.
    fn settle(&mut self) -> Result<(), RunError> {
        let deadline = self.now() + SETTLES_WITHIN_NS;
        while !self.is_told() {
            let settled = self.groups.iter().filter(|group| group.ledger.settled_ns().is_some()).count();
            if settled == self.groups.len() {
                break;
            }
            let now = self.now();
            if now > deadline || self.members.iter().all(Option::is_none) {
                let why = self.lost.first().map(ToString::to_string);
                return Err(RunError::NotSettled { settled, groups: self.groups.len(), why });
            }
            self.turn(now + HOUSEKEEPING_NS);
        }
        Ok(())
    }

    /// Waits until every request is answered, for as long as an answer may take.
    fn quieten(&mut self) {
        let deadline = self.now() + self.context.answer_timeout_ns;
        while self.now() < deadline && !self.members.iter().flatten().all(Member::is_quiet) {
            self.turn(self.now() + HOUSEKEEPING_NS);
        }
    }

    fn join(&mut self, group: usize, number: usize) {
        let place = self.groups[group].members.start + number;
        self.with(place, Member::join);
        // Answers are read in between, so that the first ones do not wait until the last one has asked.
        self.turn(0);
    }

    /// One round: what is due, then whatever the sockets bring before `until_ns`.
    fn turn(&mut self, until_ns: u64) {
        let now = self.now();
        while let Some(Reverse((due_ns, place))) = self.due.peek().copied()
            && due_ns <= now
        {
            self.due.pop();
            if self.members[place].as_ref().is_some_and(|member| member.due_ns() == due_ns) {
                self.with(place, Member::tick);
            }
        }
        if now >= self.next_housekeeping_ns {
            self.next_housekeeping_ns = now + HOUSEKEEPING_NS;
            self.look_for_silence(now);
        }
        let next_ns = self.due.peek().map_or(NEVER, |Reverse((due_ns, _))| *due_ns);
        let until_ns = until_ns.min(next_ns).min(self.next_housekeeping_ns);
        let wait_ms = i32::try_from(until_ns.saturating_sub(now).div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let mut events = std::mem::take(&mut self.events);
        // An error is an interruption by a signal: the next turn sees what it meant.
        let timeout = EpollTimeout::try_from(wait_ms).unwrap_or(EpollTimeout::ZERO);
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
        for event in &events[..count] {
            let readable = !(event.events() & !EpollFlags::EPOLLOUT).is_empty();
            self.with(event.data() as usize, |member, with| member.ready(readable, with));
        }
        self.events = events;
    }

    /// Lets a member act; one that fails is gone.
    fn with(&mut self, place: usize, act: impl FnOnce(&mut Member, &mut Surroundings<'_>) -> Result<(), Lost>) {
        let now = self.now();
        let Some(member) = &mut self.members[place] else { return };
        let group = &mut self.groups[place / self.load.members as usize];
        let mut with = Surroundings {
            context: &self.context,
            group_id: &group.id,
            ledger: &mut group.ledger,
            counts: &mut self.counts,
            now,
        };
        match act(member, &mut with) {
            Ok(()) => self.note_due(place),
            Err(reason) => self.give_up(place, reason),
        }
    }

    fn give_up(&mut self, place: usize, reason: Lost) {
        self.members[place] = None;
        let group = &mut self.groups[place / self.load.members as usize];
        group.ledger.drops(place - group.members.start);
        self.lost.push(reason);
    }

    fn note_due(&mut self, place: usize) {
        let due_ns = self.members[place].as_ref().map_or(NEVER, Member::due_ns);
        if due_ns != NEVER {
            self.due.push(Reverse((due_ns, place)));
        }
    }

    fn look_for_silence(&mut self, now: u64) {
        let timeout_ns = self.context.answer_timeout_ns;
        for place in 0..self.members.len() {
            let since = self.members[place].as_ref().and_then(Member::waiting_since);
            if since.is_some_and(|since| since.saturating_add(timeout_ns) < now) {
                self.give_up(place, Lost::Silent(timeout_ns / 1_000_000_000));
            }
        }
    }

    fn heartbeat_ns(&self, group: usize) -> u64 {
        let mut members = self.members[self.groups[group].members.clone()].iter().flatten();
        members.find_map(|member| Some(member.heartbeat_ns(&self.context)).filter(|ns| *ns > 0)).unwrap_or_default()
    }

    fn is_told(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.context.clock.now_ns()
    }
}
