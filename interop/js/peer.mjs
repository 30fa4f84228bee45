// A peer of the swarm on js-libp2p: it hears announcements and makes its own.
//
//     node peer.mjs --network ID --ledger-size N [--listen MULTIADDR]...
//
// A circuit may be listened on (`RELAY/p2p-circuit`) and dialled (`RELAY/p2p-circuit/p2p/PEER`). Commands are JSON lines
// on stdin: {"do": "dial", "address"}, {"do": "ping", "peer"}, {"do": "announce", "songs": [{"index", "content"}]},
// {"do": "add", "index", "content"}, {"do": "remove", "content"}, {"do": "goodbye"}, {"do": "publish", "bytes"}. What
// happens is JSON lines on stdout. The end of stdin ends the peer.
import './with-resolvers.mjs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { gossipsub, StrictSign, TopicValidatorResult } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { blake3 } from '@noble/hashes/blake3.js'
import { createLibp2p } from 'libp2p'
import { Library, decode, encode, fromHex, toJson } from './announcement.mjs'
import { PROTOCOL, answer, greet } from './library.mjs'

/// From one announcement to the next, as long as nothing happens: others forget a silent peer after 12.5 s.
const HEARTBEAT_MS = 2_000

const { values: options } = parseArgs({
  options: {
    network: { type: 'string' },
    'ledger-size': { type: 'string', default: '0' },
    listen: { type: 'string', multiple: true, default: [] }
  }
})
const network = fromHex(options.network ?? '', 32)
const topic = `/antiphon/${options.network}/swarm/0`
const library = new Library(options['ledger-size'])

function tell (event, details) {
  process.stdout.write(JSON.stringify({ event, ...details }) + '\n')
}

const failed = what => error => tell('error', { what, text: String(error?.stack ?? error) })

/** What all peers call a message: 16 bytes of BLAKE3 over its author and its envelope's sequence. */
function messageId (message) {
  const sequence = Buffer.alloc(8)
  sequence.writeBigUInt64BE(message.sequenceNumber)
  return blake3(Buffer.concat([message.from.toMultihash().bytes, sequence])).subarray(0, 16)
}

/** The QUIC transport, where there is a build of it for this machine. */
async function quicIfAny () {
  try {
    const { quic } = await import('@chainsafe/libp2p-quic')
    return [quic()]
  } catch {
    return []
  }
}

const quic = await quicIfAny()
const canListen = address => quic.length > 0 || !address.includes('/quic-v1')
const node = await createLibp2p({
  addresses: { listen: options.listen.filter(canListen) },
  transports: [tcp(), circuitRelayTransport(), ...quic],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    gossip: gossipsub({ globalSignaturePolicy: StrictSign, allowPublishToZeroTopicPeers: true, msgIdFn: messageId })
  }
})
const gossip = node.services.gossip

// What is no announcement is neither shown nor passed on.
gossip.topicValidators.set(topic, (_from, message) => {
  try {
    decode(message.data)
    return TopicValidatorResult.Accept
  } catch {
    return TopicValidatorResult.Reject
  }
})
gossip.addEventListener('message', ({ detail: message }) => {
  if (message.topic === topic) tell('announcement', { author: message.from.toString(), ...toJson(message.data) })
})
gossip.addEventListener('subscription-change', ({ detail: { peerId, subscriptions } }) => {
  if (!subscriptions.some(change => change.topic === topic && change.subscribe)) return
  tell('subscribed', { peer: peerId.toString() })
  // Whoever has dialled greets.
  const dialled = node.getConnections(peerId).find(connection => connection.direction === 'outbound')
  if (dialled === undefined) return
  greet(dialled, library)
    .then(said => tell('greeted', { peer: peerId.toString(), ...toJson(said) }))
    .catch(failed('greeting'))
})
node.addEventListener('connection:open', ({ detail: connection }) => {
  tell('connected', {
    peer: connection.remotePeer.toString(),
    address: connection.remoteAddr.toString(),
    // Over a circuit with limits, js-libp2p runs few protocols.
    limited: connection.limits !== undefined
  })
})
node.addEventListener('peer:disconnect', ({ detail: peer }) => tell('disconnected', { peer: peer.toString() }))
await node.handle(PROTOCOL, (stream, connection) => {
  const peer = connection.remotePeer.toString()
  answer(stream, network, library, said => tell('greeted', { peer, ...toJson(said) })).catch(error => {
    stream.abort(error)
    failed('answering')(error)
  })
})

async function say (kind, contentHash) {
  const bytes = encode(library.next(kind, contentHash))
  await gossip.publish(topic, bytes)
  tell('published', toJson(bytes))
}

let online = true
const commands = {
  dial: async ({ address }) => { await node.dial(multiaddr(address)) },
  announce: async ({ songs }) => {
    library.replace(songs)
    await say('digest')
  },
  add: async ({ index, content }) => {
    library.add(index, content)
    await say('add', content)
  },
  remove: async ({ content }) => {
    library.remove(content)
    await say('remove', content)
  },
  goodbye: async () => {
    online = false
    await say('goodbye')
  },
  // As it is, good or bad.
  publish: async ({ bytes }) => { await gossip.publish(topic, Buffer.from(bytes, 'hex')) },
  ping: async ({ peer }) => {
    await node.services.ping.ping(multiaddr(`/p2p/${peer}`))
    tell('pinged', { peer })
  }
}

gossip.subscribe(topic)
tell('ready', {
  peer: node.peerId.toString(),
  quic: quic.length > 0,
  addresses: node.getMultiaddrs().map(address => address.toString())
})
// One thing after the other: sequences must rise on the wire too.
let work = Promise.resolve()
const next = (what, act) => { work = work.then(act).catch(failed(what)) }
const heart = setInterval(() => next('heartbeat', async () => { if (online) await say('digest') }), HEARTBEAT_MS)
createInterface({ input: process.stdin })
  .on('line', line => next(line, async () => {
    const command = JSON.parse(line)
    await commands[command.do](command)
  }))
  .on('close', () => next('ending', async () => {
    clearInterval(heart)
    await node.stop()
    process.exit(0)
  }))
