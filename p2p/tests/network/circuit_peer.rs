//! Peers at either end of a circuit: on libp2p's own relay client, or speaking with the relay by hand. They share no code
//! with ours.

use std::{io, time::Duration};

use antiphon_p2p::{Config, Multiaddr, PeerId, RelayLimits, Role, Timeouts, libp2p, status::Reservation};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Stream, StreamProtocol, Swarm,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use tokio::sync::mpsc;

use crate::harness::{Peer, config, eventually, start, within};

pub(crate) const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
pub(crate) const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Messages as they are on the wire.
pub(crate) const RESERVE: &[u8] = b"\x02\x08\x00";
pub(crate) const STOP_OK: &[u8] = b"\x04\x08\x01\x20\x64";

/// A relay with these limits that knows its own address.
pub(crate) async fn relay(limits: RelayLimits, listen: &[&str]) -> Peer {
    relay_with(Config { relay: Some(limits), ..config(listen) }).await
}

/// The same with deadlines that are soon over.
pub(crate) async fn impatient_relay(limits: RelayLimits, listen: &[&str]) -> Peer {
    let timeouts = Timeouts {
        message: Duration::from_millis(500),
        write: Duration::from_secs(1),
        ..Timeouts::default()
    };
    relay_with(Config { relay: Some(limits), timeouts, ..config(listen) }).await
}

pub(crate) async fn relay_with(config: Config) -> Peer {
    let relay = start(config, rand::random()).await;
    for address in relay.network.listen_addrs().await {
        relay.network.add_external_address(address).await;
    }
    relay
}

/// A mini-node as it is started, but on loopback.
pub(crate) async fn mini_node(listen: &str) -> Peer {
    let config = Config { relay: Some(RelayLimits::default()), role: Role::MiniNode, ..config(&[listen]) };
    start(config, rand::random()).await
}

/// One of ours that is met at the relay: nobody tests whether it can be reached otherwise.
pub(crate) async fn behind(relay: &Peer, config: Config) -> Peer {
    let timeouts = Timeouts { probe: Duration::from_secs(3_600), ..config.timeouts };
    let config = Config { mini_nodes: vec![relay.address().await], named: 1, timeouts, ..config };
    let one = start(config, rand::random()).await;
    eventually(|| async {
        let ways = one.network.ways().await.unwrap();
        ways.mini_nodes.iter().any(|known| known.reservation == Reservation::Held)
    })
    .await;
    one
}

/// What a client tells of.
#[derive(Debug)]
pub(crate) enum News {
    Reserved { renewal: bool },
    Connected(PeerId),
    Failed(String),
    ListenerClosed,
}

enum Order {
    Listen(Multiaddr),
    Dial(Multiaddr),
    Leave(PeerId),
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: Toggle<relay::client::Behaviour>,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// A peer on libp2p's relay client whose swarm runs in a task; dropping it ends the task, as a killed process would.
pub(crate) struct Client {
    pub(crate) id: PeerId,
    pub(crate) control: libp2p_stream::Control,
    pub(crate) news: mpsc::UnboundedReceiver<News>,
    orders: mpsc::UnboundedSender<Order>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// One on libp2p's relay client.
    pub(crate) fn start() -> Self {
        Self::with(true)
    }

    /// One that leaves circuits to the test.
    pub(crate) fn by_hand() -> Self {
        Self::with(false)
    }

    fn with(relay_client: bool) -> Self {
        let mut swarm: Swarm<Behaviour> = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_, relay| Behaviour {
                relay: relay_client.then_some(relay).into(),
                ping: ping::Behaviour::default(),
                streams: libp2p_stream::Behaviour::new(),
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        let id = *swarm.local_peer_id();
        let control = swarm.behaviour().streams.new_control();
        let (tell, news) = mpsc::unbounded_channel();
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(order) = ordered.recv() => match order {
                        Order::Listen(address) => drop(swarm.listen_on(address).unwrap()),
                        Order::Dial(address) => swarm.dial(address).unwrap(),
                        Order::Leave(peer) => drop(swarm.disconnect_peer_id(peer)),
                    },
                    event = swarm.select_next_some() => if let Some(news) = news_of(event) {
                        let _ = tell.send(news);
                    },
                }
            }
        });
        Self { id, control, news, orders, task }
    }

    pub(crate) fn listen(&self, address: Multiaddr) {
        self.orders.send(Order::Listen(address)).unwrap();
    }

    pub(crate) fn dial(&self, address: Multiaddr) {
        self.orders.send(Order::Dial(address)).unwrap();
    }

    pub(crate) fn leave(&self, peer: PeerId) {
        self.orders.send(Order::Leave(peer)).unwrap();
    }

    /// Waits for news that fit, and skips the others.
    pub(crate) async fn told<T>(&mut self, mut fits: impl FnMut(&News) -> Option<T>) -> T {
        within(async {
            loop {
                let news = self.news.recv().await.expect("the client has ended");
                if let Some(found) = fits(&news) {
                    return found;
                }
            }
        })
        .await
    }

    /// Reserves at a relay.
    pub(crate) async fn reserve(&mut self, relay: &Multiaddr) {
        self.listen(relay.clone().with(Protocol::P2pCircuit));
        self.told(|news| matches!(news, News::Reserved { renewal: false }).then_some(())).await;
    }

    /// Connects with a peer, perhaps over a relay, or gives why not.
    pub(crate) async fn connect(&mut self, address: Multiaddr) -> Result<(), String> {
        let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("{address}") };
        self.dial(address);
        self.told(|news| match news {
            News::Connected(found) if *found == peer => Some(Ok(())),
            News::Failed(reason) => Some(Err(reason.clone())),
            _ => None,
        })
        .await
    }

    /// A stream on the connection with a peer.
    pub(crate) async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Stream {
        within(self.control.clone().open_stream(peer, protocol)).await.unwrap()
    }

    /// Sends a message to a relay and gives the status in its answer, and the stream.
    pub(crate) async fn ask(&self, relay: PeerId, message: &[u8]) -> io::Result<(u64, Stream)> {
        let mut stream = self.open(relay, HOP).await;
        stream.write_all(message).await?;
        stream.flush().await?;
        let answer = within(read_message(&mut stream)).await?;
        Ok((status(&answer), stream))
    }

    /// The status alone.
    pub(crate) async fn status(&self, relay: PeerId, message: &[u8]) -> u64 {
        self.ask(relay, message).await.unwrap().0
    }

    /// Connects to a relay and reserves by hand; what comes in over it is for the caller to answer.
    pub(crate) async fn reserve_by_hand(&mut self, relay: &Peer) -> libp2p_stream::IncomingStreams {
        let incoming = self.control.accept(STOP).unwrap();
        self.connect(relay.address().await).await.unwrap();
        assert_eq!(self.status(relay.id(), RESERVE).await, 100);
        incoming
    }
}

fn news_of(event: SwarmEvent<BehaviourEvent>) -> Option<News> {
    use relay::client::Event::ReservationReqAccepted;
    match event {
        SwarmEvent::Behaviour(BehaviourEvent::Relay(ReservationReqAccepted { renewal, .. })) => {
            Some(News::Reserved { renewal })
        }
        SwarmEvent::ConnectionEstablished { peer_id, .. } => Some(News::Connected(peer_id)),
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(News::Failed(format!("{error:?}"))),
        SwarmEvent::ListenerClosed { .. } => Some(News::ListenerClosed),
        _ => None,
    }
}

/// Asks a relay to connect with a peer.
pub(crate) fn connect_to(peer: &PeerId) -> Vec<u8> {
    let id = peer.to_bytes();
    let length = u8::try_from(id.len()).unwrap();
    [&[length + 6, 0x08, 0x01, 0x12, length + 2, 0x0a, length][..], &id].concat()
}

/// The address of a peer behind a relay.
pub(crate) fn through(relay: &Multiaddr, peer: PeerId) -> Multiaddr {
    relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
}

/// Reads one message with its length before it.
pub(crate) async fn read_message(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut byte = [0];
    let mut length = 0;
    for shift in [0, 7] {
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The status at the end of an answer of the relay.
fn status(answer: &[u8]) -> u64 {
    assert_eq!(answer[..2], [0x08, 0x02], "{answer:?}");
    match answer {
        [.., 0x28, low, high] if low & 0x80 != 0 => u64::from(low & 0x7f) | u64::from(*high) << 7,
        [.., 0x28, low] => u64::from(*low),
        _ => panic!("no status in {answer:?}"),
    }
}

/// Waits until so many circuits are there.
pub(crate) async fn circuits(relay: &Peer, wanted: usize) {
    eventually(|| async { relay.network.relay_usage().unwrap().circuits == wanted }).await;
}

/// Waits until so many reservations are there.
pub(crate) async fn reservations(relay: &Peer, wanted: usize) {
    eventually(|| async { relay.network.relay_usage().unwrap().reservations == wanted }).await;
}
