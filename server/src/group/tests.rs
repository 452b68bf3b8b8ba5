//! Groups in virtual time: what Kafka promises one by one, and thousands of lives by seed.

mod lives;
mod world;

use wire::error::ErrorCode;

use self::world::World;
use super::answers::{Answer, JoinAnswer};
use super::*;

const GROUP: &str = "group";

fn joined(answer: Answer) -> JoinAnswer {
    match answer {
        Answer::Join(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// Two members of a stable group: their ids, the leader first, and the generation.
fn stable(world: &mut World) -> (String, String, i32) {
    let first = world.join(GROUP, "", None, 3);
    let second = world.join(GROUP, "", None, 3);
    world.pass_ms(3_000);
    assert!(!world.is_answered(first), "a second member prolongs the wait");
    world.pass_ms(3_000);
    let (first, second) = (joined(world.answer(first)), joined(world.answer(second)));
    assert_eq!((first.error, first.generation, second.generation), (ErrorCode::None, 1, 1));
    let (leader, follower) = if first.leader == first.member_id { (first, second) } else { (second, first) };
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!((leader.protocol.as_deref(), leader.protocol_type.as_deref()), (Some("range"), Some("consumer")));
    let waiting = world.sync(GROUP, &follower.member_id, 1, &[]);
    assert!(!world.is_answered(waiting), "the follower waits for the leader");
    let given = [(leader.member_id.as_str(), b"a".as_slice()), (follower.member_id.as_str(), b"b")];
    let led = world.sync(GROUP, &leader.member_id, 1, &given);
    let assignment = |answer| match answer {
        Answer::Sync(answer) => (answer.error, answer.assignment.to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(assignment(world.answer(led)), (ErrorCode::None, b"a".to_vec()));
    assert_eq!(assignment(world.answer(waiting)), (ErrorCode::None, b"b".to_vec()));
    (leader.member_id, follower.member_id, 1)
}

#[test]
fn members_join_are_assigned_and_live() {
    let mut world = World::new();
    let (leader, follower, generation) = stable(&mut world);
    assert_eq!(world.heartbeat(GROUP, &leader, generation), ErrorCode::None);
    assert_eq!(world.heartbeat(GROUP, &leader, 0), ErrorCode::IllegalGeneration);
    assert_eq!(world.heartbeat(GROUP, "nobody", generation), ErrorCode::UnknownMemberId);
    assert_eq!(world.heartbeat("nothing", &leader, generation), ErrorCode::UnknownMemberId);
    // The follower falls silent: its session ends, and the leader is asked to join again.
    world.pass_ms(9_999);
    assert_eq!(world.heartbeat(GROUP, &leader, generation), ErrorCode::None);
    world.pass_ms(2);
    assert_eq!(world.heartbeat(GROUP, &follower, generation), ErrorCode::UnknownMemberId);
    assert_eq!(world.heartbeat(GROUP, &leader, generation), ErrorCode::RebalanceInProgress);
    let again = world.join(GROUP, &leader, None, 3);
    let again = joined(world.answer(again));
    assert_eq!((again.generation, again.members.len()), (2, 1));
}

#[test]
fn a_new_member_is_given_an_id_first() {
    let mut world = World::new();
    let asked = world.join(GROUP, "", None, 4);
    let told = joined(world.answer(asked));
    assert_eq!((told.error, told.generation), (ErrorCode::MemberIdRequired, -1));
    assert!(told.member_id.starts_with("client-"), "{}", told.member_id);
    let waiting = world.join(GROUP, &told.member_id, None, 4);
    world.pass_ms(3_000);
    assert_eq!(joined(world.answer(waiting)).generation, 1);
    // Another one never comes back: its place is given up, and until then a rebalance waits for it.
    let asked = world.join(GROUP, "", None, 4);
    world.answer(asked);
    let again = world.join(GROUP, &told.member_id, None, 5);
    world.pass_ms(9_999);
    assert!(!world.is_answered(again) || joined(world.answer(again)).generation == 1);
}

#[test]
fn bad_requests_get_kafkas_errors() {
    let mut world = World::new();
    let error = |world: &mut World, ticket| joined(world.answer(ticket)).error;
    let ticket = world.join(GROUP, "unknown", None, 5);
    assert_eq!(error(&mut world, ticket), ErrorCode::UnknownMemberId);
    for timeout_ms in [5_999, 1_800_001, -1] {
        let ticket = world.join_with(GROUP, "", None, 5, timeout_ms, "consumer", &[("range", b"x")]);
        assert_eq!(error(&mut world, ticket), ErrorCode::InvalidSessionTimeout);
    }
    let (leader, ..) = stable(&mut world);
    for (kind, protocols) in [("connect", [("range", b"x".as_slice())]), ("consumer", [("other", b"x")])] {
        let ticket = world.join_with(GROUP, "", None, 3, 10_000, kind, &protocols);
        assert_eq!(error(&mut world, ticket), ErrorCode::InconsistentGroupProtocol);
    }
    let ticket = world.join_with("new", "", None, 3, 10_000, "consumer", &[]);
    assert_eq!(error(&mut world, ticket), ErrorCode::InconsistentGroupProtocol);
    let ticket = world.sync(GROUP, &leader, 7, &[]);
    assert_eq!(world.answer(ticket), Answer::Sync(SyncAnswer::refusal(ErrorCode::IllegalGeneration)));
    assert_eq!(world.leave(GROUP, "unknown", None), ErrorCode::UnknownMemberId);
    assert_eq!(world.commit(GROUP, "unknown", 1, 5, ""), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.commit(GROUP, &leader, 0, 5, ""), Err(ErrorCode::IllegalGeneration));
    assert_eq!(world.commit(GROUP, "", -1, 5, ""), Err(ErrorCode::UnknownMemberId));
    assert_eq!(world.commit("nothing", "member", 3, 5, ""), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(world.commit(GROUP, &leader, 1, 5, &"ü".repeat(4096)), Ok(ErrorCode::None));
    assert_eq!(world.commit(GROUP, &leader, 1, 6, &"ü".repeat(4097)), Ok(ErrorCode::OffsetMetadataTooLarge));
    assert_eq!(world.offset(GROUP), 5);
    assert_eq!(world.delete(GROUP), ErrorCode::NonEmptyGroup);
    assert_eq!(world.delete("nothing"), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_static_member_takes_its_place_again_without_a_rebalance() {
    let mut world = World::new();
    let first = world.join(GROUP, "", Some("a"), 9);
    world.pass_ms(3_000);
    let first = joined(world.answer(first));
    assert!(first.member_id.starts_with("a-"));
    let synced = world.sync(GROUP, &first.member_id, 1, &[(&first.member_id, b"all")]);
    world.answer(synced);
    let again = world.join(GROUP, "", Some("a"), 9);
    let again = joined(world.answer(again));
    assert_eq!((again.error, again.generation, again.skip_assignment), (ErrorCode::None, 1, true));
    assert_ne!(again.member_id, first.member_id);
    // The former self is fenced, whatever it asks.
    assert_eq!(world.heartbeat_static(GROUP, &first.member_id, "a", 1), ErrorCode::FencedInstanceId);
    assert_eq!(world.heartbeat_static(GROUP, &again.member_id, "a", 1), ErrorCode::None);
    let ticket = world.sync(GROUP, &again.member_id, 1, &[]);
    let Answer::Sync(answer) = world.answer(ticket) else { panic!() };
    assert_eq!(answer.assignment[..], *b"all");
    // An administrator takes it out by its name.
    assert_eq!(world.leave(GROUP, "", Some("b")), ErrorCode::UnknownMemberId);
    assert_eq!(world.leave(GROUP, "", Some("a")), ErrorCode::None);
    assert_eq!(world.describe(GROUP).state, "Empty");
}

#[test]
fn the_state_comes_back_from_the_log() {
    let mut world = World::new();
    let (leader, follower, generation) = stable(&mut world);
    assert_eq!(world.commit(GROUP, &leader, generation, 41, "here"), Ok(ErrorCode::None));
    assert_eq!(world.commit("simple", "", -1, 7, ""), Ok(ErrorCode::None));
    let before = (world.describe(GROUP), world.describe("simple"), world.list());
    world.restart();
    assert_eq!((world.describe(GROUP), world.describe("simple"), world.list()), before);
    assert_eq!((world.offset(GROUP), world.offset("simple")), (41, 7));
    assert_eq!(world.heartbeat(GROUP, &leader, generation), ErrorCode::None);
    // Both have a session's time to be heard of.
    world.pass_ms(9_999);
    assert_eq!(world.heartbeat(GROUP, &follower, generation), ErrorCode::None);
    assert_eq!(world.delete("simple"), ErrorCode::None);
    world.restart();
    assert_eq!((world.offset("simple"), world.describe("simple").state), (-1, "Dead"));
}

#[test]
fn offsets_expire_when_nobody_uses_them() {
    let mut world = World::new();
    let week_ms = 7 * 24 * 3_600_000;
    let (leader, follower, generation) = stable(&mut world);
    assert_eq!(world.commit(GROUP, &leader, generation, 5, ""), Ok(ErrorCode::None));
    assert_eq!(world.commit("simple", "", -1, 7, ""), Ok(ErrorCode::None));
    world.pass_ms(week_ms / 2);
    assert_eq!(world.commit("simple", "", -1, 8, ""), Ok(ErrorCode::None));
    // Nobody was heard of, so the group is empty since half a week ago.
    assert_eq!(world.describe(GROUP).state, "Empty");
    let _ = follower;
    world.pass_ms(week_ms / 2 - 3_600_000);
    assert_eq!((world.offset(GROUP), world.offset("simple")), (5, 8));
    world.pass_ms(2 * 3_600_000);
    assert_eq!((world.offset(GROUP), world.offset("simple")), (-1, 8));
    assert_eq!(world.describe(GROUP).state, "Dead", "a group without members and offsets goes");
    world.pass_ms(week_ms);
    assert_eq!(world.offset("simple"), -1);
    world.restart();
    assert!(world.list().is_empty(), "{:?}", world.list());
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut world = World::new();
    assert_eq!(world.commit("simple", "", -1, 7, ""), Ok(ErrorCode::None));
    world.set_topics(&[("topic", 1), ("other", 2)]);
    assert_eq!(world.offset("simple"), 7);
    // A topic of the same name is another topic.
    world.set_topics(&[("topic", 3)]);
    assert_eq!(world.offset("simple"), -1);
    assert_eq!(world.commit("simple", "", -1, 8, ""), Ok(ErrorCode::None));
    world.set_topics(&[]);
    world.restart();
    assert_eq!(world.offset("simple"), -1);
}

#[test]
fn offsets_of_a_transaction_count_when_it_is_committed() {
    let mut world = World::new();
    let producer = |id| ProducerEpoch { id, epoch: 0 };
    assert_eq!(world.commit("simple", "", -1, 7, ""), Ok(ErrorCode::None));
    for (id, offset, committed) in [(1, 10, false), (2, 20, true)] {
        assert_eq!(world.commit_in("simple", producer(id), offset), Ok(ErrorCode::None));
        assert_eq!((world.offset("simple"), world.stable_offset("simple")), (7, Err(ErrorCode::UnstableOffsetCommit)));
        world.restart();
        assert_eq!(world.stable_offset("simple"), Err(ErrorCode::UnstableOffsetCommit));
        world.end(producer(id), committed);
    }
    assert_eq!((world.offset("simple"), world.stable_offset("simple")), (20, Ok(20)));
    // A later commit outside of the transaction counts, although the transaction ends after it.
    assert_eq!(world.commit_in("simple", producer(3), 30), Ok(ErrorCode::None));
    assert_eq!(world.commit("simple", "", -1, 40, ""), Ok(ErrorCode::None));
    world.end(producer(3), true);
    assert_eq!(world.offset("simple"), 40);
    world.restart();
    assert_eq!(world.stable_offset("simple"), Ok(40));
}

#[test]
fn a_group_takes_as_many_members_as_it_may() {
    let mut world = World::with(GroupOptions { max_size: 2, ..world::options() });
    let (leader, ..) = stable(&mut world);
    let third = world.join(GROUP, "", None, 3);
    assert_eq!(joined(world.answer(third)).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(world.heartbeat(GROUP, &leader, 1), ErrorCode::None);
}

#[test]
fn a_group_of_consumers_names_nobody_whom_it_refuses() {
    let mut world = World::new();
    let first = world.join_consumers(GROUP, "a");
    assert!(matches!(world.answer(first), Answer::ConsumerHeartbeat(Ok(_))));
    // Neither says what it subscribes to.
    for (member, kind, error) in [
        ("a", "consumer", ErrorCode::UnknownServerError),
        ("b", "consumer", ErrorCode::UnknownServerError),
        ("a", "connect", ErrorCode::InconsistentGroupProtocol),
    ] {
        let refused = world.join_with(GROUP, member, None, 3, 10_000, kind, &[("range", b"x")]);
        assert_eq!(joined(world.answer(refused)), JoinAnswer::refusal("", error), "{member} of {kind}");
    }
    // One that has no id yet is told one.
    let subscription = b"\0\0\0\0\0\x01\0\x05topic\xff\xff\xff\xff";
    let told = world.join_with(GROUP, "", None, 4, 10_000, "consumer", &[("range", subscription)]);
    let told = joined(world.answer(told));
    assert_eq!(told.error, ErrorCode::MemberIdRequired);
    assert_ne!(told.member_id, "");
}

#[test]
fn five_hundred_members_storm_a_group() {
    let mut world = World::new();
    let first: Vec<Ticket> = (0..500).map(|_| world.join(GROUP, "", None, 3)).collect();
    world.pass_ms(6_000);
    let mut ids = Vec::new();
    for ticket in first {
        let answer = joined(world.answer(ticket));
        assert_eq!(answer.generation, 1);
        ids.push(answer.member_id);
    }
    for round in 2..12_u8 {
        // All want something new, and half of them ask again before the others have come.
        let said = [round];
        let join =
            |world: &mut World, id: &str| world.join_with(GROUP, id, None, 3, 10_000, "consumer", &[("range", &said)]);
        for id in &ids[..250] {
            join(&mut world, id);
        }
        let waiting: Vec<Ticket> = ids.iter().map(|id| join(&mut world, id)).collect();
        for ticket in waiting {
            assert_eq!(joined(world.answer(ticket)).generation, i32::from(round));
        }
        assert_eq!(world.open(), 0, "who asked twice is answered twice");
    }
    assert_eq!(world.describe(GROUP).members.len(), 500);
    assert!(world.log_len() < 10, "{} records for rebalances that nobody has ended", world.log_len());
}
