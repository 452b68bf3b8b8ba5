"""The checks of features.py by aiokafka, each call driven to its end on one event loop."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

import features
from features import Record

loop = asyncio.new_event_loop()


def produce(bootstrap, records):
    async def send():
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
        await producer.start()
        sent = [
            await producer.send(
                record.topic,
                key=record.key,
                value=record.value,
                headers=record.headers,
                timestamp_ms=record.timestamp,
                partition=None if record.partition < 0 else record.partition,
            )
            for record in records
        ]
        placed = [await future for future in sent]
        await producer.stop()
        return [(metadata.partition, metadata.offset) for metadata in placed]

    return loop.run_until_complete(send())


class Consumer:
    def __init__(self, bootstrap, topic, group, reset, auto_commit_ms):
        self.topic = topic

        async def start():
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=bootstrap,
                group_id=group,
                auto_offset_reset=reset,
                enable_auto_commit=auto_commit_ms is not None,
                auto_commit_interval_ms=auto_commit_ms or 5000,
            )
            await consumer.start()
            return consumer

        self.consumer = loop.run_until_complete(start())

    def poll(self):
        parts = loop.run_until_complete(self.consumer.getmany(timeout_ms=200))
        return [
            Record(r.topic, r.partition, r.key, r.value, r.timestamp, list(r.headers), r.offset)
            for part in parts.values()
            for r in part
        ]

    def at(self, partition):
        return TopicPartition(self.topic, partition)

    def committed(self, partition):
        return loop.run_until_complete(self.consumer.committed(self.at(partition)))

    def commit(self, offsets):
        if offsets is not None:
            offsets = {self.at(partition): offset for partition, offset in offsets.items()}
        loop.run_until_complete(self.consumer.commit(offsets))

    def seek(self, partition, offset):
        self.consumer.seek(self.at(partition), offset)

    def pause(self, partition):
        self.on_loop(lambda: self.consumer.pause(self.at(partition)))

    def resume(self, partition):
        self.on_loop(lambda: self.consumer.resume(self.at(partition)))

    @staticmethod
    def on_loop(call):
        """Runs what is no coroutine and wants a running loop all the same."""

        async def run():
            call()

        loop.run_until_complete(run())

    def for_time(self, partition, timestamp):
        found = loop.run_until_complete(self.consumer.offsets_for_times({self.at(partition): timestamp}))
        found = found[self.at(partition)]
        return found and found.offset

    def close(self):
        loop.run_until_complete(self.consumer.stop())


if __name__ == "__main__":
    features.run(sys.modules[__name__], sys.argv[1])
