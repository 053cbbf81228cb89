// Starts the program under test and connects MQTT.js clients to it. MARTLET_BIN names the program;
// without it, what `cargo build` makes: debug/martlet in CARGO_TARGET_DIR, else in target. Every node has a data directory of its own
// and ports that the system chose.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import mqtt from 'mqtt'

const target =
  process.env.CARGO_TARGET_DIR || fileURLToPath(new URL('../../target', import.meta.url))
const binary = process.env.MARTLET_BIN || join(target, 'debug/martlet')

/** Starts a node; resolves when it has announced its listeners. */
export async function startNode(settings = []) {
  if (!existsSync(binary)) {
    throw new Error(`${binary} is not there: run cargo build -p martlet, or set MARTLET_BIN`)
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'martlet-test-'))
  const options = ['--data-dir', dataDir, '--http', 'off', '--log-level', 'warn']
  options.push('--listen', 'mqtt://127.0.0.1:0', '--listen', 'ws://127.0.0.1:0/mqtt')
  for (const setting of settings) options.push('--set', setting)
  const child = spawn(binary, ['serve', ...options], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  process.on('exit', () => child.kill('SIGKILL'))
  const urls = {}
  for await (const line of createInterface({ input: child.stdout })) {
    const listening = line.match(/listening on ((mqtt|ws):\S+)/)
    if (listening) urls[listening[2]] = listening[1]
    if (line.startsWith('See how it is')) break
  }
  if (!urls.mqtt || !urls.ws) throw new Error('the node did not start')
  return {
    urls,
    /** SIGTERM; resolves to the exit status. */
    async stop() {
      child.kill('SIGTERM')
      const [status] = await exit
      rmSync(dataDir, { recursive: true, force: true })
      return status
    },
  }
}

/** A client of MQTT.js, connected; `next()` resolves to its next message. */
export async function connect(url, options = {}) {
  const client = mqtt.connect(url, { reconnectPeriod: 0, connectTimeout: 10_000, ...options })
  const waiting = []
  const arrived = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload, packet }
    const taker = waiting.shift()
    if (taker) taker(message)
    else arrived.push(message)
  })
  client.next = () => {
    if (arrived.length > 0) return Promise.resolve(arrived.shift())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no message came')), 10_000)
      waiting.push((message) => {
        clearTimeout(timer)
        resolve(message)
      })
    })
  }
  /** A message to itself comes next, so none was before it. */
  client.expectNothing = async () => {
    const fence = `fence/${Math.random()}`
    await client.subscribeAsync(fence, { qos: 1 })
    await client.publishAsync(fence, 'fence', { qos: 1 })
    const { topic } = await client.next()
    if (topic !== fence) throw new Error(`a message on ${topic}`)
  }
  const [connack] = await Promise.race([
    once(client, 'connect'),
    once(client, 'error').then(([error]) => Promise.reject(error)),
  ])
  client.connack = connack
  return client
}
