"""aiokafka as a client under test."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

import plan as p


async def create(plan):
    admin = AIOKafkaAdminClient(bootstrap_servers=plan.bootstrap)
    await admin.start()
    names = [topic["name"] for topic in plan.topics]
    answer = await admin.create_topics([NewTopic(name, plan.partitions, 1) for name in names])
    for name, code, message in answer.topic_errors:
        assert code == 0, f"{name}: {code} {message}"
    answer = await admin.create_topics([NewTopic(names[0], plan.partitions, 1)])
    for _, code, _ in answer.topic_errors:
        p.refused("existing", for_code(code).__name__)
    # Kafka's broker learns of a creation a moment after its controller.
    for _ in range(100):
        missing = p.missing_topics(plan, await admin.list_topics())
        if not missing:
            break
        await asyncio.sleep(0.1)
    assert not missing, f"not listed: {missing}"
    await admin.close()


async def write(plan):
    producers = []
    for topic in plan.topics:
        client = AIOKafkaProducer(
            bootstrap_servers=plan.bootstrap,
            compression_type=None if topic["codec"] == "none" else topic["codec"],
            enable_idempotence=topic["idempotent"],
            acks="all" if topic["idempotent"] else 1,
            linger_ms=5,
        )
        await client.start()
        producers.append((topic["name"], client))
    for part in (plan.records[: plan.half], plan.records[plan.half :]):
        for name, client in producers:
            sent = [
                await client.send(name, key=key, value=value, timestamp_ms=timestamp, headers=headers)
                for timestamp, key, value, headers in part
            ]
            await asyncio.gather(*sent)
        if part and part[0] is plan.records[0]:
            p.pause()
    for _, client in producers:
        await client.stop()


async def read(plan):
    consumer = AIOKafkaConsumer(bootstrap_servers=plan.bootstrap, enable_auto_commit=False, group_id=None)
    await consumer.start()
    for topic in plan.topics:
        partitions = [TopicPartition(topic["name"], partition) for partition in range(plan.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        back = p.ReadBack(plan, topic["name"])
        remaining = set(partitions)
        while remaining:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    back.add(
                        record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
                    )
            remaining = {one for one in remaining if await consumer.position(one) < ends[one]}
        back.close()
    await consumer.stop()


async def refuse(plan):
    for what, name, size, timeout_ms in (
        # The client gives a topic up that has not come in this time.
        ("missing", plan.missing_topic, 1, 3000),
        ("large", plan.topics[0]["name"], plan.large_bytes, 40000),
    ):
        client = AIOKafkaProducer(
            bootstrap_servers=plan.bootstrap,
            max_request_size=8 << 20,
            max_batch_size=8 << 20,
            request_timeout_ms=timeout_ms,
        )
        await client.start()
        try:
            await client.send_and_wait(name, key=b"k", value=bytes(size))
        except KafkaError as error:
            p.refused(what, type(error).__name__)
        await client.stop()


def verb(run):
    return lambda plan: asyncio.run(run(plan))


p.run({"create": verb(create), "write": verb(write), "read": verb(read), "refuse": verb(refuse)})
