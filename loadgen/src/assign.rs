//! Which connection talks to which leader about which partitions.

use std::collections::BTreeMap;
use std::fmt;

use crate::client::Partition;

/// One connection's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// `HOST:PORT` of the leader.
    pub address: String,
    /// Indexes of its partitions, at least one.
    pub partitions: Vec<i32>,
}

/// Fewer connections than leaders: some partitions would be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFewConnections {
    /// How many brokers lead partitions of the topic.
    pub leaders: usize,
}

impl fmt::Display for TooFewConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the topic's partitions have {} leaders, so at least as many connections are needed", self.leaders)
    }
}

impl std::error::Error for TooFewConnections {}

/// Deals `connections` to the leaders in turn and each leader's partitions to its connections in turn. Where a leader has
/// more connections than partitions, several connections share a partition.
pub fn share(partitions: &[Partition], connections: u32) -> Result<Vec<Assignment>, TooFewConnections> {
    let leaders = by_leader(partitions);
    let connections = connections as usize;
    if connections < leaders.len() {
        return Err(TooFewConnections { leaders: leaders.len() });
    }
    let leaders: Vec<(&str, Vec<i32>)> = leaders.into_iter().collect();
    Ok((0..connections)
        .map(|connection| {
            let (address, partitions) = &leaders[connection % leaders.len()];
            let of_leader = connection / leaders.len();
            // Connections of this leader: one more for the first ones when the numbers do not divide.
            let siblings =
                connections / leaders.len() + usize::from(connection % leaders.len() < connections % leaders.len());
            let own = if partitions.len() >= siblings {
                partitions.iter().copied().skip(of_leader).step_by(siblings).collect()
            } else {
                vec![partitions[of_leader % partitions.len()]]
            };
            Assignment { address: (*address).to_owned(), partitions: own }
        })
        .collect())
}

/// The same, but every partition goes to one connection alone; connections beyond the partitions are left out.
pub fn once(partitions: &[Partition], connections: u32) -> Result<Vec<Assignment>, TooFewConnections> {
    let mut taken = std::collections::BTreeSet::new();
    let mut assignments = share(partitions, connections)?;
    assignments.retain_mut(|assignment| {
        assignment.partitions.retain(|partition| taken.insert(*partition));
        !assignment.partitions.is_empty()
    });
    Ok(assignments)
}

/// The partitions of each leader.
pub fn by_leader(partitions: &[Partition]) -> BTreeMap<&str, Vec<i32>> {
    let mut leaders = BTreeMap::<&str, Vec<i32>>::new();
    for partition in partitions {
        leaders.entry(&partition.leader).or_default().push(partition.index);
    }
    leaders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(leaders: &[&str]) -> Vec<Partition> {
        leaders.iter().zip(0..).map(|(leader, index)| Partition { index, leader: (*leader).to_owned() }).collect()
    }

    fn dealt(assignments: &[Assignment]) -> Vec<(&str, &[i32])> {
        assignments.iter().map(|one| (one.address.as_str(), one.partitions.as_slice())).collect()
    }

    #[test]
    fn more_partitions_than_connections() {
        let assignments = share(&topic(&["a"; 5]), 2).unwrap();
        assert_eq!(dealt(&assignments), [("a", [0, 2, 4].as_slice()), ("a", &[1, 3])]);
    }

    #[test]
    fn more_connections_than_partitions() {
        let partitions = topic(&["a"; 2]);
        let assignments = share(&partitions, 3).unwrap();
        assert_eq!(dealt(&assignments), [("a", [0].as_slice()), ("a", &[1]), ("a", &[0])]);
        assert_eq!(dealt(&once(&partitions, 3).unwrap()), [("a", [0].as_slice()), ("a", &[1])]);
    }

    #[test]
    fn connections_go_to_the_leaders_of_their_partitions() {
        let partitions = topic(&["a", "b", "a", "b", "a"]);
        let assignments = share(&partitions, 3).unwrap();
        assert_eq!(dealt(&assignments), [("a", [0, 4].as_slice()), ("b", &[1, 3]), ("a", &[2])]);
        assert_eq!(share(&partitions, 1), Err(TooFewConnections { leaders: 2 }));
    }

    #[test]
    fn every_partition_has_a_connection_whatever_the_numbers() {
        for partitions in 1..12 {
            for leaders in 1..4 {
                let names: Vec<String> = (0..partitions).map(|index| format!("{}", index % leaders)).collect();
                let partitions = topic(&names.iter().map(String::as_str).collect::<Vec<_>>());
                for connections in 1..20 {
                    let Ok(assignments) = share(&partitions, connections) else { continue };
                    assert_eq!(assignments.len(), connections as usize);
                    for partition in &partitions {
                        let mut having =
                            assignments.iter().filter(|one| one.partitions.contains(&partition.index)).peekable();
                        assert!(having.peek().is_some());
                        assert!(having.all(|one| one.address == partition.leader));
                    }
                    let mut once: Vec<i32> =
                        once(&partitions, connections).unwrap().into_iter().flat_map(|one| one.partitions).collect();
                    once.sort_unstable();
                    assert!(once.iter().copied().eq(0..partitions.len() as i32));
                }
            }
        }
    }
}
