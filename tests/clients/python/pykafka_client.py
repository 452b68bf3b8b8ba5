"""PyKafka as a client under test. `WEIR_BROKER_VERSION` is the version that it takes the broker for."""

import os
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
        settings = {"compression": getattr(CompressionType, topic["codec"].upper()), "partitioner": choose}
        handle = client.topics[topic["name"].encode()]
        with handle.get_producer(linger_ms=5, min_queued_messages=1000, delivery_reports=True, **settings) as producer:
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


p.run({"write": write, "read": read})
