// A group's member by kafkajs: `member.js BOOTSTRAP TOPIC GROUP`; see tests/scenarios/group.rs for what members print.
'use strict'

const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, topic, groupId] = process.argv.slice(2)
// A connection is there in a moment, but a process that is kept from running sees it later.
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR, connectionTimeout: 30000 })
const consumer = kafka.consumer({
  groupId,
  sessionTimeout: 6000,
  heartbeatInterval: 500,
  // Heartbeats are sent between fetches, which would take 5 s each where nothing comes.
  maxWaitTimeInMs: 500,
  allowAutoTopicCreation: false,
})

const main = async () => {
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = [...(payload.memberAssignment[topic] ?? [])].sort((a, b) => a - b)
    console.log(`assigned ${partitions.join(',') || '-'}`)
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error)
    if (!payload.restart) process.exit(1)
  })
  // What a batch has resolved is committed behind it.
  await consumer.run({
    eachBatch: async ({ batch, resolveOffset }) => {
      for (const { offset, key, value } of batch.messages) {
        console.log(`record ${batch.partition} ${offset} ${key ?? '-'} ${value}`)
        resolveOffset(offset)
      }
    },
  })
  process.stdin.resume()
  process.stdin.on('end', () => consumer.disconnect().then(() => process.exit(0)))
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
