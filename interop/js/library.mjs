// `/antiphon/library/1`: greetings of 96 bytes, and what this peer vouches for, to whoever asks. Messages are those of
// proto/schema/antiphon/v1/library.proto, read and written by hand: they are small.
import { byteStream } from '@libp2p/utils'
import { VERSION, decode, encode } from './announcement.mjs'

export const PROTOCOL = '/antiphon/library/1'
/// As in the proto crate: a page, a step of a reconciliation, addresses.
const MESSAGE_BYTES = 64 * 1024
/// Fits a page of 60 KiB whatever the indexes are; this peer has few songs and sends one page.
const PAGE_SONGS = 10_000
/// For one message: more than a busy machine takes, so that a hang becomes an error.
const PATIENCE_MS = 20_000
const OTHER_NETWORK = 1n
const MALFORMED = 4n

/** Says our state to a peer; gives the 96 bytes that it says. */
export async function greet (connection, library) {
  const stream = await connection.newStream(PROTOCOL, { signal: AbortSignal.timeout(PATIENCE_MS) })
  const frames = byteStream(stream)
  await write(frames, encode(library.state()))
  const said = await read(frames)
  await finish(stream)
  return said
}

/** Answers one stream; `heard` is called with the 96 bytes that it began with, if it did. */
export async function answer (stream, network, library, heard) {
  const frames = byteStream(stream)
  const request = await read(frames)
  if (request[0] === VERSION) {
    decode(request)
    await write(frames, encode(library.state()))
    heard(request)
  } else {
    for (const reply of replies(request, network, library)) await write(frames, reply)
  }
  await finish(stream)
}

/** The answers to a LibraryRequest, each a LibraryReply. */
function replies (request, network, library) {
  const asked = new Map(fields(request))
  if (!network.equals(asked.get(1) ?? Buffer.alloc(0))) return [number(5, OTHER_NETWORK)]
  if (asked.has(2)) {
    const indexes = library.indexes()
    if (indexes.length > PAGE_SONGS) throw new Error('more songs than one page holds')
    const state = [number(1, library.sequence), number(2, BigInt(library.size)), bytes(3, library.sum())]
    const page = [bytes(1, differences(indexes)), number(2, 1n)]
    return [bytes(1, Buffer.concat(state)), bytes(2, Buffer.concat(page))]
  }
  // Who else is here: nobody that this peer would tell of.
  if (asked.has(4)) return [bytes(4, Buffer.alloc(0))]
  // Reconciliation is not spoken here.
  return [number(5, MALFORMED)]
}

/** Each index less one more than the one before it. */
function differences (indexes) {
  let next = 0
  return Buffer.concat(indexes.map(index => {
    const difference = varint(BigInt(index - next))
    next = index + 1
    return difference
  }))
}

async function read (frames) {
  const signal = AbortSignal.timeout(PATIENCE_MS)
  const prefix = await frames.read({ bytes: 4, signal })
  const length = Buffer.from(prefix.subarray()).readUInt32BE()
  if (length > MESSAGE_BYTES) throw new Error(`a message of ${length} bytes`)
  if (length === 0) return Buffer.alloc(0)
  return Buffer.from((await frames.read({ bytes: length, signal })).subarray())
}

async function write (frames, message) {
  const prefix = Buffer.alloc(4)
  prefix.writeUInt32BE(message.length)
  await frames.write(Buffer.concat([prefix, message]), { signal: AbortSignal.timeout(PATIENCE_MS) })
}

/** Whoever has heard enough may be gone already. */
async function finish (stream) {
  await stream.close({ signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() => {})
}

// Protobuf.

function varint (value) {
  const out = []
  for (; value > 0x7fn; value >>= 7n) out.push(Number(value & 0x7fn) | 0x80)
  return Buffer.from([...out, Number(value)])
}

function number (field, value) {
  return value === 0n ? Buffer.alloc(0) : Buffer.concat([varint(BigInt(field << 3)), varint(value)])
}

function bytes (field, value) {
  return Buffer.concat([varint(BigInt(field << 3 | 2)), varint(BigInt(value.length)), value])
}

/** Fields of a message, each with its bytes or its number; other wire types are not in use. */
function * fields (message) {
  let at = 0
  const take = () => {
    let value = 0n
    for (let shift = 0n; shift < 64n; shift += 7n) {
      if (at >= message.length) throw new Error('a message that ends too early')
      const byte = message[at++]
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return Number(value)
    }
    throw new Error('a number that does not end')
  }
  while (at < message.length) {
    const tag = take()
    const value = take()
    if ((tag & 7) === 0) {
      yield [tag >>> 3, value]
    } else if ((tag & 7) === 2 && at + value <= message.length) {
      yield [tag >>> 3, message.subarray(at, at + value)]
      at += value
    } else {
      throw new Error('a field that cannot be read')
    }
  }
}
