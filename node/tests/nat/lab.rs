//! The laboratory: an internet of one wire, public hosts, and homes behind routers of many kinds.
//!
//! Public addresses are 50.1.x.y, which no list calls private; the wire leads nowhere else. What is sent to a private
//! address over it vanishes, as it does with most providers. All homes have the same private addresses, as most homes
//! have: a neighbour's 192.168.1.10 is one's own.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicU8, Ordering},
};

use crate::{
    common::missing,
    netns::{Netns, remove_stale},
};

/// The port on which everybody listens, UDP and TCP.
pub(crate) const PORT: u16 = 7710;
/// The port outside for [`PORT`] inside, at a router that maps to another one.
pub(crate) const OTHER_PORT: u16 = 54_321;
/// The wire's own address: the way to everywhere else.
const WIRE: &str = "50.1.0.1";
/// What must never be sent to from a rented server.
const PRIVATE: &str =
    "{ 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, 127.0.0.0/8 }";
const MULTICAST: &str = "{ 224.0.0.0/4, 255.255.255.255 }";

/// Where a peer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// On a public address, with nothing before it.
    Public,
    /// Behind a router that keeps the port.
    Cone,
    /// Behind a router that maps the port to another one, the same for everybody.
    ConeOtherPort,
    /// Behind a router that takes a random port for each destination.
    Symmetric,
    /// Behind a router that keeps the port, behind a carrier's that does.
    Double,
    /// Behind a router that keeps the port and lets no UDP out.
    UdpBlocked,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Public, Self::Cone, Self::ConeOtherPort, Self::Symmetric, Self::Double, Self::UdpBlocked];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Cone => "cone",
            Self::ConeOtherPort => "cone, other port",
            Self::Symmetric => "symmetric",
            Self::Double => "double",
            Self::UdpBlocked => "UDP blocked",
        }
    }

    /// For names of namespaces.
    fn label(self) -> &'static str {
        match self {
            Self::Public => "pub",
            Self::Cone => "cone",
            Self::ConeOtherPort => "other",
            Self::Symmetric => "sym",
            Self::Double => "double",
            Self::UdpBlocked => "noudp",
        }
    }
}

/// The wire between everybody.
pub(crate) struct Lab {
    wire: Netns,
    given: AtomicU8,
}

impl Lab {
    /// None where namespaces cannot be made, which is said.
    pub(crate) fn new() -> Option<Self> {
        remove_stale();
        let made = Self::wire();
        if let Err(error) = &made {
            eprintln!("{error}");
        }
        missing("ip and nft with network namespaces, as root", made.is_ok()).then(|| made.unwrap())
    }

    fn wire() -> Result<Self, String> {
        let wire = Netns::new("wire")?;
        wire.try_ip("link add wire type bridge")?;
        wire.try_ip(&format!("addr add {WIRE}/16 dev wire"))?;
        wire.try_ip("link set wire up")?;
        wire.try_ip("route add blackhole default")?;
        wire.forward_packets();
        // So that a missing nft is noticed here.
        wire.try_nft("table ip lab { }")?;
        Ok(Self { wire, given: AtomicU8::new(10) })
    }

    /// A public address that nobody else has.
    fn address(&self) -> Ipv4Addr {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        assert!(number < 250, "too many public addresses");
        Ipv4Addr::new(50, 1, 1, number)
    }

    /// Plugs a namespace's interface into the wire.
    fn plug(&self, namespace: &Netns, interface: &str) -> Line {
        let address = self.address();
        let plug = format!("p{}", address.octets()[3]);
        let ends = format!("link add {plug} type veth peer name {interface} netns {}", namespace.name());
        self.wire.ip(&ends);
        self.wire.ip(&format!("link set {plug} master wire up"));
        namespace.ip(&format!("addr add {address}/16 dev {interface}"));
        namespace.ip(&format!("link set {interface} up"));
        namespace.ip(&format!("route add default via {WIRE}"));
        Line { plug, address }
    }

    /// A rented server: a public host of which every packet to a private address is counted.
    pub(crate) fn server(&self, label: &str) -> Server {
        let host = Netns::new(label).unwrap();
        let line = self.plug(&host, "eth0");
        host.nft(&format!(
            "table ip watch {{
                counter private {{ }}
                counter multicast {{ }}
                set seen {{ type ipv4_addr . inet_proto . inet_service; size 256; flags dynamic; }}
                chain out {{
                    type filter hook output priority 0; policy accept;
                    meta l4proto != {{ tcp, udp }} accept
                    ip daddr {PRIVATE} counter name private add @seen {{ ip daddr . meta l4proto . th dport }}
                    ip daddr {MULTICAST} counter name multicast
                }}
            }}"
        ));
        Server { host, line }
    }

    /// A home with so many machines in its network. A public home has one.
    pub(crate) fn home(&self, kind: Kind, machines: usize) -> Home {
        if kind == Kind::Public {
            let host = Netns::new(kind.label()).unwrap();
            let line = self.plug(&host, "eth0");
            return Home { kind, line: Some(line), carrier: None, router: None, machines: vec![host] };
        }
        let (router, machines) = lan(kind.label(), machines);
        if kind == Kind::Double {
            let carrier = self.carrier();
            carrier.connect(&router, 0);
            let rules = rules(kind);
            router.nft(&rules);
            return Home { kind, line: None, carrier: Some(carrier), router: Some(router), machines };
        }
        let line = self.plug(&router, "wan");
        router.nft(&rules(kind));
        Home { kind, line: Some(line), carrier: None, router: Some(router), machines }
    }

    /// Homes behind one carrier's router, which keeps the port and does not lead its customers to one another.
    pub(crate) fn same_carrier(&self, homes: u8) -> (Carrier, Vec<Home>) {
        let carrier = self.carrier();
        let made = (0..homes).map(|number| {
            let (router, machines) = lan("carried", 1);
            carrier.connect(&router, number);
            router.nft(&rules(Kind::Cone));
            Home { kind: Kind::Cone, line: None, carrier: None, router: Some(router), machines }
        });
        let made = made.collect();
        (carrier, made)
    }

    fn carrier(&self) -> Carrier {
        let router = Netns::new("carrier").unwrap();
        router.forward_packets();
        let line = self.plug(&router, "wan");
        router.nft(&rules(Kind::Cone));
        Carrier { router, line }
    }

    pub(crate) fn cut(&self, line: &Line) {
        self.wire.ip(&format!("link set {} down", line.plug));
    }

    pub(crate) fn mend(&self, line: &Line) {
        self.wire.ip(&format!("link set {} up", line.plug));
    }

    /// The provider gives the line another address. The line is dead for the moment; the router forgets what went
    /// through the old one.
    pub(crate) fn renumber(&self, home: &mut Home) {
        let (interface, namespace) = match &home.router {
            Some(router) => ("wan", router),
            None => ("eth0", &home.machines[0]),
        };
        let line = home.line.as_mut().expect("a home with a line of its own");
        let address = self.address();
        self.cut(line);
        namespace.ip(&format!("addr del {}/16 dev {interface}", line.address));
        namespace.ip(&format!("addr add {address}/16 dev {interface}"));
        // It went with the address.
        namespace.ip(&format!("route replace default via {WIRE}"));
        line.address = address;
        self.mend(line);
    }
}

/// A cable to the wire, and the address at its end.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    plug: String,
    pub(crate) address: Ipv4Addr,
}

/// A rented server.
pub(crate) struct Server {
    pub(crate) host: Netns,
    pub(crate) line: Line,
}

impl Server {
    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.line.address, PORT)
    }

    /// Packets to private addresses and to groups that were sent so far.
    pub(crate) fn private_packets(&self) -> (u64, u64) {
        let said = self.host.nft_says("list counters table ip watch");
        let packets = |name: &str| {
            let after = said.split_once(&format!("counter {name} ")).unwrap().1;
            let number = after.split_once("packets ").unwrap().1.split_whitespace().next().unwrap();
            number.parse::<u64>().unwrap()
        };
        (packets("private"), packets("multicast"))
    }

    /// Whereto.
    pub(crate) fn private_destinations(&self) -> String {
        self.host.nft_says("list set ip watch seen")
    }
}

/// A carrier's router.
pub(crate) struct Carrier {
    pub(crate) router: Netns,
    pub(crate) line: Line,
}

impl Carrier {
    /// Leads a cable from a home's router to this one.
    fn connect(&self, home: &Netns, number: u8) {
        let (inner, outer) = (format!("100.64.{number}.2/24"), format!("100.64.{number}.1"));
        self.router.ip(&format!("link add lan{number} type veth peer name wan netns {}", home.name()));
        self.router.ip(&format!("addr add {outer}/24 dev lan{number}"));
        self.router.ip(&format!("link set lan{number} up"));
        home.ip(&format!("addr add {inner} dev wan"));
        home.ip("link set wan up");
        home.ip(&format!("route add default via {outer}"));
    }
}

/// A home.
pub(crate) struct Home {
    pub(crate) kind: Kind,
    /// None where a carrier's router stands before it.
    pub(crate) line: Option<Line>,
    pub(crate) carrier: Option<Carrier>,
    pub(crate) router: Option<Netns>,
    pub(crate) machines: Vec<Netns>,
}

impl Home {
    /// How the home looks from outside. None: somebody else's carrier stands before it.
    pub(crate) fn public_address(&self) -> Option<Ipv4Addr> {
        let line = self.line.as_ref().or(self.carrier.as_ref().map(|carrier| &carrier.line));
        line.map(|line| line.address)
    }

    /// The router gives its first machine an address in another network; the old one is gone.
    pub(crate) fn move_machine(&self) {
        let (router, machine) = (self.router.as_ref().unwrap(), &self.machines[0]);
        router.ip("addr add 192.168.7.1/24 dev lan");
        machine.ip("addr flush dev eth0");
        machine.ip("addr add 192.168.7.20/24 dev eth0");
        machine.ip("route replace default via 192.168.7.1");
    }
}

/// A router with its network behind it.
fn lan(label: &str, machines: usize) -> (Netns, Vec<Netns>) {
    let router = Netns::new(&format!("{label}-router")).unwrap();
    router.forward_packets();
    router.ip("link add lan type bridge");
    router.ip("addr add 192.168.1.1/24 dev lan");
    router.ip("link set lan up");
    let machines = (0..machines).map(|number| {
        let machine = Netns::new(label).unwrap();
        router.ip(&format!("link add m{number} type veth peer name eth0 netns {}", machine.name()));
        router.ip(&format!("link set m{number} master lan up"));
        machine.ip(&format!("addr add 192.168.1.{}/24 dev eth0", 10 + number));
        machine.ip("link set eth0 up");
        machine.ip("route add default via 192.168.1.1");
        machine
    });
    let machines = machines.collect();
    (router, machines)
}

/// What a router does: it lets in what was asked for, drops the rest without a word, and puts its own address on what
/// goes out. (A router that answered or noted what comes unasked would look like another kind of NAT: the note would
/// take the place of the mapping that is to come.)
fn rules(kind: Kind) -> String {
    let blocked = if kind == Kind::UdpBlocked { "oifname wan meta l4proto udp drop" } else { "" };
    let mapping = match kind {
        Kind::Symmetric => "oifname wan masquerade random,fully-random".to_owned(),
        Kind::ConeOtherPort => format!(
            "oifname wan udp sport {PORT} masquerade to :{OTHER_PORT}
             oifname wan tcp sport {PORT} masquerade to :{OTHER_PORT}
             oifname wan masquerade"
        ),
        _ => "oifname wan masquerade".to_owned(),
    };
    format!(
        "table ip router {{
            chain input {{
                type filter hook input priority 0; policy drop;
                iifname != wan accept
                ct state established,related accept
            }}
            chain forward {{
                type filter hook forward priority 0; policy drop;
                {blocked}
                ct state established,related accept
                iifname lan oifname lan accept
                iifname != wan oifname wan accept
            }}
            chain outside {{
                type nat hook postrouting priority 100; policy accept;
                {mapping}
            }}
        }}"
    )
}
