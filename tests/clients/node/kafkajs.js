// kafkajs as a client under test.
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const Cluster = require('kafkajs/src/cluster')
const { createLogger } = require('kafkajs/src/loggers')
const LoggerConsole = require('kafkajs/src/loggers/console')
const socketFactory = require('kafkajs/src/network/socketFactory')
const SnappyCodec = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')
const { ReadBack, pause, run } = require('./plan')

// kafkajs brings gzip alone. Its own packages for lz4 and zstd need a compiler, so these codecs come from elsewhere. The
// lz4 frames must have independent blocks: Kafka refuses others.
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
const zstd = new Promise((resolve) => ZstdCodec.run((codec) => resolve(new codec.Simple())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

/** Records of one send: one batch a partition at most. */
const BATCH = 500

/** A connection is there in a moment, but a process that is kept from running sees it later. In milliseconds. */
const CONNECTION_TIMEOUT = 30000

const kafka = (plan, retries) =>
  new Kafka({
    brokers: [plan.bootstrap],
    logLevel: logLevel.NOTHING,
    connectionTimeout: CONNECTION_TIMEOUT,
    retry: { retries, maxRetryTime: 1000 },
  })

const create = async (plan) => {
  const admin = kafka(plan, 5).admin()
  await admin.connect()
  const topics = plan.topics.map(({ name }) => ({ topic: name, numPartitions: plan.partitions, replicationFactor: 1 }))
  // Five seconds are the default, and what is asked again after them is there already.
  if (!(await admin.createTopics({ topics, timeout: 60000 }))) throw new Error('topics were not created')
  await admin.createTopics({ topics: topics.slice(0, 1) }).then((created) => console.log(`existing=${created}`))
  const listed = await admin.listTopics()
  for (const { name } of plan.topics) if (!listed.includes(name)) throw new Error(`${name} is not listed`)
  await admin.disconnect()
}

const write = async (plan) => {
  const producers = []
  for (const { idempotent } of plan.topics) {
    const producer = kafka(plan, 60).producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: false })
    await producer.connect()
    producers.push(producer)
  }
  for (const [from, to] of [
    [0, plan.half],
    [plan.half, plan.records.length],
  ]) {
    for (const [index, { name, codec, idempotent }] of plan.topics.entries()) {
      for (let start = from; start < to; start += BATCH) {
        await producers[index].send({
          topic: name,
          acks: idempotent ? -1 : 1,
          compression: CODECS[codec],
          messages: plan.records.slice(start, Math.min(start + BATCH, to)),
        })
      }
    }
    if (from === 0) await pause()
  }
  for (const producer of producers) await producer.disconnect()
}

/**
 * kafkajs consumes through consumer groups only. Below them is its own fetch, which this takes with its own decoding.
 */
const read = async (plan) => {
  const cluster = new Cluster({
    logger: createLogger({ level: logLevel.ERROR, logCreator: LoggerConsole }),
    socketFactory: socketFactory(),
    brokers: [plan.bootstrap],
    connectionTimeout: CONNECTION_TIMEOUT,
    enforceRequestTimeout: true,
  })
  const admin = kafka(plan, 5).admin()
  await admin.connect()
  await cluster.connect()
  for (const { name } of plan.topics) {
    await cluster.addTargetTopic(name)
    const back = new ReadBack(plan, name)
    const leaders = new Map(cluster.findTopicPartitionMetadata(name).map((one) => [one.partitionId, one.leader]))
    for (const { partition, high } of await admin.fetchTopicOffsets(name)) {
      const broker = await cluster.findBroker({ nodeId: leaders.get(partition) })
      for (let next = 0n; next < BigInt(high); ) {
        const partitions = [{ partition, fetchOffset: next.toString(), maxBytes: 1 << 20 }]
        const { responses } = await broker.fetch({ maxWaitTime: 500, topics: [{ topic: name, partitions }] })
        for (const message of responses[0].partitions[0].messages) {
          // A batch is answered whole, so it may begin before the offset that was asked for.
          if (BigInt(message.offset) < next) continue
          back.add(partition, message)
          next = BigInt(message.offset) + 1n
        }
      }
    }
    back.close()
  }
  await cluster.disconnect()
  await admin.disconnect()
}

const refuse = async (plan) => {
  const producer = kafka(plan, 1).producer({ allowAutoTopicCreation: false, retry: { retries: 1 } })
  await producer.connect()
  const seen = (error) => error.type || error.cause?.type || error.originalError?.type || error.name
  const large = Buffer.alloc(plan.large_bytes)
  for (const [what, topic, value] of [
    ['missing', plan.missing_topic, 'v'],
    ['large', plan.topics[0].name, large],
  ]) {
    await producer.send({ topic, messages: [{ key: 'k', value }] }).catch((error) => console.log(`${what}=${seen(error)}`))
  }
  await producer.disconnect()
}

run({ create, write, read, refuse })
