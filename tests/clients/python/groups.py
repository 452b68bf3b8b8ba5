"""Two consumers of a group: `groups.py CLIENT BOOTSTRAP TOPIC GROUP COUNT`.

They share the partitions, say so, and read COUNT records whenever a line on standard input says that those have been
written. Each record is read once. What was committed at the end is said as one number.
"""

import sys

client, bootstrap, topic, group, count = sys.argv[1:]
count = int(count)


class KafkaPython:
    def __init__(self):
        from kafka import KafkaConsumer

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
        return sum(self.consumer.committed(partition) or 0 for partition in self.consumer.assignment())

    def close(self):
        self.consumer.close()


class Confluent:
    def __init__(self):
        from confluent_kafka import Consumer

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
        return sum(max(at.offset, 0) for at in self.consumer.committed(self.consumer.assignment(), timeout=30))

    def close(self):
        self.consumer.close()


consumers = [{"kafka-python": KafkaPython, "confluent-kafka": Confluent}[client]() for _ in range(2)]
while not all(consumer.assigned() == 3 for consumer in consumers):
    for consumer in consumers:
        assert not consumer.poll(), "there is nothing to read yet"
seen = set()
for turn in range(2):
    print(f"WAITING {turn + 1}", flush=True)
    sys.stdin.readline()
    shares = [0, 0]
    while len(seen) < count * (turn + 1):
        for number, consumer in enumerate(consumers):
            records = consumer.poll()
            assert seen.isdisjoint(records), "a record is read twice"
            seen.update(records)
            shares[number] += len(records)
    assert all(shares), f"one has read everything: {shares}"
    for consumer in consumers:
        consumer.commit()
print(f"COMMITTED {sum(consumer.committed() for consumer in consumers)}", flush=True)
for consumer in consumers:
    consumer.close()
