// MQTT.js over TCP and over WebSocket, in 3.1.1 and 5: what most programs in JavaScript use.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import mqtt from 'mqtt'
import { connect, startNode } from '../martlet.js'

let node

before(async () => {
  node = await startNode()
})

after(async () => {
  assert.equal(await node.stop(), 0)
})

for (const transport of ['mqtt', 'ws']) {
  for (const protocolVersion of [4, 5]) {
    describe(`${transport}, protocol level ${protocolVersion}`, () => {
      const name = `${transport}-${protocolVersion}`
      const open = (clientId, options) =>
        connect(node.urls[transport], { clientId: `${name}-${clientId}`, protocolVersion, ...options })
      const persistent = (clientId) =>
        open(clientId, { clean: false, properties: { sessionExpiryInterval: 600 } })

      for (const qos of [0, 1, 2]) {
        test(`a message arrives with QoS ${qos}`, async () => {
          const client = await open(`qos${qos}`)
          const [granted] = await client.subscribeAsync(`${name}/q${qos}/#`, { qos })
          assert.equal(granted.qos, qos)
          await client.publishAsync(`${name}/q${qos}/a`, 'hello', { qos })
          const { topic, payload, packet } = await client.next()
          assert.equal(topic, `${name}/q${qos}/a`)
          assert.equal(payload.toString(), 'hello')
          assert.deepEqual([packet.qos, packet.retain, packet.dup], [qos, false, false])
          await client.endAsync()
        })
      }

      test('payloads at the boundaries of frame and packet lengths arrive', async () => {
        const client = await open('sizes')
        await client.subscribeAsync(`${name}/sizes`, { qos: 1 })
        for (const size of [0, 1, 100, 125, 126, 127, 16_383, 65_535, 65_536, 500_000]) {
          const sent = Buffer.alloc(size, size % 251)
          await client.publishAsync(`${name}/sizes`, sent, { qos: 1 })
          const { payload } = await client.next()
          assert.ok(sent.equals(payload), `${size} bytes`)
        }
        await client.endAsync()
      })

      test('a burst arrives whole and in order', async () => {
        const client = await open('burst')
        await client.subscribeAsync(`${name}/burst`, { qos: 1 })
        const count = 1000
        const sent = []
        for (let i = 0; i < count; i++) {
          sent.push(client.publishAsync(`${name}/burst`, `${i}`, { qos: 1 }))
        }
        for (let i = 0; i < count; i++) {
          assert.equal((await client.next()).payload.toString(), `${i}`)
        }
        await Promise.all(sent)
        await client.endAsync()
      })

      test('a retained message is kept and removed', async () => {
        const client = await open('retained')
        const topic = `${name}/retained`
        await client.publishAsync(topic, 'kept', { qos: 1, retain: true })
        await client.subscribeAsync(topic, { qos: 1 })
        const { payload, packet } = await client.next()
        assert.deepEqual([payload.toString(), packet.retain], ['kept', true])
        await client.unsubscribeAsync(topic)
        await client.publishAsync(topic, '', { qos: 1, retain: true })
        await client.subscribeAsync(topic, { qos: 1 })
        await client.expectNothing()
        await client.endAsync()
      })

      test('the will is sent when the connection breaks', async () => {
        const watcher = await open('watcher')
        await watcher.subscribeAsync(`${name}/will`, { qos: 1 })
        const will = { topic: `${name}/will`, payload: Buffer.from('gone'), qos: 1, retain: false }
        const lost = await open('lost', { will })
        lost.stream.destroy()
        assert.equal((await watcher.next()).payload.toString(), 'gone')
        await lost.endAsync(true)
        await watcher.endAsync()
      })

      test('a session resumes with what came meanwhile', async () => {
        const first = await persistent('session')
        assert.equal(first.connack.sessionPresent, false)
        await first.subscribeAsync(`${name}/session`, { qos: 2 })
        await first.endAsync()
        const publisher = await open('publisher')
        for (let i = 0; i < 10; i++) {
          await publisher.publishAsync(`${name}/session`, `${i}`, { qos: 2 })
        }
        await publisher.endAsync()
        const second = await persistent('session')
        assert.equal(second.connack.sessionPresent, true)
        for (let i = 0; i < 10; i++) {
          assert.equal((await second.next()).payload.toString(), `${i}`)
        }
        await second.endAsync()
      })

      test('a second connection of the same name takes over', async () => {
        const older = await open('same')
        const closed = once(older, 'close')
        const newer = await open('same')
        await closed
        await newer.expectNothing()
        await newer.endAsync()
        await older.endAsync(true)
      })
    })
  }
}

describe('MQTT 5', () => {
  for (const transport of ['mqtt', 'ws']) {
    test(`properties arrive over ${transport}`, async () => {
      const client = await connect(node.urls[transport], { protocolVersion: 5, clientId: '' })
      assert.ok(client.connack.properties.assignedClientIdentifier)
      const topic = `properties/${transport}`
      await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 7 } })
      const properties = {
        payloadFormatIndicator: true,
        messageExpiryInterval: 60,
        contentType: 'text/plain',
        responseTopic: 'answer',
        correlationData: Buffer.from([0, 1, 255]),
        userProperties: { a: ['1', '2'], b: '3' },
      }
      await client.publishAsync(topic, 'hello', { qos: 1, properties })
      const got = { ...(await client.next()).packet.properties }
      assert.ok([59, 60].includes(got.messageExpiryInterval))
      assert.equal(got.subscriptionIdentifier, 7)
      assert.equal(got.contentType, 'text/plain')
      assert.equal(got.responseTopic, 'answer')
      assert.deepEqual(got.correlationData, properties.correlationData)
      assert.deepEqual({ ...got.userProperties }, properties.userProperties)
      await client.endAsync()
    })
  }

  test('aliases that MQTT.js gives by itself stand for their topics', async () => {
    const client = await connect(node.urls.mqtt, {
      protocolVersion: 5,
      autoAssignTopicAlias: true,
      properties: { topicAliasMaximum: 10 },
    })
    await client.subscribeAsync('alias/#', { qos: 1 })
    for (let i = 0; i < 20; i++) {
      await client.publishAsync(`alias/${i % 10}`, `${i}`, { qos: 1 })
      const { topic, payload } = await client.next()
      assert.equal(topic, `alias/${i % 10}`)
      assert.equal(payload.toString(), `${i}`)
    }
    await client.endAsync()
  })

  test('a refused subscription names its reason', async () => {
    const client = await connect(node.urls.mqtt, { protocolVersion: 5 })
    const suback = once(client, 'packetreceive')
    client.subscribe('$share//topic', () => {})
    const [packet] = await suback
    assert.deepEqual([packet.cmd, ...packet.granted], ['suback', 0x8f])
    await client.endAsync()
  })
})

describe('the way in', () => {
  test('a WebSocket on another path is refused', async () => {
    const client = mqtt.connect(node.urls.ws.replace('/mqtt', '/other'), { reconnectPeriod: 0 })
    client.on('connect', () => assert.fail('it was let in'))
    await once(client, 'close')
    await client.endAsync(true)
  })

  test('a client is told when the node stops', async () => {
    const own = await startNode()
    const client = await connect(own.urls.ws, { protocolVersion: 5 })
    const told = once(client, 'disconnect')
    const status = own.stop()
    const [packet] = await told
    assert.equal(packet.reasonCode, 0x8b)
    assert.equal(await status, 0)
    await client.endAsync(true)
  })
})
