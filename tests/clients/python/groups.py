"""Two consumers of a group: `groups.py CLIENT BOOTSTRAP TOPIC GROUP COUNT`.

They share the partitions, say so, and read COUNT records whenever a line on standard input says that those have been
written. Each record is read once. What was committed at the end is said as one number.

A rebalance may come at any time, and does come where a client has lost its broker and finds another one: so what was read is
committed before the next poll, and whom a partition then goes to does not read it again. Each consumer has a thread of its
own, since a rebalance waits for both.
"""

import queue
import sys
import threading

client, bootstrap, topic, group, count = sys.argv[1:]
count = int(count)


class KafkaPython:
    def __init__(self):
        from kafka import KafkaConsumer, TopicPartition

        self.partition = TopicPartition
        self.consumer = KafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
        )

    def poll(self):
        # A rebalance that ends between two polls is lost on kafka-python 3.0: so a poll is longer than one takes.
        polled = self.consumer.poll(timeout_ms=5000)
        return [(record.partition, record.offset) for records in polled.values() for record in records]

    def assigned(self):
        return len(self.consumer.assignment())

    def commit(self):
        self.consumer.commit()

    def committed(self):
        partitions = self.consumer.partitions_for_topic(topic)
        return sum(self.consumer.committed(self.partition(topic, partition)) or 0 for partition in partitions)

    def close(self):
        self.consumer.close()


class Confluent:
    def __init__(self):
        from confluent_kafka import Consumer, TopicPartition

        self.partition = TopicPartition
        settings = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "group.protocol": "classic"}
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **settings})
        self.consumer.subscribe([topic])

    def poll(self):
        polled = self.consumer.consume(500, timeout=0.1)
        return [(record.partition(), record.offset()) for record in polled if not record.error()]

    def assigned(self):
        return len(self.consumer.assignment())

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def committed(self):
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        partitions = [self.partition(topic, partition) for partition in partitions]
        return sum(max(at.offset, 0) for at in self.consumer.committed(partitions, timeout=30))

    def close(self):
        self.consumer.close()


MEMBERS = 2
# What the members tell: number, partitions that it has, records that it has read and committed; or number and an error.
told = queue.SimpleQueue()
ended = threading.Event()


def follow(number, consumer):
    try:
        while not ended.is_set():
            records = consumer.poll()
            if records:
                consumer.commit()
            told.put((number, consumer.assigned(), records))
        # The first one is asked once more what the group has committed.
        if number > 0:
            consumer.close()
    except BaseException as error:
        told.put((number, error))


consumers = [{"kafka-python": KafkaPython, "confluent-kafka": Confluent}[client]() for _ in range(MEMBERS)]
threads = [threading.Thread(target=follow, args=member, daemon=True) for member in enumerate(consumers)]
assigned = [0] * MEMBERS
shares = [0] * MEMBERS
seen = set()


def listen_until(reached):
    while not reached():
        number, *news = told.get()
        if len(news) == 1:
            raise news[0]
        assigned[number], records = news
        assert seen.isdisjoint(records), f"read twice: {seen.intersection(records)}"
        seen.update(records)
        shares[number] += len(records)


def shared():
    return assigned == [3, 3]


for thread in threads:
    thread.start()
listen_until(shared)
assert not seen, "there is nothing to read yet"
for turn in range(2):
    print(f"WAITING {turn + 1}", flush=True)
    sys.stdin.readline()
    shares = [0] * MEMBERS
    listen_until(lambda: len(seen) >= count * (turn + 1) and shared())
    assert all(shares), f"one has read everything: {shares}"
ended.set()
for thread in threads:
    thread.join()
print(f"COMMITTED {consumers[0].committed()}", flush=True)
consumers[0].close()
