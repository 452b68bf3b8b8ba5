// What a client program is told to do, and the notation of records in files; see harness/src/workload.rs.
'use strict'

const fs = require('fs')
const readline = require('readline')

/** Runs the verb and the plan that the command line names. */
exports.run = (verbs) => {
  const [verb, path] = process.argv.slice(2)
  const plan = JSON.parse(fs.readFileSync(path, 'utf8'))
  plan.records = fs.readFileSync(plan.workload, 'utf8').trimEnd().split('\n').map(parse)
  verbs[verb](plan).then(
    () => process.exit(0),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
}

/** Says that all is acknowledged so far and waits for the word to go on; the broker restarts meanwhile. */
exports.pause = async () => {
  const lines = readline.createInterface({ input: process.stdin })
  console.log('PAUSED')
  await new Promise((resolve) => lines.once('line', resolve))
  lines.close()
}

const parse = (line) => {
  const [timestamp, key, value, headers] = line.split('\t')
  return { timestamp, key: unhex(key), value: unhex(value), headers: headers === '-' ? {} : parseHeaders(headers) }
}

/** Names to one value or, where a name comes twice, to a list. */
const parseHeaders = (text) => {
  const headers = {}
  for (const header of text.split(';')) {
    const [name, hex] = header.split(':')
    const value = unhex(hex)
    if (name in headers) headers[name] = [headers[name], value].flat()
    else headers[name] = value
  }
  return headers
}

const unhex = (text) => (text === '-' ? null : Buffer.from(text, 'hex'))
const tohex = (bytes) => (bytes === null ? '-' : bytes.toString('hex'))

/** The file that takes what was read back from one topic. */
exports.ReadBack = class {
  constructor(plan, topic) {
    this.path = `${plan.out}/${topic}.tsv`
    this.lines = []
  }

  add(partition, { offset, timestamp, key, value, headers }) {
    const named = Object.entries(headers || {}).flatMap(([name, values]) =>
      [values].flat().map((bytes) => `${name}:${tohex(bytes)}`),
    )
    this.lines.push(
      [partition, offset, timestamp, tohex(key), tohex(value), named.length ? named.join(';') : '-'].join('\t') + '\n',
    )
  }

  close() {
    fs.writeFileSync(this.path, this.lines.join(''))
  }
}
