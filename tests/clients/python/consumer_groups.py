"""Groups of the consumer protocol (KIP-848) by librdkafka. Argument: bootstrap servers."""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

RECORDS = 400
PATIENCE_S = 60


def until(what, holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"in vain: {what}")
    print(what, flush=True)


def main(servers):
    admin = AdminClient({"bootstrap.servers": servers})
    for created in admin.create_topics([NewTopic("shared", 4, 1)]).values():
        created.result()
    producer = Producer({"bootstrap.servers": servers})
    for number in range(RECORDS):
        producer.produce("shared", key=f"k{number}", value=str(number))
    producer.flush()

    read = {}

    def member():
        consumer = Consumer({
            "bootstrap.servers": servers,
            "group.id": "sharing",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        })
        consumer.subscribe(["shared"])
        return consumer

    def poll(*members):
        for consumer in members:
            message = consumer.poll(0.02)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            read[message.value()] = read.get(message.value(), 0) + 1
            consumer.commit(message, asynchronous=False)
        return [len(consumer.assignment()) for consumer in members]

    first, second = member(), member()
    until("both have half", lambda: poll(first, second) == [2, 2])
    until("everything is read", lambda: poll(first, second) and len(read) == RECORDS)
    first.close()
    until("the second has everything", lambda: poll(second) == [4])
    for number in range(RECORDS, 2 * RECORDS):
        producer.produce("shared", key=f"k{number}", value=str(number))
    producer.flush()
    until("the rest is read", lambda: poll(second) and len(read) == 2 * RECORDS)
    second.close()
    # What was read and not committed when a partition moved may come twice; a record is committed before the next.
    again = {value: count for value, count in read.items() if count > 1}
    assert not again, f"read again: {again}"
    print("done")


main(sys.argv[1])
