"""The tutorial of numbers that go through Kafka into MongoDB.

`number_store.py produce BOOTSTRAP FIRST LAST` sends the numbers as JSON, each by itself.
`number_store.py store DATABASE CRASH_AFTER` and then the arguments of a group's member (tests/scenarios/group.rs) stores each
number together with the partition and offset that it came from. Where a partition goes on is what the database says, so a
number is stored once even when the member died between storing it and committing. With a CRASH_AFTER above 0 the member
dies right there, after it has stored so many numbers. It prints `resume PARTITION COMMITTED STORED` where it goes on.
`number_store.py read DATABASE` prints `PARTITION OFFSET NUMBER` for each number stored.
"""

import json
import os
import signal
import sys

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer
from pymongo import ASCENDING, DESCENDING, MongoClient

from member import input_has_ended, print_assigned, print_committed, print_record

TOPIC = "numtest"


def produce(bootstrap, first, last):
    producer = KafkaProducer(bootstrap_servers=[bootstrap])
    sent = [producer.send(TOPIC, value=json.dumps({"number": number}).encode()) for number in range(int(first), int(last) + 1)]
    producer.flush()
    for future in sent:
        future.get(timeout=60)
    producer.close()


def collection(database):
    return MongoClient(database).numtest.numtest


class Resume(ConsumerRebalanceListener):
    """Goes on where the database says."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.stored = {}

    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        for partition in assigned:
            last = self.numbers.find_one({"partition": partition.partition}, sort=[("offset", DESCENDING)])
            self.stored[partition] = last["offset"] + 1 if last else 0
            consumer.seek(partition, self.stored[partition])
        print_assigned(partition.partition for partition in consumer.assignment())

    def report(self):
        """Says what the broker knows; the listener itself may not wait for the broker."""
        for partition, stored in self.stored.items():
            print("resume", partition.partition, consumer.committed(partition) or 0, stored, flush=True)
        self.stored = {}


def store(database, crash_after, bootstrap, topic, group):
    global consumer
    consumer = KafkaConsumer(
        bootstrap_servers=[bootstrap],
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
        max_poll_records=20,
    )
    numbers = collection(database)
    resume = Resume(numbers)
    consumer.subscribe([topic], listener=resume)
    crash_after = int(crash_after)
    stored = 0
    ended = input_has_ended()
    while not ended.is_set():
        # A rebalance that ends between two polls is lost on kafka-python 3.0: so a poll is longer than one takes. For good it
        # loses the second of those at the beginning, when it has found its topic.
        polled = consumer.poll(timeout_ms=2000 if consumer.assignment() else 10000)
        records = [record for part in polled.values() for record in part]
        numbers_read = [json.loads(record.value)["number"] for record in records]
        resume.report()
        if not records:
            continue
        numbers.insert_many(
            {
                "_id": f"{record.partition}-{record.offset}",
                "partition": record.partition,
                "offset": record.offset,
                "number": number,
            }
            for record, number in zip(records, numbers_read)
        )
        for record, number in zip(records, numbers_read):
            print_record(record.partition, record.offset, None, str(number).encode())
        stored += len(records)
        if 0 < crash_after <= stored:
            os.kill(os.getpid(), signal.SIGKILL)
        consumer.commit()
        print_committed()
    consumer.close()


def read(database):
    for number in collection(database).find().sort([("partition", ASCENDING), ("offset", ASCENDING)]):
        print(number["partition"], number["offset"], number["number"])


verb, *arguments = sys.argv[1:]
{"produce": produce, "store": store, "read": read}[verb](*arguments)
