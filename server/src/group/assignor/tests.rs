//! Kafka's assignors and ours on the same groups.

use super::*;

/// What Kafka 4.3.1 assigned. A line is a group: assignor, kind of subscriptions, the topics with their partition
/// counts, and the members as `id/instance/topics/target before/target after`. Members and topics came to Kafka's
/// assignors in the order of their ids.
const KAFKA: &str = include_str!("kafka_4_3.txt");

/// A member: its id, instance, topics, and targets before and after.
type KafkaMember = (Arc<str>, Option<&'static str>, BTreeSet<Uuid>, Partitions, Partitions);

fn topic(number: &str) -> Uuid {
    Uuid(number.parse::<u128>().unwrap().to_be_bytes())
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

fn partitions(text: &str) -> Partitions {
    let mut partitions = Partitions::new();
    for item in list(text) {
        let (number, partition) = item.split_once('.').unwrap();
        add(&mut partitions, topic(number), partition.parse().unwrap());
    }
    partitions
}

#[test]
fn results_are_kafkas() {
    for (number, line) in KAFKA.lines().enumerate() {
        let mut words = line.split(' ');
        let assignor = Assignor::of_name(words.next().unwrap()).unwrap();
        let homogeneous = words.next() == Some("same");
        let partition_counts = list(words.next().unwrap())
            .map(|item| item.split_once('=').unwrap())
            .map(|(number, count)| (topic(number), count.parse().unwrap()))
            .collect();
        let parse = |word: &'static str| {
            let [id, instance, topics, before, after] = word.splitn(5, '/').collect::<Vec<_>>().try_into().unwrap();
            let topics: BTreeSet<Uuid> = list(topics).map(topic).collect();
            (Arc::from(id), Some(instance).filter(|it| *it != "-"), topics, partitions(before), partitions(after))
        };
        let members: Vec<KafkaMember> = words.map(parse).collect();
        let spec = |(id, instance_id, topics, target, _): &'static KafkaMember| {
            let topics = Rc::new(topics.clone());
            (id.clone(), MemberSpec { instance_id: *instance_id, topics, target })
        };
        let members: &'static [KafkaMember] = Vec::leak(members);
        let group = GroupSpec { members: members.iter().map(spec).collect(), homogeneous, partition_counts };
        let assignment = assignor.assign(&group);
        for (id, .., after) in members {
            let ours = assignment.get(id).cloned().unwrap_or_default();
            assert_eq!(&ours, after, "line {}, member {id}: {line}", number + 1);
        }
    }
}

/// A log that others wrote may claim anything.
#[test]
fn targets_that_cannot_be_are_left_out() {
    let claims = partitions("1.0,1.1,1.7,2.0");
    let negative = Partitions::from([(topic("1"), BTreeSet::from([-1, 1]))]);
    for homogeneous in [true, false] {
        let member = |target| MemberSpec { instance_id: None, topics: Rc::new(BTreeSet::from([topic("1")])), target };
        let group = GroupSpec {
            members: BTreeMap::from([("a".into(), member(&claims)), ("b".into(), member(&negative))]),
            homogeneous,
            partition_counts: BTreeMap::from([(topic("1"), 2)]),
        };
        let assignment = Assignor::Uniform.assign(&group);
        let expected = BTreeMap::from([("a".into(), partitions("1.0")), ("b".into(), partitions("1.1"))]);
        assert_eq!(assignment, expected, "homogeneous: {homogeneous}");
    }
}
