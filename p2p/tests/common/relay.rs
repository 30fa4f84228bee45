//! A slow, long or lossy path between two programs on this machine: it stands between the ends and forwards UDP or TCP.
//!
//! All flows of one relay share the path, one lane for each direction. A lane is a queue in front of the slowest link,
//! the link's rate, and then the way's delay; [`Lane`] computes that without a clock. UDP packets that find the queue
//! full are dropped, as a router drops them; TCP is not read until there is room again. A lost UDP packet is gone; what
//! would be lost of a TCP stream comes a round trip later, and what follows waits for it. Which packets are lost follows
//! from the seed.

#![allow(dead_code, reason = "every test program uses a part of it")]

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream, UdpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time,
};

/// Pieces on their way in one direction of one flow: with the largest pieces 64 MiB, more than any test has in flight.
const ON_THE_WAY: usize = 4096;
/// Flows of one relay: each has two sockets and four tasks.
const FLOWS: usize = 256;
/// Bytes that are read of a TCP stream at once: small, so that flows share a slow path evenly.
const PIECE_BYTES: usize = 16 * 1024;
/// The largest packet that UDP knows.
const PACKET_BYTES: usize = 65_536;
/// Buffers of the relay's own TCP sockets. The system's would hold megabytes, as an endless queue in the path would.
const SOCKET_BYTES: u32 = 64 * 1024;
/// How long a stream's sender takes to notice a loss, besides the round trip.
const NOTICES_LOSS: Duration = Duration::from_millis(10);
/// Losses are given in millionths.
const MILLION: u64 = 1_000_000;

/// What a path is like, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    /// From one end to the other.
    pub(crate) delay: Duration,
    /// Bytes a second; none: whatever the machine does.
    pub(crate) rate: Option<u64>,
    /// Bytes that may wait in front of the slowest link.
    pub(crate) queue: u64,
    /// Pieces lost of a million; a million cuts the path.
    pub(crate) loss_ppm: u32,
}

impl Default for Path {
    fn default() -> Self {
        Self { delay: Duration::ZERO, rate: None, queue: 64 * 1024, loss_ppm: 0 }
    }
}

impl Path {
    /// As long as this, and as fast as the machine.
    pub(crate) fn long(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// As slow as this, with a queue of 64 KiB.
    pub(crate) fn slow(bytes_per_second: u64) -> Self {
        Self { rate: Some(bytes_per_second), ..Self::default() }
    }
}

/// What becomes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// It is lost on the way, and holds no others up.
    Lost,
    /// The queue is full until then, and the piece not in it.
    Full(Instant),
}

/// One direction of a path. Pieces arrive in the order in which they were let in.
#[derive(Debug)]
pub(crate) struct Lane {
    path: Path,
    /// When the slowest link has sent what is in the queue.
    free_at: Instant,
    random: u64,
}

impl Lane {
    pub(crate) fn new(path: Path, seed: u64, now: Instant) -> Self {
        Self { path, free_at: now, random: seed }
    }

    /// Lets a piece of so many bytes in.
    pub(crate) fn admit(&mut self, now: Instant, bytes: usize) -> Fate {
        let start = self.free_at.max(now);
        let wait = start.saturating_duration_since(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let room = self.time_of(self.path.queue);
        // A piece that is longer than the queue goes into an empty one.
        if !wait.is_zero() && wait + self.time_of(bytes) > room.max(self.time_of(bytes)) {
            let until = start - room.saturating_sub(self.time_of(bytes)).min(wait);
            return Fate::Full(until.max(now + Duration::from_micros(100)));
        }
        self.free_at = start + self.time_of(bytes);
        if self.next_random() % MILLION < u64::from(self.path.loss_ppm) {
            return Fate::Lost;
        }
        Fate::Arrives(self.free_at + self.path.delay)
    }

    fn time_of(&self, bytes: u64) -> Duration {
        match self.path.rate {
            Some(rate) => {
                let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            None => Duration::ZERO,
        }
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A lane that tasks share, and what came out of it.
#[derive(Debug)]
struct Direction {
    lane: Mutex<Lane>,
    delivered: AtomicU64,
}

impl Direction {
    fn new(path: Path, seed: u64) -> Arc<Self> {
        let lane = Mutex::new(Lane::new(path, seed, Instant::now()));
        Arc::new(Self { lane, delivered: AtomicU64::new(0) })
    }

    fn admit(&self, bytes: usize) -> Fate {
        self.lane.lock().unwrap().admit(Instant::now(), bytes)
    }

    fn count(&self, bytes: usize) {
        self.delivered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Lets a piece of a stream in, as soon as there is room, and says when it arrives.
    async fn wait_for_room(&self, bytes: usize) -> Instant {
        loop {
            match self.admit(bytes) {
                Fate::Arrives(at) => return at,
                Fate::Full(until) => sleep_until(until).await,
                Fate::Lost => {
                    let delay = self.lane.lock().unwrap().path.delay;
                    time::sleep(2 * delay + NOTICES_LOSS).await;
                }
            }
        }
    }
}

/// A running relay. Dropping it closes every flow.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    there: Arc<Direction>,
    back: Arc<Direction>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Forwards UDP to `target`: what a client sends to [`Self::address`] comes to it from a port of its own.
    pub(crate) async fn udp(target: SocketAddr, path: Path, seed: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind((near(target), 0)).await?;
        let (address, there, back) =
            (socket.local_addr()?, Direction::new(path, seed), Direction::new(path, !seed));
        let mut tasks = JoinSet::new();
        tasks.spawn(forward_packets(Arc::new(socket), target, there.clone(), back.clone()));
        Ok(Self { address, there, back, _tasks: tasks })
    }

    /// Forwards TCP connections to `target`.
    pub(crate) async fn tcp(target: SocketAddr, path: Path, seed: u64) -> io::Result<Self> {
        let socket = socket_for(target)?;
        socket.bind((near(target), 0).into())?;
        let listener = socket.listen(128)?;
        let (address, there, back) =
            (listener.local_addr()?, Direction::new(path, seed), Direction::new(path, !seed));
        let mut tasks = JoinSet::new();
        let (to, from) = (there.clone(), back.clone());
        tasks.spawn(async move {
            let mut flows = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while flows.try_join_next().is_some() {}
                if flows.len() < FLOWS {
                    flows.spawn(forward_stream(client, target, to.clone(), from.clone()));
                }
            }
        });
        Ok(Self { address, there, back, _tasks: tasks })
    }

    /// Where clients go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes both directions, from the next piece on.
    pub(crate) fn set(&self, path: Path) {
        for direction in [&self.there, &self.back] {
            direction.lane.lock().unwrap().path = path;
        }
    }

    /// Bytes that have arrived at the target.
    pub(crate) fn there(&self) -> u64 {
        self.there.delivered.load(Ordering::Relaxed)
    }

    /// Bytes that have arrived at clients.
    pub(crate) fn back(&self) -> u64 {
        self.back.delivered.load(Ordering::Relaxed)
    }
}

/// Where the relay's own sockets are bound: on loopback for what is there, else on every interface.
fn near(target: SocketAddr) -> IpAddr {
    match target.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// When a piece arrives, and its bytes.
type OnTheWay = (Instant, Vec<u8>);

async fn forward_packets(
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    there: Arc<Direction>,
    back: Arc<Direction>,
) {
    let mut flows: HashMap<SocketAddr, mpsc::Sender<OnTheWay>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut packet = vec![0; PACKET_BYTES];
    loop {
        // A client that went away shows as an error of the next call.
        let Ok((length, client)) = socket.recv_from(&mut packet).await else { continue };
        if !flows.contains_key(&client) {
            let Ok(upstream) = UdpSocket::bind((near(target), 0)).await else { continue };
            if flows.len() >= FLOWS || upstream.connect(target).await.is_err() {
                continue;
            }
            let (sender, packets) = mpsc::channel(ON_THE_WAY);
            let upstream = Arc::new(upstream);
            tasks.spawn(deliver_packets(packets, upstream.clone(), None, there.clone()));
            tasks.spawn(return_packets(upstream, socket.clone(), client, back.clone()));
            flows.insert(client, sender);
        }
        if let (Fate::Arrives(at), Some(flow)) = (there.admit(length), flows.get(&client)) {
            let _ = flow.try_send((at, packet[..length].to_vec()));
        }
    }
}

async fn return_packets(
    upstream: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    back: Arc<Direction>,
) {
    let (sender, packets) = mpsc::channel(ON_THE_WAY);
    let mut tasks = JoinSet::new();
    tasks.spawn(deliver_packets(packets, socket, Some(client), back.clone()));
    let mut packet = vec![0; PACKET_BYTES];
    loop {
        let Ok(length) = upstream.recv(&mut packet).await else { continue };
        if let Fate::Arrives(at) = back.admit(length) {
            let _ = sender.try_send((at, packet[..length].to_vec()));
        }
    }
}

async fn deliver_packets(
    mut packets: mpsc::Receiver<OnTheWay>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
    direction: Arc<Direction>,
) {
    while let Some((at, packet)) = packets.recv().await {
        sleep_until(at).await;
        direction.count(packet.len());
        let _ = match to {
            Some(client) => socket.send_to(&packet, client).await,
            None => socket.send(&packet).await,
        };
    }
}

fn socket_for(target: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    Ok(socket)
}

async fn forward_stream(client: TcpStream, target: SocketAddr, there: Arc<Direction>, back: Arc<Direction>) {
    let Ok(socket) = socket_for(target) else { return };
    let Ok(upstream) = socket.connect(target).await else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_target, to_target) = upstream.into_split();
    tokio::join!(forward_bytes(from_client, to_target, there), forward_bytes(from_target, to_client, back),);
}

async fn forward_bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Arc<Direction>) {
    let (sender, mut pieces) = mpsc::channel::<OnTheWay>(ON_THE_WAY);
    let lane = direction.clone();
    let delivering = async move {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
            direction.count(piece.len());
        }
        let _ = to.shutdown().await;
    };
    let reading = async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let at = lane.wait_for_room(length).await;
            if sender.send((at, piece[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(delivering);
    tokio::select! {
        () = &mut delivering => {}
        // The sender is done; what is on its way still arrives.
        () = reading => delivering.await,
    }
}

async fn sleep_until(at: Instant) {
    time::sleep_until(at.into()).await;
}
