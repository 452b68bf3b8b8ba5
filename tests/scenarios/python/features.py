"""What tutorials do with one consumer, in the words of no client: adapters give it those of kafka-python, confluent-kafka and
aiokafka.

An adapter module has `produce(bootstrap, records)`, which takes records with a partition of -1 where their key decides and
returns (partition, offset) of each, and `Consumer(bootstrap, topic, group, reset, auto_commit_ms)`, which begins as `reset`
says, commits every `auto_commit_ms` or, with None, when it is told, and has

    poll()               what has come within a fifth of a second, records in a list
    committed(partition) the offset that its group has committed, or None
    commit(offsets)      commits {partition: offset}, or with None what was polled
    seek(partition, offset), pause(partition), resume(partition)
    for_time(partition, timestamp)   the first offset not before it, or None
    close()              leaves; what was not committed by itself or by command stays so

Topics are created by the caller: `mixed` with four partitions, `pair` with two, `growing`, `single` and
`times` with one.
"""

import time
from dataclasses import dataclass, field

TIMEOUT_S = 60


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    key: object
    value: bytes
    timestamp: int
    headers: list = field(default_factory=list)
    offset: int = -1


def read(consumer, count):
    """The next `count` records of a consumer, and no more."""
    records = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records += consumer.poll()
    assert len(records) == count, f"{len(records)} records came instead of {count}"
    return records


def wait_until(what, reached):
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not happen"


def run(adapter, bootstrap):
    """Runs all checks and prints the name of each that holds."""
    for check in (content, reset, auto_commit, manual_commit, seek, pause, times):
        check(adapter, bootstrap)
        print("ok", check.__name__, flush=True)


def content(adapter, bootstrap):
    """Keys choose partitions; values, headers and timestamps arrive as they were sent."""
    start = int(time.time() * 1000) - 600_000
    headers = [("trace", b"\x00\xff"), ("trace", b"second"), ("größe", b"7"), ("empty", b"")]
    sent = [
        Record("mixed", -1, f"key-{number % 20}".encode(), f"value {number}".encode(), start + 1000 * number, headers)
        for number in range(200)
    ]
    placed = adapter.produce(bootstrap, sent)
    partitions = {}
    for record, (partition, _) in zip(sent, placed):
        assert partitions.setdefault(record.key, partition) == partition, f"{record.key} is in two partitions"
    assert len(set(partitions.values())) > 1, "all keys are in one partition"
    consumer = adapter.Consumer(bootstrap, "mixed", "content", "earliest", None)
    found = {(record.partition, record.offset): record for record in read(consumer, len(sent))}
    consumer.close()
    for record, (partition, offset) in zip(sent, placed):
        back = found.pop((partition, offset))
        assert (back.key, back.value, back.timestamp) == (record.key, record.value, record.timestamp), back
        assert back.headers == headers, back
    assert not found


def numbered(topic, numbers, partition=0):
    now = int(time.time() * 1000)
    return [Record(topic, partition, None, b"%d" % number, now) for number in numbers]


def values(records):
    return [int(record.value) for record in records]


def reset(adapter, bootstrap):
    """A group that has committed nothing begins at the earliest record or behind the latest, as it wishes."""
    adapter.produce(bootstrap, numbered("growing", range(20)))
    latest = adapter.Consumer(bootstrap, "growing", "reset-latest", "latest", None)
    # Nobody says when it has found the end, but the first that comes was written later, and so is all that follows.
    end, records = 20, []
    deadline = time.monotonic() + TIMEOUT_S
    while not records:
        assert time.monotonic() < deadline, "nothing came"
        records = latest.poll()
        adapter.produce(bootstrap, numbered("growing", [end]))
        end += 1
    first = int(records[0].value)
    assert first >= 20
    records += read(latest, end - first - len(records))
    assert values(records) == list(range(first, end))
    latest.close()
    earliest = adapter.Consumer(bootstrap, "growing", "reset-earliest", "earliest", None)
    assert values(read(earliest, end)) == list(range(end))
    earliest.close()


def auto_commit(adapter, bootstrap):
    """What was polled is committed by itself, and the next consumer of the group goes on behind it."""
    adapter.produce(bootstrap, numbered("single", range(30)))
    consumer = adapter.Consumer(bootstrap, "single", "auto-commit", "earliest", 200)
    assert values(read(consumer, 30)) == list(range(30))
    wait_until("a commit", lambda: consumer.poll() == [] and consumer.committed(0) == 30)
    consumer.close()
    adapter.produce(bootstrap, numbered("single", range(30, 40)))
    consumer = adapter.Consumer(bootstrap, "single", "auto-commit", "earliest", 200)
    assert values(read(consumer, 10)) == list(range(30, 40))
    consumer.close()


def manual_commit(adapter, bootstrap):
    """Only what was committed by command counts, be it behind what was read or ahead of it."""
    consumer = adapter.Consumer(bootstrap, "single", "manual", "earliest", None)
    read(consumer, 40)
    assert consumer.committed(0) is None
    consumer.commit({0: 15})
    assert consumer.committed(0) == 15
    consumer.close()
    consumer = adapter.Consumer(bootstrap, "single", "manual", "latest", None)
    assert values(read(consumer, 25)) == list(range(15, 40))
    consumer.commit(None)
    assert consumer.committed(0) == 40
    consumer.close()


def seek(adapter, bootstrap):
    """A consumer goes back and forth as it likes, without a trace in its group."""
    consumer = adapter.Consumer(bootstrap, "single", "seek", "earliest", None)
    read(consumer, 40)
    for offset in (35, 0, 39, 12):
        consumer.seek(0, offset)
        assert values(read(consumer, 40 - offset)) == list(range(offset, 40))
    assert consumer.committed(0) is None
    consumer.close()


def pause(adapter, bootstrap):
    """A paused partition waits while the other one goes on, and loses nothing."""
    adapter.produce(bootstrap, numbered("pair", range(10), 0) + numbered("pair", range(10), 1))
    consumer = adapter.Consumer(bootstrap, "pair", "pause", "earliest", None)
    read(consumer, 20)
    consumer.pause(0)
    adapter.produce(bootstrap, numbered("pair", range(10, 20), 0))
    adapter.produce(bootstrap, numbered("pair", range(10, 20), 1))
    found = read(consumer, 10)
    for _ in range(3):
        found += consumer.poll()
    assert [(record.partition, record.offset) for record in found] == [(1, offset) for offset in range(10, 20)]
    consumer.resume(0)
    found = read(consumer, 10)
    assert [(record.partition, record.offset) for record in found] == [(0, offset) for offset in range(10, 20)]
    consumer.close()


def times(adapter, bootstrap):
    """The first offset at or after a point in time, also where timestamps went backwards."""
    start = int(time.time() * 1000) - 3_600_000
    seconds = [0, 10, 20, 20, 15, 30, 40]
    sent = [Record("times", 0, None, b"%d" % second, start + 1000 * second) for second in seconds]
    for record in sent:
        adapter.produce(bootstrap, [record])
    consumer = adapter.Consumer(bootstrap, "times", "times", "earliest", None)
    read(consumer, len(sent))
    expected = {-5000: 0, 0: 0, 1: 1, 10_000: 1, 10_001: 2, 20_000: 2, 20_001: 5, 40_000: 6, 40_001: None}
    found = {after: consumer.for_time(0, start + after) for after in expected}
    assert found == expected, found
    consumer.close()
