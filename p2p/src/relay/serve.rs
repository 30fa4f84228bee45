//! Speaks with the peers that ask, and with those that are reached.

use std::{sync::Arc, time::Duration};

use futures::{AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use prost::Message;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    book::{Book, Place, unix_now},
    carry::{Carrier, Cut, Pair},
    refusal::Refusal,
    table::{Ends, Origin},
    wire::{self, HopKind, HopMessage, Peer, Reservation, Status, StopKind, StopMessage, WireError},
};
use crate::{
    config::{RelayLimits, Timeouts},
    pacing::{Limits, Pacer},
    protocol::Fault,
    reach::is_relayed,
    score::Offence,
    slots::Slots,
    streams::{Inbound, Opener, PeerStream},
};

const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");
/// Addresses told with a reservation: whoever is reached tells them on, each with itself at the end.
const ADDRESSES: usize = 8;
/// Their bytes: a reservation with all of them is far below [`wire::MESSAGE_BYTES`].
const ADDRESSES_BYTES: usize = 2_048;
/// How often reservations that were not renewed are looked for. They count for nothing before that.
const EXPIRY: Duration = Duration::from_secs(30);

/// The relay of a peer.
pub(crate) struct Relay {
    local: PeerId,
    book: Book,
    opener: Opener,
    limits: RelayLimits,
    timeouts: Timeouts,
    /// Where this peer can be reached, as far as that is confirmed.
    external: watch::Receiver<Vec<Multiaddr>>,
    handshakes: Slots<Origin>,
    pacer: Pacer<Pair>,
}

impl Relay {
    /// Must be kept going by [`Self::run`].
    pub(crate) fn new(
        local: PeerId,
        book: Book,
        opener: Opener,
        limits: RelayLimits,
        timeouts: Timeouts,
        external: watch::Receiver<Vec<Multiaddr>>,
    ) -> Arc<Self> {
        let handshakes = Slots::new(limits.handshakes, limits.handshakes_per_ip);
        let rates = Limits { total: limits.total_bytes_per_second, peer: limits.peer_bytes_per_second };
        // Each circuit has two peers, and both directions of it are one pair.
        let pacer = Pacer::new(rates, limits.circuits.saturating_mul(2));
        Arc::new(Self { local, book, opener, limits, timeouts, external, handshakes, pacer })
    }

    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Paces the circuits and ends reservations, until `closed`.
    pub(crate) async fn run(self: Arc<Self>, closed: CancellationToken) {
        let expiring = async {
            loop {
                time::sleep(EXPIRY).await;
                self.book.expire();
            }
        };
        tokio::select! {
            () = self.pacer.clone().pace(closed) => {}
            () = expiring => {}
        }
    }

    /// Answers a hop stream to its end.
    pub(crate) async fn answer(&self, inbound: Inbound) -> Result<(), Fault> {
        let Inbound { peer, mut stream, slot, .. } = inbound;
        let origin = Origin::from(stream.way().ip());
        let Some(place) = self.handshakes.take(origin) else {
            return self.refuse(&mut stream, Refusal::Handshakes).await;
        };
        let request: HopMessage = match time::timeout(self.timeouts.message, wire::read(&mut stream)).await {
            Ok(Ok(request)) => request,
            Ok(Err(WireError::Ended(error))) => return Err(error.into()),
            Ok(Err(error)) => {
                // Whether or not it still listens.
                let _ = self.refuse(&mut stream, Refusal::Malformed).await;
                return Err(Fault::Offence(Offence::Malformed, error.to_string()));
            }
            Err(_) => {
                let text = format!("no request to a relay within {:?}", self.timeouts.message);
                return Err(Fault::Offence(Offence::TooSlow, text));
            }
        };
        match known(request.kind) {
            Some(HopKind::Reserve) => self.reserve(peer, origin, &mut stream).await,
            Some(HopKind::Connect) => {
                let connected = self.connect(peer, origin, &mut stream, request.peer).await;
                let (destination, to, circuit) = match connected {
                    Ok(connected) => connected,
                    Err(refusal) => return self.refuse(&mut stream, refusal).await,
                };
                self.send(&mut stream, &HopMessage::answer(Status::Ok)).await?;
                // A circuit stays for hours, and has a place of its own.
                drop((place, slot));
                let between = (peer, destination);
                Box::pin(self.carry(between, stream, to, circuit)).await;
                Ok(())
            }
            Some(HopKind::Status) => self.refuse(&mut stream, Refusal::Unexpected).await,
            None => self.refuse(&mut stream, Refusal::Malformed).await,
        }
    }

    async fn reserve(&self, peer: PeerId, origin: Origin, stream: &mut PeerStream) -> Result<(), Fault> {
        let way = stream.way().clone();
        let addrs = addresses(&self.external.borrow(), self.local);
        let reserved = if way.is_relayed() {
            Err(Refusal::Relayed)
        } else if addrs.is_empty() {
            Err(Refusal::NoAddress)
        } else {
            self.book.reserve(peer, origin, way)
        };
        if let Err(refusal) = reserved {
            return self.refuse(stream, refusal).await;
        }
        if stream.way().is_closed() {
            // Its end came before the reservation, and will not come again.
            self.book.forget(&peer);
        }
        tracing::debug!(%peer, "reserved");
        let expire = Some(unix_now().saturating_add(self.limits.reservation_ttl.as_secs()));
        let reservation = Reservation { expire, addrs, voucher: None };
        self.send(stream, &HopMessage::granted(reservation)).await?;
        self.close(stream).await
    }

    /// Finds the destination and asks whether it wants the circuit.
    async fn connect(
        &self,
        source: PeerId,
        origin: Origin,
        stream: &mut PeerStream,
        to: Option<Peer>,
    ) -> Result<(PeerId, PeerStream, Place), Refusal> {
        if stream.way().is_relayed() {
            return Err(Refusal::Relayed);
        }
        let id = to.and_then(|to| to.id).ok_or(Refusal::Malformed)?;
        let destination = PeerId::from_bytes(&id).map_err(|_| Refusal::Malformed)?;
        let (circuit, way) = self.book.admit(Ends { source, origin, destination })?;
        let offered = async {
            let mut stop = self.opener.open_on(destination, &way, STOP).await.ok()?;
            drop(way);
            if stop.way().is_relayed() {
                return None;
            }
            let offer = StopMessage::connect(source.to_bytes());
            stop.write_all(&wire::encode(&offer)).await.ok()?;
            stop.flush().await.ok()?;
            let answer: StopMessage = wire::read(&mut stop).await.ok()?;
            Some((stop, answer))
        };
        // Whoever is slow here is no offender: it did not ask for this.
        let answered = time::timeout(self.timeouts.message, offered).await;
        let (stop, answer) = answered.ok().flatten().ok_or(Refusal::Unreachable)?;
        let is_answer = known(answer.kind) == Some(StopKind::Status);
        match known(answer.status) {
            Some(Status::Ok) if is_answer => Ok((destination, stop, circuit)),
            _ => Err(Refusal::Declined),
        }
    }

    async fn carry(
        &self,
        (source, destination): (PeerId, PeerId),
        from: PeerStream,
        to: PeerStream,
        circuit: Place,
    ) {
        tracing::debug!(%source, %destination, "a circuit");
        let carrier = Carrier {
            book: &self.book,
            pacer: &self.pacer,
            pair: Pair::new(source, destination),
            write: self.timeouts.write,
            duration: self.limits.circuit_duration,
        };
        let carried = carrier.carry(from, to).await;
        drop(circuit);
        match carried {
            Ok(()) => tracing::debug!(%source, %destination, "a circuit ended"),
            Err(cut) => {
                if let Cut::Refused(refusal) = &cut {
                    self.book.count(*refusal);
                }
                tracing::debug!(%source, %destination, %cut, "a circuit was cut");
            }
        }
    }

    async fn refuse(&self, stream: &mut PeerStream, refusal: Refusal) -> Result<(), Fault> {
        self.book.count(refusal);
        tracing::debug!(%refusal, "not relayed");
        self.send(stream, &HopMessage::answer(refusal.status())).await?;
        self.close(stream).await
    }

    async fn send(&self, stream: &mut PeerStream, message: &impl Message) -> Result<(), Fault> {
        let bytes = wire::encode(message);
        let sending = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        let sent = time::timeout(self.timeouts.message, sending).await;
        Ok(sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??)
    }

    async fn close(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Fault> {
        let closed = time::timeout(self.timeouts.message, stream.close()).await;
        Ok(closed.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??)
    }
}

/// A value of an enumeration, when it is there and known.
fn known<E: TryFrom<i32>>(value: Option<i32>) -> Option<E> {
    value.and_then(|value| E::try_from(value).ok())
}

/// The addresses of this peer as they are told with a reservation: each ends in its id, none leads through another
/// relay.
fn addresses(external: &[Multiaddr], local: PeerId) -> Vec<Vec<u8>> {
    let direct = external.iter().filter(|address| !is_relayed(address));
    let full =
        direct.filter_map(|address| address.clone().with_p2p(local).ok()).map(|address| address.to_vec());
    let mut bytes = 0;
    let bounded = full.take_while(|address| {
        bytes += address.len();
        bytes <= ADDRESSES_BYTES
    });
    bounded.take(ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::multiaddr::Protocol;

    use super::*;

    #[test]
    fn addresses_end_in_the_relay_and_are_few() {
        let (local, other) = (PeerId::random(), PeerId::random());
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let plain = address("/ip4/1.2.3.4/udp/4001/quic-v1");
        let external = [
            plain.clone(),
            plain.clone().with(Protocol::P2p(local)),
            plain.clone().with(Protocol::P2p(other)),
            plain.clone().with(Protocol::P2p(other)).with(Protocol::P2pCircuit),
        ];
        let full = plain.clone().with(Protocol::P2p(local)).to_vec();
        assert_eq!(addresses(&external, local), vec![full.clone(), full.clone()]);
        assert_eq!(addresses(&vec![plain; 100], local), vec![full; ADDRESSES]);
        let long = address(&format!("/dns/{}/tcp/1", "x".repeat(1_000)));
        assert_eq!(addresses(&vec![long; 100], local).len(), 1);
        assert!(addresses(&[], local).is_empty());
    }
}
