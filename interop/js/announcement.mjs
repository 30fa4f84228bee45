// The 96 bytes of presence, and the library that they summarise. The layout is that of proto/src/announcement.rs, the
// digest that of p2p/src/presence/digest.rs; this is written from their descriptions alone.
import { blake3 } from '@noble/hashes/blake3.js'

export const ANNOUNCEMENT_BYTES = 96
/// Of the layout. No protobuf message begins with this byte.
export const VERSION = 1
const KINDS = ['digest', 'add', 'remove', 'goodbye']
const KNOWN_FLAGS = 0b11
const NO_HASH = '00'.repeat(32)
const MODULUS = 1n << 256n

export const toHex = bytes => Buffer.from(bytes).toString('hex')

/** Bytes of exactly that length, from hexadecimal digits. */
export function fromHex (text, length) {
  const bytes = Buffer.from(text, 'hex')
  if (text.length !== 2 * length || bytes.length !== length) {
    throw new Error(`${length} bytes in hexadecimal are wanted, not ${JSON.stringify(text)}`)
  }
  return bytes
}

/** The 96 bytes. Numbers of 64 bits are BigInts, hashes hexadecimal. */
export function encode (said) {
  const bytes = Buffer.alloc(ANNOUNCEMENT_BYTES)
  bytes[0] = VERSION
  bytes[1] = KINDS.indexOf(said.kind)
  bytes.writeUInt16BE(said.flags, 2)
  bytes.writeUInt32BE(said.songs, 4)
  bytes.writeBigUInt64BE(said.sequence, 8)
  bytes.writeBigUInt64BE(said.timeMs, 16)
  bytes.writeBigUInt64BE(said.ledgerSize, 24)
  fromHex(said.contentHash, 32).copy(bytes, 32)
  fromHex(said.digest, 32).copy(bytes, 64)
  return bytes
}

/** Reads 96 bytes; throws for what `encode` does not write. */
export function decode (received) {
  const bytes = Buffer.from(received)
  if (bytes.length !== ANNOUNCEMENT_BYTES) throw new Error(`${bytes.length} bytes are no announcement`)
  if (bytes[0] !== VERSION) throw new Error(`version ${bytes[0]} is not known`)
  const kind = KINDS[bytes[1]]
  if (kind === undefined) throw new Error(`kind ${bytes[1]} is not known`)
  const said = {
    kind,
    flags: bytes.readUInt16BE(2),
    songs: bytes.readUInt32BE(4),
    sequence: bytes.readBigUInt64BE(8),
    timeMs: bytes.readBigUInt64BE(16),
    ledgerSize: bytes.readBigUInt64BE(24),
    contentHash: toHex(bytes.subarray(32, 64)),
    digest: toHex(bytes.subarray(64))
  }
  if ((said.flags & ~KNOWN_FLAGS) !== 0) throw new Error(`flags ${said.flags} are not known`)
  const aboutOneSong = kind === 'add' || kind === 'remove'
  if (aboutOneSong !== (said.contentHash !== NO_HASH)) throw new Error('the content hash does not fit the kind')
  return said
}

/** What 96 bytes say, as JSON can hold it: numbers of 64 bits as decimal digits; and the bytes as they came. */
export function toJson (bytes) {
  const said = decode(bytes)
  return {
    kind: said.kind,
    flags: said.flags,
    songs: said.songs,
    sequence: said.sequence.toString(),
    time_ms: said.timeMs.toString(),
    ledger_size: said.ledgerSize.toString(),
    content_hash: said.contentHash,
    digest: said.digest,
    bytes: toHex(bytes)
  }
}

/** What this peer vouches for: content hashes in hexadecimal, and where in the ledger each stands. */
export class Library {
  /// Microseconds since 1970, so that it rises from one start to the next.
  sequence = BigInt(Date.now()) * 1000n
  #songs = new Map()
  #sum = 0n
  #ledgerSize

  constructor (ledgerSize) {
    this.#ledgerSize = BigInt(ledgerSize)
  }

  replace (songs) {
    this.#songs.clear()
    this.#sum = 0n
    for (const { index, content } of songs) this.add(index, content)
  }

  add (index, content) {
    if (this.#songs.has(content)) throw new Error(`${content} is there already`)
    this.#sum = (this.#sum + term(content)) % MODULUS
    this.#songs.set(content, index)
  }

  remove (content) {
    if (!this.#songs.delete(content)) throw new Error(`${content} is not there`)
    this.#sum = (this.#sum - term(content) + MODULUS) % MODULUS
  }

  get size () {
    return this.#songs.size
  }

  /** Ledger indexes, ascending. */
  indexes () {
    return [...this.#songs.values()].sort((a, b) => a - b)
  }

  /** The sum as 32 bytes, little-endian. */
  sum () {
    return littleEndian(this.#sum)
  }

  /** BLAKE3 of the sum and the number of songs, in hexadecimal. */
  digest () {
    const count = Buffer.alloc(4)
    count.writeUInt32BE(this.size)
    return toHex(blake3(Buffer.concat([this.sum(), count])))
  }

  /** The next thing to tell everybody. */
  next (kind, contentHash = NO_HASH) {
    this.sequence += 1n
    return { ...this.state(), kind, contentHash }
  }

  /** What is told to one peer: the state that the present sequence stands for. */
  state () {
    return {
      kind: 'digest',
      flags: 0,
      songs: this.size,
      sequence: this.sequence,
      timeMs: BigInt(Date.now()),
      ledgerSize: this.#ledgerSize,
      contentHash: NO_HASH,
      digest: this.digest()
    }
  }
}

/** What a song adds to the sum. */
function term (content) {
  const hash = blake3(fromHex(content, 32))
  return BigInt('0x' + toHex(hash.reverse()))
}

function littleEndian (number) {
  return fromHex(number.toString(16).padStart(64, '0'), 32).reverse()
}
