//! A long and lossy line: a home's router hands what goes to some servers to a relay of the test's own, which forwards
//! it late, and not always.

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    lab::Home,
    netns::enter,
    relay::{Path, Relay},
};

/// Relays on a home's router. They end when dropped; the router still hands everything to them.
pub(crate) struct LongLine {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LongLine {
    /// Delays what goes to these servers, UDP and TCP, and what comes back, by `delay`, and loses so many pieces of a
    /// million each way.
    pub(crate) fn new(home: &Home, servers: &[SocketAddrV4], delay: Duration, loss_ppm: u32) -> Self {
        let router = home.router.as_ref().expect("a home with a router");
        let (name, targets) = (router.name().to_owned(), servers.to_vec());
        let (end, ended) = oneshot::channel();
        let (tell, ports) = mpsc::channel();
        let path = Path { loss_ppm, ..Path::long(delay) };
        let thread = thread::spawn(move || {
            enter(&name);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut relays = Vec::new();
                for (seed, target) in (7..).zip(targets.iter().copied().map(SocketAddr::V4)) {
                    let udp = Relay::udp(target, path, seed).await.unwrap();
                    let tcp = Relay::tcp(target, path, seed + 100).await.unwrap();
                    tell.send((udp.address().port(), tcp.address().port())).unwrap();
                    relays.extend([udp, tcp]);
                }
                // The sender is dropped, or sends: either way it is over.
                let _ = ended.await;
            });
        });
        let mut redirects = String::new();
        for server in servers {
            let (udp, tcp) = ports.recv().expect("the relays are there");
            let (ip, port) = (server.ip(), server.port());
            redirects += &format!("ip daddr {ip} udp dport {port} redirect to :{udp}\n");
            redirects += &format!("ip daddr {ip} tcp dport {port} redirect to :{tcp}\n");
        }
        router.nft(&format!(
            "table ip long {{
                chain line {{
                    type nat hook prerouting priority -100; policy accept;
                    {redirects}
                }}
            }}"
        ));
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for LongLine {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
