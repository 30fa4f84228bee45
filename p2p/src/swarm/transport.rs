//! QUIC first, TCP with Noise and Yamux as the fallback, names resolved for both.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, global_only},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic, relay, tcp, yamux,
};
#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::SockRef;
use socket2::{Domain, Socket, Type};

use crate::{config::Config, error::StartError, reach::is_relayed, streams::Transport};

/// Bytes that all streams of a QUIC connection may have unread: as many as quinn keeps for sending.
const QUIC_CONNECTION_WINDOW: u32 = 10_000_000;
/// The same for one stream. Eight of them, which is what a peer sends at once ([`crate::UploadLimits::slots_per_peer`]),
/// and the eighth by which the sender learns late how much room there is, leave some of the connection's: what is written
/// but not yet sent counts too, and a connection whose window bulk has filled lets no small message through until
/// megabytes have gone (on a slow path, with eight transfers, requests waited for 2 to 31 MB; so they wait for what is in
/// the path). A single stream on a long path has less for it (20 MB/s at most over 50 ms); several have it back.
const QUIC_STREAM_WINDOW: u32 = 1_000_000;
/// Unsent bytes from which on the kernel takes no more of a TCP connection. Yamux gives every stream its turn, but only
/// above the kernel: there, by default, up to 4 MB wait in line, and a small message behind them. What remains before it
/// is what is on its way, 200 KiB that Noise has encrypted, and 16 KiB of every other stream for each frame that it and
/// the agreement on its protocol take. 64 KiB are enough for full speed.
#[cfg(any(target_os = "linux", target_os = "android"))]
const TCP_UNSENT_BYTES: u32 = 64 * 1024;

/// The transport under everything, and, with `through`, over circuits of relays: encrypted from end to end by Noise, so
/// that a relay sees bytes. Segmentation offload stays on: libp2p leaves quinn's default.
pub(crate) fn build(
    keypair: &Keypair,
    config: &Config,
    through: Option<relay::client::Transport>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let quic = quic::tokio::Transport::new(quic_config(keypair, config))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let noise = noise::Config::new(keypair).map_err(|error| StartError::Transport(error.to_string()))?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(usize::try_from(streams_per_connection(config)).unwrap_or(usize::MAX));
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|stream, _| short_queue(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux.clone())
        .timeout(config.timeouts.dial)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = quic.or_transport(tcp).map(|either, _| either.into_inner());
    // Under the names, so that what they lead to is looked at.
    let direct = if config.private_addresses {
        with_names(both)?.boxed()
    } else {
        with_names(global_only::Transport::new(both))?.boxed()
    };
    let Some(through) = through else { return Ok(direct) };
    let circuits = through
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(config.timeouts.dial)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed())
}

/// Keeps what waits in the kernel short, so that small messages pass bulk before it.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn short_queue(stream: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    if let Err(error) = SockRef::from(&stream.0).set_tcp_notsent_lowat(TCP_UNSENT_BYTES) {
        tracing::debug!(%error, "small messages may wait behind bulk");
    }
    stream
}

/// Other systems keep their defaults: the setting has no safe interface there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn short_queue(stream: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    stream
}

fn quic_config(keypair: &Keypair, config: &Config) -> quic::Config {
    let mut quic = quic::Config::new(keypair);
    quic.max_stream_data = QUIC_STREAM_WINDOW;
    quic.max_connection_data = QUIC_CONNECTION_WINDOW;
    quic.handshake_timeout = config.timeouts.dial;
    quic.max_concurrent_stream_limit = streams_per_connection(config);
    quic.max_idle_timeout = u32::try_from(config.timeouts.silence.as_millis()).unwrap_or(u32::MAX);
    quic.keep_alive_interval = config.timeouts.silence / 3;
    quic
}

/// Ours and libp2p's own (identify, ping), on each side, and circuits that are relayed.
fn streams_per_connection(config: &Config) -> u32 {
    let circuits = config
        .relay
        .as_ref()
        .map_or(0, |relay| relay.circuits_per_source.saturating_add(relay.circuits_per_destination));
    let streams = config.streams.inbound_per_peer.saturating_mul(2).saturating_add(circuits);
    u32::try_from(streams).unwrap_or(u32::MAX).saturating_add(16)
}

/// Resolves `/dns…` addresses by the system's settings. A machine without any still starts; names then fail one by one.
fn with_names<T>(inner: T) -> Result<dns::tokio::Transport<T>, StartError> {
    // The constructor keeps what it is given even when it fails, so a probe goes first.
    match dns::tokio::Transport::system(()) {
        Ok(_) => {
            dns::tokio::Transport::system(inner).map_err(|error| StartError::Transport(error.to_string()))
        }
        Err(error) => {
            tracing::warn!(%error, "no DNS settings on this system; only numeric addresses can be dialled");
            let (config, options) = (dns::ResolverConfig::default(), dns::ResolverOpts::default());
            Ok(dns::tokio::Transport::custom(inner, config, options))
        }
    }
}

/// Whether a transport takes the address, once its names are resolved.
pub(crate) fn can_be_dialled(address: &Multiaddr) -> bool {
    Transport::of(address) != Transport::Other
        || address.iter().any(|part| matches!(part, Protocol::Dnsaddr(_)))
        || is_relayed(address)
}

/// Fails when another program listens on the TCP port. libp2p shares its ports (SO_REUSEPORT), so that two peers by
/// mistake started with the same settings would each get every other connection.
pub(crate) fn check_port(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => bind((ip, port).into()),
        _ => Ok(()),
    }
}

/// Binds as libp2p does, but for sharing: an IPv6 socket for IPv6 alone, so that one on all IPv4 addresses of the same
/// port is not in its way.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_taken_port_is_refused_and_the_other_family_is_not() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = |ip: &str| format!("/{ip}/tcp/{port}").parse::<Multiaddr>().unwrap();
        assert!(check_port(&address("ip4/0.0.0.0")).is_err());
        assert!(check_port(&address("ip4/127.0.0.1")).is_err());
        if std::path::Path::new("/proc/net/if_inet6").exists() {
            check_port(&address("ip6/::")).unwrap();
        }
        drop(taken);
        check_port(&address("ip4/0.0.0.0")).unwrap();
    }
}
