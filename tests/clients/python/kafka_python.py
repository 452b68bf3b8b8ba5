"""kafka-python as a client under test."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

import plan as p


def create(plan):
    admin = KafkaAdminClient(bootstrap_servers=plan.bootstrap)
    names = [topic["name"] for topic in plan.topics]
    admin.create_topics({name: {"num_partitions": plan.partitions, "replication_factor": 1} for name in names})
    admin.wait_for_topics(names)
    try:
        admin.create_topics({names[0]: {"num_partitions": plan.partitions, "replication_factor": 1}})
    except KafkaError as error:
        p.refused("existing", type(error).__name__)
    assert not p.missing_topics(plan, admin.list_topics())
    admin.close()


def producer(plan, **settings):
    return KafkaProducer(bootstrap_servers=plan.bootstrap, allow_auto_create_topics=False, linger_ms=5, **settings)


def write(plan):
    producers = []
    for topic in plan.topics:
        codec = None if topic["codec"] == "none" else topic["codec"]
        settings = {"enable_idempotence": topic["idempotent"]}
        if not topic["idempotent"]:
            settings.update(acks=1, max_in_flight_requests_per_connection=1)
        producers.append((topic["name"], producer(plan, compression_type=codec, **settings)))
    for part in (plan.records[: plan.half], plan.records[plan.half :]):
        for name, client in producers:
            sent = [
                client.send(name, key=key, value=value, timestamp_ms=timestamp, headers=headers)
                for timestamp, key, value, headers in part
            ]
            client.flush()
            for future in sent:
                future.get(timeout=60)
        if part and part[0] is plan.records[0]:
            p.pause()
    for _, client in producers:
        client.close()


def read(plan):
    consumer = KafkaConsumer(bootstrap_servers=plan.bootstrap, enable_auto_commit=False, group_id=None)
    for topic in plan.topics:
        partitions = [TopicPartition(topic["name"], partition) for partition in range(plan.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        back = p.ReadBack(plan, topic["name"])
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    back.add(
                        record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
                    )
        back.close()
    consumer.close()


def refuse(plan):
    client = producer(plan, max_block_ms=3000)
    try:
        client.send(plan.missing_topic, key=b"k", value=b"v").get(timeout=30)
    except KafkaError as error:
        p.refused("missing", type(error).__name__)
    client.close()
    client = producer(plan, max_request_size=8 << 20)
    try:
        client.send(plan.topics[0]["name"], key=b"k", value=bytes(plan.large_bytes)).get(timeout=30)
    except KafkaError as error:
        p.refused("large", type(error).__name__)
    client.close()


p.run({"create": create, "write": write, "read": read, "refuse": refuse})
