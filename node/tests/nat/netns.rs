//! Network namespaces, made and removed with `ip`, and entered by threads of this process.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// Begins the name of each namespace that is made here; the id of the process follows.
const PREFIX: &str = "antinat";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A namespace, removed when dropped, with whatever still runs in it.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// A namespace with nothing but loopback, without IPv6.
    pub(crate) fn new(label: &str) -> Result<Self, String> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let made = Self { name };
        run(Command::new("ip").args(["-n", &made.name, "link", "set", "lo", "up"]))?;
        made.inside(|| {
            for scope in ["all", "default"] {
                // Absent where the kernel has no IPv6.
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
            }
        });
        Ok(made)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `ip` in this namespace. The arguments are separated by blanks.
    pub(crate) fn try_ip(&self, args: &str) -> Result<(), String> {
        run(Command::new("ip").args(["-n", &self.name]).args(args.split_whitespace()))
    }

    /// The same, where it cannot fail.
    pub(crate) fn ip(&self, args: &str) {
        self.try_ip(args).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Adds these rules of nftables.
    pub(crate) fn try_nft(&self, rules: &str) -> Result<(), String> {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("nft: {error}"))?;
        let mut input = child.stdin.take().unwrap();
        input.write_all(rules.as_bytes()).map_err(|error| format!("nft: {error}"))?;
        drop(input);
        let done = child.wait_with_output().map_err(|error| format!("nft: {error}"))?;
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() { Ok(()) } else { Err(format!("nft: {said}\n{rules}")) }
    }

    /// The same, where it cannot fail.
    pub(crate) fn nft(&self, rules: &str) {
        self.try_nft(rules).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What `nft` prints for these arguments.
    pub(crate) fn nft_says(&self, args: &str) -> String {
        let done = self.command("nft").args(args.split_whitespace()).output().unwrap();
        assert!(done.status.success(), "nft {args}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// A command that runs in this namespace, as the process that is started, not as a child of it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Does something on a thread in this namespace. Sockets that are opened there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.name);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lets packets through from one interface to another.
    pub(crate) fn forward_packets(&self) {
        self.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(name: &str) {
    let namespace = File::open(Path::new(NAMES).join(name)).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Ends what runs in a namespace, and removes it.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|done| done.stdout);
    for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).split_whitespace() {
        // A thread of this very process may be inside.
        if pid != std::process::id().to_string() {
            let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

/// Removes the namespaces of test programs that were killed before they could.
pub(crate) fn remove_stale() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        if let Some(pid) = parts.next().filter(|_| ours)
            && !Path::new("/proc").join(pid).exists()
        {
            remove(&name);
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)))
}
