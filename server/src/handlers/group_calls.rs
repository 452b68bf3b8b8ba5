//! Requests about a group: finds the core that owns the group, and has its coordinator work on them.

use std::net::IpAddr;

use wire::Message;
use wire::error::ErrorCode;

use crate::api::Request;
use crate::coordinator::{LogTopic, partition_of};
use crate::group::Groups;
use crate::group::answers::Answer;
use crate::services::Services;
use crate::shard::Shard;
use crate::state_machine::{Effects, Now, Ticket};

/// Asks the coordinator of a group, on the core that owns it. The answer is the one that `operation` gives to its ticket,
/// at once or later, and what it stands on is durable.
pub(super) async fn ask<F>(shard: &Shard, group_id: &str, operation: F) -> Result<Answer, ErrorCode>
where
    F: FnOnce(&mut Groups, Now, Ticket, &mut Effects<Answer>) + Send + 'static,
{
    let image = shard.image().clone();
    let partition = partition_of(group_id, LogTopic::Offsets, &image).ok_or(ErrorCode::NotCoordinator)?;
    let owner = image.topic(LogTopic::Offsets.name()).and_then(|topic| {
        let place = topic.partitions.get(usize::try_from(partition).ok()?)?;
        Some(place.core)
    });
    let owner = owner.ok_or(ErrorCode::NotCoordinator)?;
    drop(image);
    let run = move |owner: Shard| async move {
        let groups = Services::of(&owner).groups().clone();
        groups.run(&owner, partition, operation).await
    };
    let outcome = match owner == shard.core() {
        true => run(shard.clone()).await,
        false => shard.run_on(owner, run).await,
    };
    outcome.map_err(|unavailable| unavailable.code())
}

/// Decodes a request that has been decoded before, on another core.
pub(super) fn again<'a, M: Message<'a>>(request: &'a Request) -> M {
    request.decode().expect("the same bytes have been decoded before")
}

/// A client's address as Java shows it, which is how it stands in records and descriptions.
pub(super) fn shown_host(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            format!("/{}", groups.join(":"))
        }
    }
}

/// A random UUID (version 4 of RFC 9562) in its usual form. `random` gives 64 random bits at each call.
pub(super) fn random_uuid(mut random: impl FnMut() -> u64) -> String {
    let bits = u128::from(random()) << 64 | u128::from(random());
    let bits = bits & !(0xf << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ids_look_as_javas_do() {
        assert_eq!(shown_host("127.0.0.1".parse().unwrap()), "/127.0.0.1");
        assert_eq!(shown_host("::ffff:10.0.0.1".parse().unwrap()), "/10.0.0.1");
        assert_eq!(shown_host("fe80::1".parse().unwrap()), "/fe80:0:0:0:0:0:0:1");
        assert_eq!(random_uuid(|| 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(random_uuid(|| u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
