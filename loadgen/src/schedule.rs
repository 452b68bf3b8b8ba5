//! The open-loop schedule: when every record is due, fixed before the run begins.
//!
//! Latency is counted from the time that this schedule names, not from the time of the send, so that a stall of the
//! broker counts for every record that it delayed (no coordinated omission).
//!
//! Records are numbered from 0. Time is cut into ticks; all records that a tick brings are due at its beginning, as
//! sensors that report together. After tick `k` exactly `floor((k + 1) · rate · tick)` records are due, so that no
//! rounding error adds up. Record `i` belongs to connection `i mod connections`: every connection is a producer with an
//! equal share of the rate. A connection's records of one tick travel in one batch, or in several when the batch bound
//! is lower. Everything is computed from the record's number, so that the backlog of a stalled run takes no memory.

use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A rate of records, cut into ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    records_per_second: u64,
    tick_ns: u64,
    /// Records of the whole run, over all connections.
    total: u64,
}

impl Schedule {
    /// The schedule of `records_per_second` over `length`, cut off after `limit` records if given.
    ///
    /// # Panics
    /// When the rate or the tick is zero: the command line refuses both.
    pub fn new(records_per_second: u64, tick: Duration, length: Duration, limit: Option<u64>) -> Schedule {
        let tick_ns = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
        assert!(records_per_second > 0 && tick_ns > 0);
        let by_time = u128::from(records_per_second) * length.as_nanos() / NANOS_PER_SECOND;
        let by_time = u64::try_from(by_time).unwrap_or(u64::MAX);
        let total = limit.map_or(by_time, |limit| by_time.min(limit));
        Schedule { records_per_second, tick_ns, total }
    }

    /// Records of the whole run, over all connections.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Length of a tick in nanoseconds.
    pub fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    /// The end of the tick of the last record, in nanoseconds from the start of the run; 0 without records.
    pub fn end_ns(&self) -> u64 {
        match self.total {
            0 => 0,
            total => (self.tick_of(total - 1) + 1) * self.tick_ns,
        }
    }

    /// How many records are due before `at_ns` (from the start of the run), over all connections.
    pub fn due_before(&self, at_ns: u64) -> u64 {
        match at_ns.div_ceil(self.tick_ns) {
            0 => 0,
            ticks => self.due_after_tick(ticks - 1),
        }
    }

    /// How many records are due once tick `tick` has begun, over all connections.
    fn due_after_tick(&self, tick: u64) -> u64 {
        let due = (u128::from(tick) + 1) * u128::from(self.records_per_second) * u128::from(self.tick_ns);
        u64::try_from(due / NANOS_PER_SECOND).unwrap_or(u64::MAX).min(self.total)
    }

    /// The first tick after whose beginning record `index` is due.
    fn tick_of(&self, index: u64) -> u64 {
        let per_tick = u128::from(self.records_per_second) * u128::from(self.tick_ns);
        let tick = ((u128::from(index) + 1) * NANOS_PER_SECOND).div_ceil(per_tick) - 1;
        u64::try_from(tick).expect("a tick before the end of a u64 of nanoseconds")
    }
}

/// One batch that a connection has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The intended send time, in nanoseconds from the start of the run.
    pub at_ns: u64,
    /// Records in the batch, at least one.
    pub records: u32,
}

/// One connection's position in the schedule.
#[derive(Debug, Clone)]
pub struct Cursor {
    schedule: Schedule,
    connection: u64,
    connections: u64,
    batch_records: u32,
    /// How many of this connection's records have been taken.
    taken: u64,
    /// What [`Cursor::peek`] answers; kept because it is asked for far more often than it changes.
    next: Option<Due>,
}

impl Cursor {
    /// The share of connection `connection` among `connections`, in batches of at most `batch_records`.
    ///
    /// # Panics
    /// When the connection is not one of them, or the batch bound is zero.
    pub fn new(schedule: Schedule, connection: u32, connections: u32, batch_records: u32) -> Cursor {
        assert!(connection < connections && batch_records > 0);
        let mut cursor = Cursor {
            schedule,
            connection: connection.into(),
            connections: connections.into(),
            batch_records,
            taken: 0,
            next: None,
        };
        cursor.next = cursor.compute_next();
        cursor
    }

    /// The next batch, or `None` when the schedule is at its end.
    pub fn peek(&self) -> Option<Due> {
        self.next
    }

    /// Moves past the batch that [`Cursor::peek`] named.
    pub fn take(&mut self) -> Option<Due> {
        let due = self.next?;
        self.taken += u64::from(due.records);
        self.next = self.compute_next();
        Some(due)
    }

    fn compute_next(&self) -> Option<Due> {
        let index = self.taken.checked_mul(self.connections)?.checked_add(self.connection)?;
        if index >= self.schedule.total {
            return None;
        }
        let tick = self.schedule.tick_of(index);
        // Of the records due by then, those numbered `connection + n · connections` are this connection's.
        let due = self.schedule.due_after_tick(tick);
        let own = (due - self.connection).div_ceil(self.connections);
        let records = (own - self.taken).min(self.batch_records.into());
        Some(Due {
            at_ns: tick * self.schedule.tick_ns,
            records: u32::try_from(records).expect("bounded by batch_records"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn drain(mut cursor: Cursor) -> Vec<Due> {
        std::iter::from_fn(|| cursor.take()).collect()
    }

    #[test]
    fn one_connection_gets_every_record_in_its_tick() {
        let schedule = Schedule::new(100_000, MS, Duration::from_secs(1), None);
        let batches = drain(Cursor::new(schedule, 0, 1, 1_000));
        assert_eq!(batches.len(), 1_000);
        for (tick, due) in batches.iter().enumerate() {
            assert_eq!(*due, Due { at_ns: tick as u64 * 1_000_000, records: 100 });
        }
    }

    #[test]
    fn rates_that_do_not_divide_into_ticks_lose_nothing() {
        // 777 records a second in ticks of 1 ms: never more than one a tick, 777 in the first second, 7,770 in ten.
        let schedule = Schedule::new(777, MS, Duration::from_secs(10), None);
        let batches = drain(Cursor::new(schedule, 0, 1, 10));
        assert_eq!(batches.len(), 7_770);
        assert_eq!(batches.iter().filter(|due| due.at_ns < 1_000_000_000).count(), 777);
        assert!(batches.iter().all(|due| due.records == 1));
        assert!(batches.windows(2).all(|pair| pair[0].at_ns < pair[1].at_ns));
        // Record i is due in the first tick k with (k + 1) · 0.777 > i.
        for (i, due) in batches.iter().enumerate() {
            let tick = due.at_ns / 1_000_000;
            assert!((tick + 1) * 777 / 1_000 > i as u64 && tick * 777 / 1_000 <= i as u64, "record {i}");
        }
    }

    #[test]
    fn connections_share_every_tick_and_sum_up_exactly() {
        let length = Duration::from_millis(997);
        for rate in [1, 999, 1_000, 64_123, 1_000_000] {
            for connections in [1_u32, 3, 64] {
                let schedule = Schedule::new(rate, MS, length, None);
                let mut per_tick = std::collections::BTreeMap::<u64, u64>::new();
                for connection in 0..connections {
                    for due in drain(Cursor::new(schedule, connection, connections, 7)) {
                        assert!((1..=7).contains(&due.records));
                        *per_tick.entry(due.at_ns).or_default() += u64::from(due.records);
                    }
                }
                assert_eq!(per_tick.values().sum::<u64>(), rate * 997 / 1_000, "{rate} over {connections}");
                let mut sum = 0;
                for (at_ns, records) in per_tick {
                    sum += records;
                    assert_eq!(sum, schedule.due_before(at_ns + 1), "{rate} over {connections} at {at_ns}");
                }
            }
        }
    }

    #[test]
    fn the_batch_bound_splits_a_tick_without_moving_it() {
        let schedule = Schedule::new(1_000_000, MS, MS, None);
        let batches = drain(Cursor::new(schedule, 0, 1, 150));
        assert_eq!(batches.iter().map(|due| due.records).collect::<Vec<_>>(), [150, 150, 150, 150, 150, 150, 100]);
        assert!(batches.iter().all(|due| due.at_ns == 0));
    }

    #[test]
    fn slow_rates_wait_for_their_tick() {
        // Ten records a second: the first is due in tick 99, when the first tenth of a second is over.
        let schedule = Schedule::new(10, MS, Duration::from_secs(1), None);
        let at: Vec<u64> = drain(Cursor::new(schedule, 0, 1, 1)).iter().map(|due| due.at_ns / 1_000_000).collect();
        assert_eq!(at, [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]);
        // Over ten connections each has one of them, so that no connection starves.
        for connection in 0..10 {
            let own = drain(Cursor::new(schedule, connection, 10, 1));
            assert_eq!(own, [Due { at_ns: u64::from(connection) * 100_000_000 + 99_000_000, records: 1 }]);
        }
    }

    #[test]
    fn the_limit_cuts_the_last_tick() {
        let schedule = Schedule::new(1_000, Duration::from_millis(10), Duration::from_secs(1), Some(25));
        assert_eq!((schedule.total(), schedule.end_ns()), (25, 30_000_000));
        let records: Vec<u32> = drain(Cursor::new(schedule, 0, 1, 100)).iter().map(|due| due.records).collect();
        assert_eq!(records, [10, 10, 5]);
        assert_eq!(schedule.due_before(0), 0);
        assert_eq!(schedule.due_before(1), 10);
        assert_eq!(schedule.due_before(10_000_000), 10);
        assert_eq!(schedule.due_before(u64::MAX), 25);
    }

    #[test]
    fn a_share_of_nothing_is_nothing() {
        let schedule = Schedule::new(1_000, MS, Duration::from_secs(1), Some(2));
        assert_eq!(Cursor::new(schedule, 2, 3, 10).peek(), None);
        assert_eq!(drain(Cursor::new(schedule, 1, 3, 10)), [Due { at_ns: 1_000_000, records: 1 }]);
    }
}
