"""confluent-kafka (librdkafka) as a client under test."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import plan as p


def create(plan):
    admin = AdminClient({"bootstrap.servers": plan.bootstrap})
    names = [topic["name"] for topic in plan.topics]
    for future in admin.create_topics([NewTopic(name, plan.partitions, 1) for name in names]).values():
        future.result()
    try:
        admin.create_topics([NewTopic(names[0], plan.partitions, 1)])[names[0]].result()
    except KafkaException as error:
        p.refused("existing", error.args[0].name())
    # Kafka's broker learns of a creation a moment after its controller.
    for _ in range(100):
        missing = p.missing_topics(plan, admin.list_topics(timeout=10).topics)
        if not missing:
            return
        time.sleep(0.1)
    raise AssertionError(f"not listed: {missing}")


def producer(plan, **settings):
    settings = {name.replace("_", "."): value for name, value in settings.items()}
    return Producer({"bootstrap.servers": plan.bootstrap, "linger.ms": 5, **settings})


class Delivery:
    """Counts acknowledgements and keeps the first error."""

    def __init__(self):
        self.delivered = 0
        self.error = None

    def __call__(self, error, _message):
        self.delivered += 1
        self.error = self.error or error


def write(plan):
    producers = []
    for topic in plan.topics:
        settings = {"enable_idempotence": topic["idempotent"]}
        if not topic["idempotent"]:
            settings.update(acks=1, max_in_flight=1)
        producers.append((topic["name"], producer(plan, compression_type=topic["codec"], **settings)))
    for part in (plan.records[: plan.half], plan.records[plan.half :]):
        for name, client in producers:
            delivery = Delivery()
            for timestamp, key, value, headers in part:
                client.produce(
                    name, key=key, value=value, timestamp=timestamp, headers=headers, on_delivery=delivery
                )
                client.poll(0)
            client.flush()
            assert delivery.error is None, delivery.error
            assert delivery.delivered == len(part), delivery.delivered
        if part and part[0] is plan.records[0]:
            p.pause()


def read(plan):
    consumer = Consumer(
        {"bootstrap.servers": plan.bootstrap, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True}
    )
    for topic in plan.topics:
        name = topic["name"]
        consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in range(plan.partitions)])
        remaining = 0
        for partition in range(plan.partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
            remaining += high - low
        back = p.ReadBack(plan, name)
        while remaining:
            for message in consumer.consume(500, timeout=1):
                if message.error():
                    raise KafkaException(message.error())
                _, timestamp = message.timestamp()
                back.add(
                    message.partition(), message.offset(), timestamp, message.key(), message.value(), message.headers()
                )
                remaining -= 1
        back.close()
    consumer.close()


def refuse(plan):
    for what, name, size in (("missing", plan.missing_topic, 1), ("large", plan.topics[0]["name"], plan.large_bytes)):
        client = producer(plan, message_max_bytes=8 << 20, topic_metadata_propagation_max_ms=1000)
        delivery = Delivery()
        client.produce(name, key=b"k", value=bytes(size), on_delivery=delivery)
        client.flush()
        if delivery.error:
            p.refused(what, delivery.error.name())


p.run({"create": create, "write": write, "read": read, "refuse": refuse})
