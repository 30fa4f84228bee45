//! Hand-written peers that speak the protocols over plain libp2p, well or badly. They share no code with ours.

use std::{future::Future, io, time::Duration};

use antiphon_p2p::{Multiaddr, PeerId, libp2p};
use antiphon_proto::wire::{AudioReply, AudioRequest, AudioServing, ByteRange, audio_reply};
use bao_tree::{
    BlockSize, ChunkNum, ChunkRanges,
    io::{outboard::PreOrderMemOutboard, sync::encode_ranges},
};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Stream, StreamProtocol, Swarm, multiaddr::Protocol, swarm::SwarmEvent};
use prost::Message;

pub(crate) const LEDGER: StreamProtocol = StreamProtocol::new("/antiphon/ledger/1");
pub(crate) const REGISTER: StreamProtocol = StreamProtocol::new("/antiphon/register/1");
pub(crate) const COUNCIL: StreamProtocol = StreamProtocol::new("/antiphon/council/1");
pub(crate) const AUDIO: StreamProtocol = StreamProtocol::new("/antiphon/audio/1");

pub(crate) const PLAY: StreamProtocol = StreamProtocol::new("/antiphon/play/1");

/// A peer whose swarm runs in a task; dropping it ends the task, as a killed process would.
pub(crate) struct RawPeer {
    pub(crate) id: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) control: libp2p_stream::Control,
    task: tokio::task::JoinHandle<()>,
    dials: tokio::sync::mpsc::Sender<Multiaddr>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawPeer {
    pub(crate) async fn start() -> Self {
        let mut swarm: Swarm<libp2p_stream::Behaviour> = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        swarm.listen_on(super::harness::QUIC.parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let id = *swarm.local_peer_id();
        let control = swarm.behaviour().new_control();
        let (dials, mut to_dial) = tokio::sync::mpsc::channel::<Multiaddr>(8);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(address) = to_dial.recv() => swarm.dial(address).unwrap(),
                    _ = swarm.select_next_some() => {}
                }
            }
        });
        Self { id, address: address.with(Protocol::P2p(id)), control, task, dials }
    }

    /// Answers every stream of a protocol.
    pub(crate) fn serve<F>(&self, protocol: StreamProtocol, answer: impl Fn(Stream) -> F + Send + 'static)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let mut incoming = self.control.clone().accept(protocol).unwrap();
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(answer(stream));
            }
        });
    }

    /// Opens a stream to a peer that it dials first if need be.
    pub(crate) async fn open(&self, to: &super::harness::Peer, protocol: StreamProtocol) -> Stream {
        let connected = |peers: Vec<antiphon_p2p::PeerInfo>| peers.iter().any(|peer| peer.peer == self.id);
        if !connected(to.network.peers().await) {
            self.dials.send(to.address().await).await.unwrap();
            super::harness::eventually(|| async { connected(to.network.peers().await) }).await;
        }
        let mut control = self.control.clone();
        super::harness::within(control.open_stream(to.id(), protocol)).await.unwrap()
    }
}

/// A message with its length before it.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

/// Reads one message.
pub(crate) async fn read_frame<M: Message + Default>(stream: &mut Stream) -> io::Result<M> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut body).await?;
    M::decode(&body[..]).map_err(io::Error::other)
}

/// Reads an audio request and answers that it is served.
pub(crate) async fn accept_audio(stream: &mut Stream, size: u64) -> io::Result<AudioRequest> {
    let request: AudioRequest = read_frame(stream).await?;
    let reply = AudioReply { body: Some(audio_reply::Body::Serving(AudioServing { size })) };
    stream.write_all(&frame(&reply)).await?;
    stream.flush().await?;
    Ok(request)
}

/// The Bao stream of whole groups, by bao-tree's own encoder.
pub(crate) fn bao_stream(bytes: &[u8], ranges: &[ByteRange]) -> Vec<u8> {
    let outboard = PreOrderMemOutboard::create(bytes, BlockSize::from_chunk_log(4));
    let mut chunks = ChunkRanges::empty();
    for range in ranges {
        chunks |=
            ChunkRanges::from(ChunkNum(range.start / 16_384 * 16)..ChunkNum(range.end.div_ceil(16_384) * 16));
    }
    let mut stream = Vec::new();
    encode_ranges(bytes, &outboard, &chunks, &mut stream).unwrap();
    stream
}
