//! Properties of all messages in all versions: values survive a round trip, bad bytes neither panic nor allocate
//! beyond the budget.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::rng::Rng;
use support::sample::sample;
use support::schema::{Kind, Message as Table};
use wire::{DecodeError, Message, Reader};

include!(concat!(env!("OUT_DIR"), "/every_message.rs"));

/// A message of any type, by its name: decodes the bytes with a budget, which must be all of one message; then encodes
/// it again, and decodes that, which must be the same value.
struct Codec {
    name: &'static str,
    versions: (i16, i16),
    key: i16,
    flexible_from: i16,
    decode: fn(&[u8], i16, usize) -> Result<(), DecodeError>,
    round_trip: fn(&[u8], i16) -> Result<Vec<u8>, DecodeError>,
}

macro_rules! codecs {
    ($($module:ident $name:ident,)*) => {
        const CODECS: &[Codec] = &[$(Codec {
            name: stringify!($name),
            versions: (wire::$module::$name::MIN_VERSION, wire::$module::$name::MAX_VERSION),
            key: wire::$module::$name::API_KEY,
            flexible_from: wire::$module::$name::FLEXIBLE_FROM,
            decode: |bytes, version, budget| {
                wire::$module::$name::decode(&mut Reader::with_budget(bytes, budget), version).map(drop)
            },
            round_trip: |bytes, version| {
                let mut r = Reader::new(bytes);
                let value = wire::$module::$name::decode(&mut r, version)?;
                r.finish()?;
                let mut out = Vec::new();
                value.encode(&mut out, version).unwrap();
                assert_eq!(wire::$module::$name::decode(&mut Reader::new(&out), version).as_ref(), Ok(&value));
                Ok(out)
            },
        }),*];
    };
}

every_message!(codecs);

/// Each message's table beside its generated code.
fn messages() -> Vec<(Table, &'static Codec)> {
    let mut messages = Vec::new();
    for table in support::tables() {
        if table.kind != Kind::Header && table.versions.is_some() {
            let codec = CODECS.iter().find(|codec| codec.name == table.name).expect(&table.name);
            messages.push((table, codec));
        }
    }
    messages
}

#[test]
fn tables_and_code_agree() {
    let messages = messages();
    assert_eq!(messages.len(), CODECS.len());
    for (table, codec) in messages {
        let versions = table.versions.unwrap();
        assert_eq!(codec.versions, (versions.min, versions.max), "{}", codec.name);
        assert_eq!(codec.key, table.key.unwrap_or(-1), "{}", codec.name);
        assert_eq!(codec.flexible_from, table.flexible.map_or(i16::MAX, |flexible| flexible.min), "{}", codec.name);
    }
}

#[test]
fn values_survive_a_round_trip() {
    let mut rng = Rng::new(1);
    for (table, codec) in messages() {
        for version in codec.versions.0..=codec.versions.1 {
            for _ in 0..20 {
                let bytes = sample(&table, version, &mut rng);
                let again = (codec.round_trip)(&bytes, version);
                assert_eq!(again.as_ref(), Ok(&bytes), "{} v{version}", codec.name);
                // A part of a message is never a message.
                for _ in 0..4 {
                    if !bytes.is_empty() {
                        let part = &bytes[..rng.below(bytes.len())];
                        assert!((codec.decode)(part, version, usize::MAX).is_err(), "{} v{version}", codec.name);
                    }
                }
            }
        }
    }
}

#[test]
fn unknown_versions_are_refused() {
    for codec in CODECS {
        for version in [i16::MIN, -1, codec.versions.0 - 1, codec.versions.1 + 1, i16::MAX] {
            let result = (codec.decode)(&[0; 100], version, usize::MAX);
            assert_eq!(result, Err(DecodeError::UnsupportedVersion), "{} v{version}", codec.name);
        }
    }
}

#[test]
fn bad_bytes_cost_no_more_than_the_budget() {
    let mut rng = Rng::new(2);
    let (mut accepted, mut over_budget, mut refused) = (0, 0, 0);
    let mut try_one = |codec: &Codec, version: i16, bytes: &[u8], budget: usize| {
        let before = ALLOCATED.get();
        let result = (codec.decode)(bytes, version, budget);
        let allocated = ALLOCATED.get() - before;
        assert!(allocated <= budget, "{} v{version} allocated {allocated} for {bytes:?}", codec.name);
        match result {
            Ok(()) => accepted += 1,
            Err(DecodeError::BudgetExceeded) => over_budget += 1,
            Err(_) => refused += 1,
        }
    };
    for (table, codec) in messages() {
        for version in codec.versions.0..=codec.versions.1 {
            for round in 0..21 {
                let budget = [200, 2_000, 20_000][round % 3];
                let mut bytes = sample(&table, version, &mut rng);
                for _ in 0..8 {
                    mutate(&mut bytes, &mut rng);
                    try_one(codec, version, &bytes, budget);
                }
                let noise: Vec<u8> = (0..rng.below(200)).map(|_| rng.next() as u8).collect();
                try_one(codec, version, &noise, budget);
                // Zeros and ones make long arrays of small elements.
                let low: Vec<u8> = (0..2_000).map(|_| [0, 0, 1, 2, 0x7f, 0xff][rng.below(6)]).collect();
                try_one(codec, version, &low, budget);
            }
        }
    }
    // Each way out was taken often enough to mean something.
    assert!(accepted > 1_000 && over_budget > 1_000 && refused > 1_000, "{accepted} {over_budget} {refused}");
}

/// Changes one place as a broken or hostile peer would.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        bytes.push(rng.next() as u8);
        return;
    }
    let at = rng.below(bytes.len());
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.next() as u8),
        4 => drop(bytes.remove(at)),
        _ => {
            // A length of four bytes, or a varint, that says as much as it can.
            let huge: &[u8] = if rng.one_in(2) { &[0x7f, 0xff, 0xff, 0xff] } else { &[0xff, 0xff, 0xff, 0xff, 0x0f] };
            let end = (at + huge.len()).min(bytes.len());
            bytes.splice(at..end, huge.iter().copied());
        }
    }
}

thread_local! {
    /// Bytes that this thread has allocated so far; what it freed is not taken off.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; the counter is a
// thread-local cell without a destructor, so that touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, so from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + size);
        // SAFETY: `at` came from `alloc` above with this layout; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
