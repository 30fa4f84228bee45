//! Peers that are little more than libp2p: ends of circuits, and many of them in one process.

use std::{collections::HashMap, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, identify,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub(crate) const BULK: StreamProtocol = StreamProtocol::new("/bulk/1");
/// Written and read at once by the ends, as a download does.
pub(crate) const PIECE: usize = 256 * 1024;
/// Orders that wait.
const ORDERS: usize = 16;

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

enum Order {
    Reserve(Multiaddr),
    Connect(Multiaddr, PeerId),
}

/// A peer whose swarm runs in a task; dropping it ends the task.
pub(crate) struct Light {
    pub(crate) id: PeerId,
    pub(crate) control: libp2p_stream::Control,
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    task: JoinHandle<()>,
}

impl Drop for Light {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Light {
    pub(crate) fn start() -> Self {
        Self::run(swarm())
    }

    /// One that listens; gives its address too.
    pub(crate) async fn listening(listen: &str) -> (Self, Multiaddr) {
        let mut swarm = swarm();
        swarm.listen_on(listen.parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
        (Self::run(swarm), address)
    }

    fn run(swarm: Swarm<Behaviour>) -> Self {
        let (id, control) = (*swarm.local_peer_id(), swarm.behaviour().streams.new_control());
        let (orders, ordered) = mpsc::channel(ORDERS);
        let task = tokio::spawn(work(swarm, ordered));
        Self { id, control, orders, task }
    }

    async fn order(&self, order: Order) {
        let (done, wait) = oneshot::channel();
        self.orders.send((order, done)).await.unwrap();
        wait.await.expect("this peer has ended");
    }

    /// Reserves at a relay.
    pub(crate) async fn reserve(&self, relay: &Multiaddr) {
        self.order(Order::Reserve(relay.clone().with(Protocol::P2pCircuit))).await;
    }

    /// Connects by an address that ends with the peer.
    pub(crate) async fn connect(&self, address: Multiaddr) {
        let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("{address}") };
        self.order(Order::Connect(address, peer)).await;
    }

    /// A stream to a connected peer, with whatever it says first.
    pub(crate) async fn open(&self, peer: PeerId) -> Stream {
        self.control.clone().open_stream(peer, BULK).await.unwrap()
    }

    /// Answers each stream with so many bytes.
    pub(crate) fn give(&self, bytes: usize) {
        let mut incoming = self.control.clone().accept(BULK).unwrap();
        tokio::spawn(async move {
            let piece = vec![7; PIECE];
            while let Some((_, mut stream)) = incoming.next().await {
                stream.read_exact(&mut [0]).await.unwrap();
                for _ in 0..bytes / PIECE {
                    stream.write_all(&piece).await.unwrap();
                }
                stream.close().await.unwrap();
            }
        });
    }

    /// Takes all that a peer gives over one stream; how much it was.
    pub(crate) async fn take(&self, from: PeerId) -> usize {
        let mut stream = self.open(from).await;
        stream.write_all(&[1]).await.unwrap();
        stream.flush().await.unwrap();
        let (mut piece, mut total) = (vec![0; PIECE], 0);
        while let read @ 1.. = stream.read(&mut piece).await.unwrap() {
            total += read;
        }
        total
    }
}

/// The address of a peer behind a relay.
pub(crate) fn through(relay: &Multiaddr, peer: PeerId) -> Multiaddr {
    relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
}

fn swarm() -> Swarm<Behaviour> {
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key, relay| Behaviour {
            relay,
            identify: identify::Behaviour::new(identify::Config::new("/light/1".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
            streams: libp2p_stream::Behaviour::new(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3_600)))
        .build()
}

async fn work(mut swarm: Swarm<Behaviour>, mut ordered: mpsc::Receiver<(Order, oneshot::Sender<()>)>) {
    let mut reserving = Vec::<oneshot::Sender<()>>::new();
    let mut connecting = HashMap::<PeerId, oneshot::Sender<()>>::new();
    loop {
        tokio::select! {
            Some((order, done)) = ordered.recv() => match order {
                Order::Reserve(address) => {
                    swarm.listen_on(address).unwrap();
                    reserving.push(done);
                }
                Order::Connect(address, peer) => {
                    swarm.dial(address).unwrap();
                    connecting.insert(peer, done);
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { .. },
                )) => {
                    for done in reserving.drain(..) {
                        let _ = done.send(());
                    }
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    if let Some(done) = connecting.remove(&peer_id) {
                        let _ = done.send(());
                    }
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => panic!("{error:?}"),
                _ => {}
            },
        }
    }
}
