"""The checks of features.py by kafka-python, and what only a look at its own settings or at a late consumer can show."""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

import features
from features import Record, values, wait_until


def produce(bootstrap, records):
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    sent = [
        producer.send(
            record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            timestamp_ms=record.timestamp,
            partition=None if record.partition < 0 else record.partition,
        )
        for record in records
    ]
    producer.flush()
    placed = [future.get(timeout=60) for future in sent]
    producer.close()
    return [(metadata.partition, metadata.offset) for metadata in placed]


class Consumer:
    def __init__(self, bootstrap, topic, group, reset, auto_commit_ms):
        self.topic = topic
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset=reset,
            enable_auto_commit=auto_commit_ms is not None,
            auto_commit_interval_ms=auto_commit_ms or 5000,
        )

    def poll(self):
        # A consumer that finds its topic after it has joined joins once more, and kafka-python 3.0 loses that for good where a
        # poll ends in between: so the first one ends with a record, or later than all that takes.
        timeout_ms = 200 if self.consumer.assignment() else 5000
        records = [record for part in self.consumer.poll(timeout_ms=timeout_ms).values() for record in part]
        return [
            Record(r.topic, r.partition, r.key, r.value, r.timestamp, list(r.headers), r.offset) for r in records
        ]

    def at(self, partition):
        return TopicPartition(self.topic, partition)

    def committed(self, partition):
        return self.consumer.committed(self.at(partition))

    def commit(self, offsets):
        if offsets is not None:
            offsets = {self.at(part): OffsetAndMetadata(offset, "", -1) for part, offset in offsets.items()}
        self.consumer.commit(offsets)

    def seek(self, partition, offset):
        self.consumer.seek(self.at(partition), offset)

    def pause(self, partition):
        self.consumer.pause(self.at(partition))

    def resume(self, partition):
        self.consumer.resume(self.at(partition))

    def for_time(self, partition, timestamp):
        found = self.consumer.offsets_for_times({self.at(partition): timestamp})[self.at(partition)]
        return found and found.offset

    def close(self):
        self.consumer.close()


def consumer_timeout(bootstrap):
    """Iteration ends when nothing comes for as long as the consumer was told to wait."""
    consumer = KafkaConsumer(
        "single", bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=1000
    )
    records = []

    def complete():
        # A consumer that is only about to begin has nothing for so long as well.
        records.extend(consumer)
        return len(records) >= 40

    wait_until("all records", complete)
    assert values(records) == list(range(40))
    assert next(consumer, None) is None
    consumer.close()


def late(bootstrap, topic):
    """The offsets that a consumer reads who comes late and asks for the first record ever."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    beginning, end = consumer.beginning_offsets([partition])[partition], consumer.end_offsets([partition])[partition]
    # Offset 0 is gone, so the consumer is told that it is out of range and begins with what there is.
    consumer.seek(partition, 0)
    offsets = []

    def through():
        offsets.extend(record.offset for part in consumer.poll(timeout_ms=200).values() for record in part)
        return offsets and offsets[-1] >= end - 1

    wait_until("the end", through)
    consumer.close()
    assert offsets == list(range(beginning, end)), f"from {beginning} to {end}, read {offsets[:1]}..{offsets[-1:]}"
    return offsets


# No more records of a kilobyte than this are in one of the segments of a mebibyte that the topics have.
SEGMENT = 1048


def begins_later(bootstrap, topic, earliest):
    """Waits until retention has taken what it can: the topic begins at `earliest` or later."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    partition = TopicPartition(topic, 0)

    def later():
        time.sleep(0.1)
        return consumer.beginning_offsets([partition])[partition] >= earliest

    wait_until("retention", later)
    consumer.close()


def retention_by_time(bootstrap):
    """Records of two hours ago go from a topic that keeps one hour, as far as whole segments do; recent ones stay."""
    old = int(time.time() * 1000) - 7_200_000
    produce(bootstrap, [Record("by-time", 0, None, bytes(1000), old + number) for number in range(3500)])
    # As many as fill a segment and go on in the next one.
    now = int(time.time() * 1000)
    produce(bootstrap, [Record("by-time", 0, None, bytes(1000), now) for _ in range(2000)])
    begins_later(bootstrap, "by-time", 3500 - SEGMENT)
    kept = late(bootstrap, "by-time")
    assert kept[0] <= 3500 and kept[-1] == 5499, f"{kept[0]} to {kept[-1]} were kept"


def retention_by_size(bootstrap):
    """A topic that keeps a mebibyte keeps that, and not three."""
    now = int(time.time() * 1000)
    produce(bootstrap, [Record("by-size", 0, None, bytes(1000), now) for _ in range(3500)])
    begins_later(bootstrap, "by-size", 3500 - 2 * SEGMENT)
    kept = late(bootstrap, "by-size")
    assert len(kept) >= 1000 and kept[-1] == 3499, f"{kept[0]} to {kept[-1]} were kept"


if __name__ == "__main__":
    bootstrap = sys.argv[1]
    features.run(sys.modules[__name__], bootstrap)
    for check in (consumer_timeout, retention_by_time, retention_by_size):
        check(bootstrap)
        print("ok", check.__name__, flush=True)
