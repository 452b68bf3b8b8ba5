"""A fleet of devices that send by confluent-kafka: `sensors.py BOOTSTRAP TOPIC DEVICES MESSAGES`.

The key of a message is its device, its value counts from 0. It prints `sent KEY VALUE PARTITION OFFSET` for each that the
broker has taken, and `PAUSE 1` and `PAUSE 2`, each time when a third is sent, before it reads a line and goes on.
"""

import sys

from confluent_kafka import Producer

bootstrap, topic, devices, messages = sys.argv[1:]
devices, messages = int(devices), int(messages)
failures = []


def delivered(error, message):
    if error:
        failures.append(error)
        return
    print("sent", message.key().decode(), message.value().decode(), message.partition(), message.offset(), flush=True)


producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
for count in range(messages):
    for pause in (1, 2):
        if count == messages * pause // 3:
            producer.flush()
            print("PAUSE", pause, flush=True)
            sys.stdin.readline()
    for device in range(devices):
        producer.produce(topic, key=f"device-{device:03}", value=str(count), on_delivery=delivered)
    producer.poll(0)
producer.flush()
if failures:
    sys.exit(f"{len(failures)} messages were not delivered: {failures[0]}")
