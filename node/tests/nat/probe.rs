//! Probes: small UDP and TCP programs on threads inside the namespaces, which show what the routers do.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    lab::{Home, Kind, Lab, OTHER_PORT, PORT, Server},
    lossy::LongLine,
    netns::Netns,
};

/// Where mirrors listen.
const MIRROR: u16 = 9_000;
/// Longest wait for an answer that comes within a millisecond.
const ANSWER: Duration = Duration::from_secs(10);
/// How long something is given that is not to happen, where nothing else can say that it is over.
const SILENCE: Duration = Duration::from_millis(400);

/// A public host that tells everybody, over UDP and TCP, what address they come from.
struct Mirror {
    server: Server,
    udp: Arc<UdpSocket>,
    address: SocketAddr,
}

impl Mirror {
    fn new(lab: &Lab, label: &str) -> Self {
        let server = lab.server(label);
        let udp = Arc::new(bind(&server.host, MIRROR));
        let tcp = server.host.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, MIRROR)).unwrap());
        let mirror = udp.clone();
        thread::spawn(move || {
            let mut packet = [0; 64];
            // Ends with the process: nothing else wakes it.
            while let Ok((length, from)) = mirror.recv_from(&mut packet) {
                if &packet[..length] == b"who am I" {
                    let _ = mirror.send_to(from.to_string().as_bytes(), from);
                }
            }
        });
        thread::spawn(move || {
            while let Ok((mut stream, from)) = tcp.accept() {
                let _ = stream.write_all(from.to_string().as_bytes());
            }
        });
        let address = SocketAddr::from((server.line.address, MIRROR));
        Self { server, udp, address }
    }

    /// Sends a packet to somebody.
    fn send(&self, what: &[u8], to: SocketAddr) {
        self.udp.send_to(what, to).unwrap();
    }
}

fn bind(namespace: &Netns, port: u16) -> UdpSocket {
    namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
}

/// The address that a mirror sees, over UDP. None: no answer.
fn seen_over_udp(socket: &UdpSocket, mirror: &Mirror, within: Duration) -> Option<SocketAddr> {
    let end = Instant::now() + within;
    // Answers to what was asked more than once before.
    while received(socket, Duration::from_millis(1)).is_some() {}
    while Instant::now() < end {
        // A packet may be lost while a cable has just been plugged in.
        let _ = socket.send_to(b"who am I", mirror.address);
        if let Some((said, _)) = received(socket, Duration::from_millis(200)) {
            return Some(said.parse().unwrap());
        }
    }
    None
}

/// The next packet, as text, and whose it is.
fn received(socket: &UdpSocket, within: Duration) -> Option<(String, SocketAddr)> {
    socket.set_read_timeout(Some(within)).unwrap();
    let mut packet = [0; 64];
    match socket.recv_from(&mut packet) {
        Ok((length, from)) => Some((String::from_utf8(packet[..length].to_vec()).unwrap(), from)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        // The kernel knows already that the way is blocked.
        Err(error) if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A connection from [`PORT`], as peers dial.
fn dial(namespace: &Netns, to: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    namespace.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // So that the next probe can take the port at once.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
        socket.connect_timeout(&to.into(), within)?;
        Ok(socket.into())
    })
}

/// The address that a mirror sees, over TCP.
fn seen_over_tcp(namespace: &Netns, mirror: &Mirror) -> SocketAddr {
    let mut said = String::new();
    dial(namespace, mirror.address, ANSWER).unwrap().read_to_string(&mut said).unwrap();
    said.parse().unwrap()
}

/// Whether a packet from a stranger comes in at the address that others see: a word from a friend tells that it is over.
fn stranger_comes_in(socket: &UdpSocket, at: SocketAddr, friend: &Mirror, stranger: &Mirror) -> bool {
    stranger.send(b"stranger", at);
    let end = Instant::now() + ANSWER;
    let mut came = false;
    while Instant::now() < end {
        friend.send(b"friend", at);
        while let Some((said, _)) = received(socket, Duration::from_millis(100)) {
            match said.as_str() {
                "stranger" => came = true,
                "friend" => return came,
                other => panic!("{other} out of place"),
            }
        }
    }
    panic!("nothing comes in at {at}");
}

/// Whether two punch through to one another over UDP, when each sends to where mirrors see the other.
fn punched(one: (&UdpSocket, SocketAddr), two: (&UdpSocket, SocketAddr)) -> bool {
    for _ in 0..3 {
        one.0.send_to(b"punch", two.1).unwrap();
        two.0.send_to(b"punch", one.1).unwrap();
    }
    let came = |socket| received(socket, SILENCE).is_some_and(|(said, _)| said == "punch");
    came(one.0) && came(two.0)
}

/// The same over TCP: both dial at once.
fn punched_over_tcp(one: (&Netns, Ipv4Addr), two: (&Netns, Ipv4Addr)) -> bool {
    let within = Duration::from_secs(4);
    thread::scope(|scope| {
        let other = scope.spawn(|| dial(two.0, (one.1, PORT).into(), within));
        // Both are kept until both are there: an end that is closed resets the other.
        let (one, two) = (dial(one.0, (two.1, PORT).into(), within), other.join().unwrap());
        one.is_ok() && two.is_ok()
    })
}

fn what_a_home_looks_like(home: &Home, friend: &Mirror, stranger: &Mirror) {
    let (kind, machine, outside) = (home.kind, &home.machines[0], home.public_address().unwrap());
    let socket = bind(machine, PORT);
    let port_outside = if kind == Kind::ConeOtherPort { OTHER_PORT } else { PORT };
    let expected = SocketAddr::from((outside, port_outside));
    let over_tcp = [friend, stranger].map(|mirror| seen_over_tcp(machine, mirror));
    let is_symmetric =
        |seen: [SocketAddr; 2]| seen[0] != seen[1] && seen.iter().all(|seen| seen.ip() == outside);
    if kind == Kind::Symmetric {
        assert!(is_symmetric(over_tcp), "{kind:?}: {over_tcp:?} behind {outside}");
    } else {
        assert_eq!(over_tcp, [expected; 2], "{kind:?}");
    }
    if kind == Kind::UdpBlocked {
        assert_eq!(seen_over_udp(&socket, friend, SILENCE), None);
    } else {
        let at = seen_over_udp(&socket, friend, ANSWER).expect("an answer over UDP");
        let comes_in = stranger_comes_in(&socket, at, friend, stranger);
        assert_eq!(comes_in, kind == Kind::Public, "{kind:?}: strangers");
        let again = seen_over_udp(&socket, stranger, ANSWER).expect("another answer over UDP");
        if kind == Kind::Symmetric {
            assert!(is_symmetric([at, again]), "{kind:?}: {at} {again} behind {outside}");
        } else {
            assert_eq!([at, again], [expected; 2], "{kind:?}");
        }
    }
    if kind != Kind::Public {
        let knocked = stranger
            .server
            .host
            .inside(|| TcpStream::connect_timeout(&expected, SILENCE).map_err(|error| error.kind()));
        assert_eq!(knocked.err(), Some(ErrorKind::TimedOut), "{kind:?}: a router that says something");
    }
}

fn who_punches_through(homes: &[Home], friend: &Mirror, stranger: &Mirror) {
    let find = |kind| homes.iter().find(|home| home.kind == kind).unwrap();
    for (one, two, expected) in [
        (Kind::Cone, Kind::ConeOtherPort, true),
        (Kind::Cone, Kind::Double, true),
        (Kind::ConeOtherPort, Kind::Double, true),
        (Kind::Cone, Kind::Symmetric, false),
    ] {
        let (one, two) = (find(one), find(two));
        let sockets = [one, two].map(|home| bind(&home.machines[0], PORT));
        // The second one asks another mirror: what a router lets in of one host says nothing about the next.
        let first = seen_over_udp(&sockets[0], friend, ANSWER).unwrap();
        let second = seen_over_udp(&sockets[1], stranger, ANSWER).unwrap();
        let through = punched((&sockets[0], first), (&sockets[1], second));
        assert_eq!(through, expected, "{:?} with {:?}", one.kind, two.kind);
    }
    let (one, two) = (find(Kind::Cone), find(Kind::UdpBlocked));
    let end = |home: &Home| home.public_address().unwrap();
    assert!(
        punched_over_tcp((&one.machines[0], end(one)), (&two.machines[0], end(two))),
        "two cones over TCP"
    );
}

fn neighbours_of_one_carrier(lab: &Lab, friend: &Mirror) {
    let (carrier, homes) = lab.same_carrier(2);
    let sockets: Vec<_> = homes.iter().map(|home| bind(&home.machines[0], PORT)).collect();
    let at: Vec<_> =
        sockets.iter().map(|socket| seen_over_udp(socket, friend, ANSWER).expect("an answer")).collect();
    assert!(at.iter().all(|at| at.ip() == carrier.line.address), "{at:?}");
    assert!(!punched((&sockets[0], at[0]), (&sockets[1], at[1])), "the carrier leads back: {at:?}");
    for socket in sockets {
        assert_eq!(received(&socket, Duration::from_millis(1)), None, "something came back");
    }
}

/// Private addresses lead nowhere, and asking for them is noticed.
fn private_addresses(mirror: &Mirror) {
    let before = mirror.server.private_packets();
    for (number, to) in ["192.168.1.10", "10.0.0.1", "172.16.3.4", "100.64.0.2", "169.254.1.1", "127.0.0.1"]
        .into_iter()
        .enumerate()
    {
        mirror.send(b"nobody", SocketAddr::new(to.parse().unwrap(), PORT));
        assert_eq!(mirror.server.private_packets().0, before.0 + number as u64 + 1, "{to}");
    }
    assert!(mirror.server.private_destinations().contains("192.168.1.10"));
    let to = SocketAddr::from((Ipv4Addr::new(192, 168, 1, 10), PORT));
    let dialled = mirror.server.host.inside(|| TcpStream::connect_timeout(&to, SILENCE).is_err());
    assert!(dialled, "a private address was reached");
    assert_eq!(mirror.server.private_packets().1, 0, "nothing was sent to a group");
}

fn cables_and_addresses(lab: &Lab, homes: &mut [Home], mirror: &Mirror) {
    let home = homes.iter_mut().find(|home| home.kind == Kind::Cone).unwrap();
    let socket = bind(&home.machines[0], PORT);
    let at = seen_over_udp(&socket, mirror, ANSWER).unwrap();
    lab.cut(home.line.as_ref().unwrap());
    assert_eq!(seen_over_udp(&socket, mirror, SILENCE), None, "a cut cable");
    lab.mend(home.line.as_ref().unwrap());
    assert_eq!(seen_over_udp(&socket, mirror, ANSWER), Some(at));
    lab.renumber(home);
    let outside = home.public_address().unwrap();
    assert_ne!(at.ip(), outside);
    assert_eq!(seen_over_udp(&socket, mirror, ANSWER), Some((outside, PORT).into()));
    home.move_machine();
    let from = home.machines[0].inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(mirror.address).unwrap();
        socket.local_addr().unwrap().ip()
    });
    assert_eq!(from.to_string(), "192.168.7.20");
    assert!(seen_over_udp(&socket, mirror, ANSWER).is_some(), "the way out from the new address");
}

fn long_and_lossy(lab: &Lab, mirror: &Mirror) {
    let home = lab.home(Kind::Symmetric, 1);
    let to = SocketAddrV4::new(mirror.server.line.address, MIRROR);
    let line = LongLine::new(&home, &[to], Duration::from_millis(50), 20_000);
    let socket = bind(&home.machines[0], PORT);
    let start = Instant::now();
    let at = seen_over_udp(&socket, mirror, ANSWER).expect("an answer over the long line");
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(at.ip(), home.public_address().unwrap());
    let start = Instant::now();
    assert_eq!(seen_over_tcp(&home.machines[0], mirror).ip(), at.ip());
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    drop(line);
}

#[test]
fn laboratory_is_what_it_says() {
    let _turn = crate::turn();
    let Some(lab) = Lab::new() else { return };
    let (friend, stranger) = (Mirror::new(&lab, "friend"), Mirror::new(&lab, "stranger"));
    let mut homes: Vec<_> = Kind::ALL.into_iter().map(|kind| lab.home(kind, 1)).collect();
    for home in &homes {
        what_a_home_looks_like(home, &friend, &stranger);
    }
    who_punches_through(&homes, &friend, &stranger);
    neighbours_of_one_carrier(&lab, &friend);
    private_addresses(&friend);
    cables_and_addresses(&lab, &mut homes, &friend);
    long_and_lossy(&lab, &friend);
}
