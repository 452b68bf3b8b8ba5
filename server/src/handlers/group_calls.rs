//! Requests about a group: finds the core that owns the group, and has its coordinator work on them.

use std::future::Future;
use std::net::IpAddr;

use engine::{Slot, TransactionGuard};
use wire::Message;
use wire::error::ErrorCode;

use crate::api::Request;
use crate::coordinator::{LogTopic, partition_among};
use crate::group::answers::Answer;
use crate::group::{Caller, Groups};
use crate::services::Services;
use crate::shard::Shard;
use crate::state_machine::{Effects, Now, Ticket};

/// Asks the coordinator of a group, on the core that owns it. The answer is the one that `operation`, which is given the
/// request once more, gives to its ticket, at once or later, and what it stands on is durable.
pub(super) async fn ask<F>(shard: &Shard, group_id: &str, request: &Request, operation: F) -> Result<Answer, ErrorCode>
where
    F: FnOnce(&Request, &mut Groups, Now, Ticket, &mut Effects<Answer>) + Send + 'static,
{
    let nothing = |_, _| std::future::ready(Ok(None));
    ask_after(shard, group_id, request, nothing, operation).await
}

/// Like [`ask`], for an operation that is part of a transaction: `admit` comes first, on the core that owns the group, and
/// gives what the log asks for there ([`engine::Store::verify_transaction`]).
pub(super) async fn ask_after<A, Fut, F>(
    shard: &Shard,
    group_id: &str,
    request: &Request,
    admit: A,
    operation: F,
) -> Result<Answer, ErrorCode>
where
    A: FnOnce(Shard, Owner) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<TransactionGuard>, ErrorCode>> + 'static,
    F: FnOnce(&Request, &mut Groups, Now, Ticket, &mut Effects<Answer>) + Send + 'static,
{
    let place = owner(shard, group_id)?;
    if place.core == shard.core() {
        return run(shard, place, request, admit, operation).await;
    }
    let request = request.clone();
    shard.run_on(place.core, move |owner| async move { run(&owner, place, &request, admit, operation).await }).await
}

/// On the core that owns the group.
async fn run<A, Fut, F>(
    owner: &Shard,
    place: Owner,
    request: &Request,
    admit: A,
    operation: F,
) -> Result<Answer, ErrorCode>
where
    A: FnOnce(Shard, Owner) -> Fut,
    Fut: Future<Output = Result<Option<TransactionGuard>, ErrorCode>>,
    F: FnOnce(&Request, &mut Groups, Now, Ticket, &mut Effects<Answer>),
{
    let guard = admit(owner.clone(), place).await?;
    let groups = Services::of(owner).groups().clone();
    let operation = |groups: &mut Groups, now: Now, ticket: Ticket, effects: &mut Effects<Answer>| {
        operation(request, groups, now, ticket, effects);
    };
    groups.run_guarded(owner, place.partition, guard, operation).await.map_err(|unavailable| unavailable.code())
}

/// Who has a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    core: usize,
    /// The partition of `__consumer_offsets`.
    pub(super) partition: i32,
    /// Its place in the core's store.
    pub(super) slot: Slot,
}

fn owner(shard: &Shard, group_id: &str) -> Result<Owner, ErrorCode> {
    let image = shard.image();
    let owner = image.topic(LogTopic::Offsets.name()).and_then(|topic| {
        let partition = partition_among(group_id, topic.partitions.len())?;
        let place = topic.partitions.get(usize::try_from(partition).ok()?)?;
        Some(Owner { core: place.core, partition, slot: place.slot })
    });
    owner.ok_or(ErrorCode::NotCoordinator)
}

/// Decodes a request that has been decoded before, perhaps on another core.
pub(super) fn again<'a, M: Message<'a>>(request: &'a Request) -> M {
    request.decode().expect("the same bytes have been decoded before")
}

/// Who asks, with what a new member would need.
pub(super) fn caller<'a>(request: &'a Request, client_host: &'a str, new_member: &'a str) -> Caller<'a> {
    Caller { client_id: request.client_id().unwrap_or_default(), client_host, version: request.version, new_member }
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
