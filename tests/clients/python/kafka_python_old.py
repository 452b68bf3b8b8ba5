"""kafka-python 1.4 and 2.0 as clients under test. `WEIR_BROKER_VERSION` is the version that they take the broker for; where
it is empty they find out."""

import os

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import plan as p

VERSION = os.environ["WEIR_BROKER_VERSION"]
SETTINGS = {"api_version": tuple(map(int, VERSION.split(".")))} if VERSION else {}


def write(plan):
    for topic in plan.topics:
        codec = None if topic["codec"] == "none" else topic["codec"]
        producer = KafkaProducer(
            bootstrap_servers=plan.bootstrap,
            compression_type=codec,
            acks=1,
            linger_ms=5,
            max_in_flight_requests_per_connection=1,
            **SETTINGS,
        )
        sent = [
            producer.send(topic["name"], key=key, value=value, timestamp_ms=timestamp)
            for timestamp, key, value, _ in plan.records
        ]
        producer.flush()
        for future in sent:
            future.get(timeout=60)
        producer.close()


def read(plan):
    consumer = KafkaConsumer(bootstrap_servers=plan.bootstrap, enable_auto_commit=False, group_id=None, **SETTINGS)
    for topic in plan.topics:
        partitions = [TopicPartition(topic["name"], partition) for partition in range(plan.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        back = p.ReadBack(plan, topic["name"])
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    timestamp = -1 if record.timestamp is None else record.timestamp
                    back.add(record.partition, record.offset, timestamp, record.key, record.value, [])
        back.close()
    consumer.close()


p.run({"write": write, "read": read})
