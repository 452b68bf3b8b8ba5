//! Leader epochs as clients check them (KIP-320).

use engine::Slot;
use wire::error::ErrorCode;

use crate::shard::Shard;

/// Checks the leader epoch that a client knows, -1 if none, against the partition's.
pub(crate) fn check_epoch(known: i32, current: i32) -> Result<(), ErrorCode> {
    match known {
        -1 => Ok(()),
        known if known < current => Err(ErrorCode::FencedLeaderEpoch),
        known if known > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The epoch asked for, or the largest below it, and the offset at which it ends in a partition of this core. None when
/// the partition has no such epoch.
pub(crate) fn end_of_epoch(shard: &Shard, slot: Slot, current: i32, asked: i32) -> Option<(i32, i64)> {
    if asked == current {
        // Known from its first moment, before it has a record.
        return Some((current, shard.store().info(slot)?.log_end));
    }
    if asked > current || asked < 0 {
        return None;
    }
    shard.store().end_of_epoch(slot, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_compared_if_the_client_knows_one() {
        assert_eq!(check_epoch(-1, 5), Ok(()));
        assert_eq!(check_epoch(5, 5), Ok(()));
        assert_eq!(check_epoch(4, 5), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_epoch(6, 5), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
