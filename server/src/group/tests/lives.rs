//! Lives of groups by seed: members come, go, fall silent, start again and repeat themselves, and the coordinator starts
//! again in between.
//!
//! What must hold: nobody is told twice; in one generation no partition is given to two members; generations rise;
//! committed offsets stay; and when everybody behaves for a while, all that live are members of one stable group.

use std::collections::{BTreeMap, BTreeSet};

use wire::error::ErrorCode;

use super::world::World;
use crate::group::answers::Answer;
use crate::state_machine::Ticket;

const GROUP: &str = "group";
const PARTITIONS: u8 = 7;
const CLIENTS: usize = 6;

/// What a client believes.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Not there.
    Gone,
    /// To join, with an id or without.
    Out,
    Joining(Ticket),
    Joined,
    Syncing(Ticket),
    Member,
}

#[derive(Debug)]
struct Client {
    instance: Option<String>,
    version: i16,
    state: State,
    id: String,
    generation: i32,
    /// For the leader: the members.
    members: Vec<String>,
}

struct Life {
    world: World,
    clients: Vec<Client>,
    /// By generation: which partitions were given to whom.
    given: BTreeMap<i32, BTreeMap<u8, String>>,
    /// The newest offset whose commit was acknowledged.
    committed: i64,
    random: u64,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut life = Life {
            world: World::new(),
            clients: Vec::new(),
            given: BTreeMap::new(),
            committed: -1,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        };
        for number in 0..CLIENTS {
            let instance = (life.below(3) == 0).then(|| format!("static-{number}"));
            let version = [0, 3, 4, 5, 9][life.below(5)];
            let instance = instance.filter(|_| version >= 5);
            life.clients.push(Client {
                instance,
                version,
                state: State::Out,
                id: String::new(),
                generation: -1,
                members: Vec::new(),
            });
        }
        life
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % bound
    }

    /// One thing happens.
    fn step(&mut self) {
        let number = self.below(CLIENTS);
        match self.below(20) {
            0 => self.leave(number),
            1 => self.vanish(number),
            2 => self.clients[number].state = State::Out,
            3 => {
                let ms = [1, 500, 3_000, 10_000, 60_000, 310_000][self.below(6)];
                self.pass_ms(ms);
            }
            4 => self.restart(),
            5 => self.repeat_join(number),
            6 | 7 => self.commit(number),
            _ => self.go_on(number),
        }
        self.hear();
    }

    /// A client does the next thing that a good client does.
    fn go_on(&mut self, number: usize) {
        let client = &self.clients[number];
        match client.state.clone() {
            State::Gone => self.clients[number].state = State::Out,
            State::Out => self.join(number),
            State::Joined => {
                let given: Vec<(String, Vec<u8>)> = (client.members.iter().enumerate())
                    .map(|(at, id)| {
                        let count = client.members.len();
                        (id.clone(), (0..PARTITIONS).filter(|it| usize::from(*it) % count == at).collect())
                    })
                    .collect();
                let given: Vec<(&str, &[u8])> = given.iter().map(|(id, it)| (id.as_str(), it.as_slice())).collect();
                let (id, generation) = (client.id.clone(), client.generation);
                let ticket = self.world.sync(GROUP, &id, generation, &given);
                self.clients[number].state = State::Syncing(ticket);
            }
            State::Member => {
                let (id, generation) = (client.id.clone(), client.generation);
                let outcome = match client.instance.clone() {
                    Some(instance) => self.world.heartbeat_static(GROUP, &id, &instance, generation),
                    None => self.world.heartbeat(GROUP, &id, generation),
                };
                match outcome {
                    ErrorCode::None => {}
                    ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                        self.clients[number].state = State::Out;
                    }
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(number),
                    other => panic!("a heartbeat is answered {other}"),
                }
            }
            State::Joining(_) | State::Syncing(_) => self.pass_ms(10),
        }
    }

    fn pass_ms(&mut self, ms: i64) {
        self.world.pass_ms(ms);
        if self.world.describe(GROUP).state == "Dead" {
            // Nobody was there for so long that the group has gone. The next one begins anew.
            self.committed = -1;
            self.given.clear();
        }
    }

    fn join(&mut self, number: usize) {
        let client = &self.clients[number];
        let (id, instance, version) = (client.id.clone(), client.instance.clone(), client.version);
        let ticket = self.world.join(GROUP, &id, instance.as_deref(), version);
        self.clients[number].state = State::Joining(ticket);
    }

    /// A client sends its request once more, before it has the answer.
    fn repeat_join(&mut self, number: usize) {
        if matches!(self.clients[number].state, State::Joining(_)) {
            self.join(number);
        }
    }

    fn leave(&mut self, number: usize) {
        let id = self.clients[number].id.clone();
        if !id.is_empty() {
            self.world.leave(GROUP, &id, None);
        }
        self.forget(number);
        self.clients[number].state = State::Gone;
    }

    /// A client dies. A static one comes back under its name.
    fn vanish(&mut self, number: usize) {
        self.forget(number);
        self.clients[number].state = State::Gone;
    }

    fn forget(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.id.clear();
        client.generation = -1;
        client.state = State::Out;
    }

    fn commit(&mut self, number: usize) {
        let client = &self.clients[number];
        if client.state == State::Member {
            let (id, generation) = (client.id.clone(), client.generation);
            let offset = self.committed + 1;
            if self.world.commit(GROUP, &id, generation, offset, "") == Ok(ErrorCode::None) {
                self.committed = offset;
            }
        }
    }

    /// The coordinator starts again. Whoever waits asks anew, as clients do.
    fn restart(&mut self) {
        self.world.restart();
        for client in &mut self.clients {
            match client.state {
                State::Joining(_) => client.state = State::Out,
                State::Syncing(_) => client.state = State::Joined,
                _ => {}
            }
        }
        if self.committed >= 0 {
            assert_eq!(self.world.offset(GROUP), self.committed, "a committed offset is lost");
        }
    }

    /// Clients take their answers.
    fn hear(&mut self) {
        for number in 0..CLIENTS {
            match self.clients[number].state {
                State::Joining(ticket) if self.world.is_answered(ticket) => {
                    let Answer::Join(answer) = self.world.answer(ticket) else { panic!() };
                    match answer.error {
                        ErrorCode::None => {
                            let client = &mut self.clients[number];
                            client.id = answer.member_id;
                            client.generation = answer.generation;
                            client.members = answer.members.into_iter().map(|member| member.member_id).collect();
                            client.state = State::Joined;
                        }
                        ErrorCode::MemberIdRequired => {
                            self.clients[number].id = answer.member_id;
                            self.clients[number].state = State::Out;
                        }
                        ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(number),
                        ErrorCode::RebalanceInProgress => self.clients[number].state = State::Out,
                        other => panic!("a join is answered {other}"),
                    }
                }
                State::Syncing(ticket) if self.world.is_answered(ticket) => {
                    let Answer::Sync(answer) = self.world.answer(ticket) else { panic!() };
                    match answer.error {
                        ErrorCode::None => {
                            let client = &mut self.clients[number];
                            client.state = State::Member;
                            let owners = self.given.entry(client.generation).or_default();
                            for partition in answer.assignment.iter() {
                                // A static member that starts again is another one of the same name.
                                let name = client.instance.clone().unwrap_or_else(|| client.id.clone());
                                let owner = owners.entry(*partition).or_insert_with(|| name.clone());
                                assert_eq!(*owner, name, "{partition} is given to two in {}", client.generation);
                            }
                        }
                        ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                            self.clients[number].state = State::Out;
                        }
                        ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.forget(number),
                        other => panic!("a sync is answered {other}"),
                    }
                }
                _ => {}
            }
        }
    }

    /// Everybody behaves, with a heartbeat every second, until the group is stable.
    fn settle(&mut self) {
        let began_ms = self.world.now_ms();
        let mut quiet = 0;
        while quiet < 30 {
            for number in 0..CLIENTS {
                self.go_on(number);
                self.hear();
            }
            self.pass_ms(1_000);
            self.hear();
            let members = self.clients.iter().filter(|client| client.state == State::Member).count();
            quiet = if members == CLIENTS { quiet + 1 } else { 0 };
            let waited_ms = self.world.now_ms() - began_ms;
            assert!(waited_ms < 2_000_000, "the group is stuck: {:?}", self.clients);
        }
        assert_eq!(self.world.open(), 0, "somebody waits for ever");
        let generations: BTreeSet<i32> = self.clients.iter().map(|client| client.generation).collect();
        assert_eq!(generations.len(), 1, "{:?}", self.clients);
        let description = self.world.describe(GROUP);
        assert_eq!((description.state, description.members.len()), ("Stable", CLIENTS));
        let told: usize = description.members.iter().map(|member| member.assignment.len()).sum();
        assert_eq!(told, usize::from(PARTITIONS), "each partition has an owner");
        if self.committed >= 0 {
            assert_eq!(self.world.offset(GROUP), self.committed);
        }
    }
}

fn live(seed: u64) {
    let mut life = Life::new(seed);
    for _ in 0..3 {
        for _ in 0..60 {
            life.step();
        }
        life.settle();
    }
}

#[test]
fn lives_by_seed() {
    for seed in 1..=2_000 {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}
