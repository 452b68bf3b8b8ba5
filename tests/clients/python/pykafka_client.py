"""PyKafka as a client under test. `WEIR_BROKER_VERSION` is the version that it takes the broker for."""

import os
import time
import zlib

from pykafka import KafkaClient
from pykafka.common import CompressionType, OffsetType

import plan as p

# The asynchronous producer writes all records but these, which the synchronous one writes.
SYNC = 50


VERSION = os.environ["WEIR_BROKER_VERSION"]
HAS_TIMESTAMPS = VERSION not in ("0.8.2", "0.9.0")


def connect(plan):
    return KafkaClient(hosts=plan.bootstrap, broker_version=VERSION)


def produce(producer, record):
    timestamp, key, value, _ = record
    producer.produce(value, partition_key=key, timestamp=timestamp if HAS_TIMESTAMPS else None)


def choose(partitions, key):
    return sorted(partitions, key=lambda partition: partition.id)[zlib.crc32(key) % len(partitions)]


def write(plan):
    client = connect(plan)
    for topic in plan.topics:
        compression = getattr(CompressionType, topic["codec"].upper())
        # A producer lingers when it is stopped as well.
        settings = {"compression": compression, "partitioner": choose, "linger_ms": 5}
        handle = client.topics[topic["name"].encode()]
        with handle.get_producer(min_queued_messages=1000, delivery_reports=True, **settings) as producer:
            for record in plan.records[:-SYNC]:
                produce(producer, record)
            for _ in plan.records[:-SYNC]:
                _, error = producer.get_delivery_report(timeout=60)
                assert error is None, error
        with handle.get_sync_producer(**settings) as producer:
            for record in plan.records[-SYNC:]:
                produce(producer, record)


def read(plan):
    client = connect(plan)
    for topic in plan.topics:
        handle = client.topics[topic["name"].encode()]
        starts = {number: found.offset[0] for number, found in handle.earliest_available_offsets().items()}
        ends = {number: found.offset[0] for number, found in handle.latest_available_offsets().items()}
        expected = sum(ends.values()) - sum(starts.values())
        consumer = handle.get_simple_consumer(auto_offset_reset=OffsetType.EARLIEST, reset_offset_on_start=True)
        back = p.ReadBack(plan, topic["name"])
        for _ in range(expected):
            message = consumer.consume()
            timestamp = message.timestamp if message.protocol_version else -1
            back.add(message.partition_id, message.offset, timestamp, message.partition_key, message.value, [])
        back.close()
        consumer.stop()


def commit(plan):
    """A simple consumer of the group `simple` commits after `half` records, and the next one goes on from there."""
    client = connect(plan)
    handle = client.topics[plan.topics[0]["name"].encode()]
    seen = []
    for count in (plan.half, len(plan.records) - plan.half):
        consumer = handle.get_simple_consumer(consumer_group=b"simple", auto_offset_reset=OffsetType.EARLIEST)
        seen += take(consumer, count)
        consumer.commit_offsets()
        consumer.stop()
    assert_complete(plan, seen)


def share(plan):
    """Two consumers of the group `managed` share the partitions. One commits and goes, the other takes over."""
    stays, goes = member(plan), member(plan)
    wait(lambda: sorted(map(len, (stays.partitions, goes.partitions))) == [plan.partitions // 2] * 2)
    assert not set(stays.partitions) & set(goes.partitions)
    seen = take(goes, plan.half // 2)
    goes.commit_offsets()
    goes.stop()
    wait(lambda: len(stays.partitions) == plan.partitions)
    seen += take(stays, len(plan.records) - len(seen))
    stays.commit_offsets()
    stays.stop()
    assert_complete(plan, seen)


def member(plan):
    client = connect(plan)
    handle = client.topics[plan.topics[0]["name"].encode()]
    settings = {"auto_offset_reset": OffsetType.EARLIEST, "heartbeat_interval_ms": 200}
    return handle.get_balanced_consumer(b"managed", managed=True, **settings)


def take(consumer, count):
    messages = [consumer.consume() for _ in range(count)]
    return [(message.partition_id, message.offset) for message in messages]


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the group has not come to rest"
        time.sleep(0.05)


def assert_complete(plan, seen):
    assert len(set(seen)) == len(seen) == len(plan.records), (len(set(seen)), len(seen))


p.run({"write": write, "read": read, "commit": commit, "share": share})
