"""The checks of features.py by confluent-kafka."""

import sys

from confluent_kafka import OFFSET_INVALID, Consumer as Client, KafkaException, Producer, TopicPartition

import features
from features import Record


def produce(bootstrap, records):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    placed = [None] * len(records)

    def delivered(number):
        def report(error, message):
            if error:
                raise KafkaException(error)
            placed[number] = (message.partition(), message.offset())

        return report

    for number, record in enumerate(records):
        producer.produce(
            record.topic,
            key=record.key,
            value=record.value,
            headers=record.headers,
            timestamp=record.timestamp,
            partition=record.partition,
            on_delivery=delivered(number),
        )
    producer.flush()
    return placed


class Consumer:
    def __init__(self, bootstrap, topic, group, reset, auto_commit_ms):
        self.topic = topic
        self.consumer = Client(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": reset,
                "enable.auto.commit": auto_commit_ms is not None,
                "auto.commit.interval.ms": auto_commit_ms or 5000,
            }
        )
        self.consumer.subscribe([topic])

    def poll(self):
        records = []
        for message in self.consumer.consume(num_messages=500, timeout=0.2):
            if message.error():
                raise KafkaException(message.error())
            records.append(
                Record(
                    message.topic(),
                    message.partition(),
                    message.key(),
                    message.value(),
                    message.timestamp()[1],
                    message.headers() or [],
                    message.offset(),
                )
            )
        return records

    def at(self, partition, offset=OFFSET_INVALID):
        return TopicPartition(self.topic, partition, offset)

    def committed(self, partition):
        [found] = self.consumer.committed([self.at(partition)], timeout=10)
        return None if found.offset < 0 else found.offset

    def commit(self, offsets):
        if offsets is None:
            self.consumer.commit(asynchronous=False)
        else:
            offsets = [self.at(partition, offset) for partition, offset in offsets.items()]
            self.consumer.commit(offsets=offsets, asynchronous=False)

    def seek(self, partition, offset):
        self.consumer.seek(self.at(partition, offset))

    def pause(self, partition):
        self.consumer.pause([self.at(partition)])

    def resume(self, partition):
        self.consumer.resume([self.at(partition)])

    def for_time(self, partition, timestamp):
        [found] = self.consumer.offsets_for_times([self.at(partition, timestamp)], timeout=10)
        return None if found.offset < 0 else found.offset

    def close(self):
        self.consumer.close()


if __name__ == "__main__":
    features.run(sys.modules[__name__], sys.argv[1])
