//! A council in virtual time: members on simulated disks, and a network that loses, delays, repeats and splits. All of
//! it follows from a seed.

mod chain;
mod faults;
mod scenes;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    rc::Rc,
    sync::Arc,
};

use antiphon_proto::{
    PublicKey, SecretKey,
    economy::{DEFAULT, TOKEN},
    note::CosignedCheckpoint,
    wire::{
        CouncilMessage, Economy, Genesis, Receipt, ReceiptBody, Registration, Served, Span,
        council_message::Body, registration,
    },
};

use self::chain::{Shared, SimChain, SimJournal};
use super::{Chain as _, End, Halt, Member, Now, Output, Pace, Setup, Voting};
use crate::{append::SealedBatch, sequencer::Answer, testing::Artist, tree::Frontier};

/// When simulated networks begin, in milliseconds since 1970.
const WALL_MS: u64 = crate::testing::START_MS;

/// Randomness that is the same on every machine (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.roll() % most.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How the network behaves.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss_percent: u64,
    twice_percent: u64,
    delay_ms: (u64, u64),
}

const FAIR: Weather = Weather { loss_percent: 0, twice_percent: 0, delay_ms: (1, 20) };

/// A machine: what runs on it, and its disk.
struct Node {
    key: Arc<SecretKey>,
    chain: SimChain,
    journal: SimJournal,
    member: Option<Member<SimChain, SimJournal>>,
    /// Machines in different parts do not hear one another.
    part: u8,
    /// It lies: it is one of two machines with the same key.
    reckless: bool,
    wake_ms: u64,
}

#[derive(Debug)]
enum Event {
    Deliver { to: usize, from: usize, message: Box<CouncilMessage> },
    Wake { node: usize },
}

/// The simulated network.
struct World {
    dice: Dice,
    weather: Weather,
    now_ms: u64,
    shared: Rc<Shared>,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: BTreeMap<usize, Event>,
    next_event: usize,
    /// What was decided at each height, by whoever decided first.
    decided: Vec<(SealedBatch, End)>,
    artist: Artist,
    songs: u64,
    /// Receipts that a member has said it keeps, and which one.
    kept: Vec<(usize, Registration)>,
    /// Tickets by node, and what they are for.
    asked: BTreeMap<(usize, u64), Registration>,
    answers: Vec<(usize, Registration, Answer)>,
    checkpoints: u64,
    /// What each member has signed: kind (-1 for a proposal), height, round.
    signed: BTreeMap<(usize, i32, u64, u32), Vec<u8>>,
    pace: Pace,
}

impl World {
    /// A council of `members`, with `others` more machines that are not in it yet.
    fn new(seed: u64, members: usize, others: usize) -> Self {
        let mut secrets: Vec<SecretKey> = (0..members + others)
            .map(|n| SecretKey::from_seed(&[u8::try_from(n).unwrap() + 1; 32]))
            .collect();
        secrets[..members].sort_by_key(SecretKey::public);
        let keys: Vec<PublicKey> = secrets[..members].iter().map(SecretKey::public).collect();
        let genesis = Genesis {
            stamp_bits: 0,
            batch_quota: 8,
            economy: Some(Economy { epoch_ms: 8_000, ..DEFAULT }),
            ..Genesis::new("simulated", WALL_MS, [7; 16], &keys)
        };
        let artist = Artist::new(77, &genesis);
        let shared = Shared::new(genesis);
        let mut world = Self {
            dice: Dice(seed),
            weather: FAIR,
            now_ms: 1_000_000,
            shared,
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            decided: Vec::new(),
            artist,
            songs: 0,
            kept: Vec::new(),
            asked: BTreeMap::new(),
            answers: Vec::new(),
            checkpoints: 0,
            signed: BTreeMap::new(),
            pace: Pace::default(),
        };
        for secret in secrets {
            world.add_node(Arc::new(secret), false);
        }
        for node in 0..world.nodes.len() {
            world.start(node, false);
        }
        world
    }

    fn add_node(&mut self, key: Arc<SecretKey>, reckless: bool) -> usize {
        self.nodes.push(Node {
            key,
            chain: SimChain::new(&self.shared),
            journal: SimJournal::default(),
            member: None,
            part: 0,
            reckless,
            wake_ms: u64::MAX,
        });
        self.nodes.len() - 1
    }

    fn now(&self) -> Now {
        Now { ms: self.now_ms, wall_ms: WALL_MS + self.now_ms }
    }

    /// Starts a machine on what its disk holds.
    fn start(&mut self, node: usize, rejoin: bool) {
        let now = self.now();
        let Node { key, chain, journal, reckless, .. } = &self.nodes[node];
        let entries = journal.restart();
        chain.restart();
        let setup = Setup {
            key: key.clone(),
            network: self.shared.params.network,
            quota: 8,
            chain: chain.clone(),
            journal: journal.clone(),
            entries,
            motions: Vec::new(),
            pace: self.pace,
            rejoin,
        };
        let mut member = Member::new(setup, now);
        if *reckless {
            member.be_reckless();
        }
        self.nodes[node].member = Some(member);
        self.greet(node);
        self.settle(node);
    }

    /// Takes the power away.
    fn stop(&mut self, node: usize) {
        self.nodes[node].member = None;
        self.part_from(node);
    }

    /// Connections of a machine with those that it can reach.
    fn greet(&mut self, node: usize) {
        let now = self.now();
        for other in 0..self.nodes.len() {
            let apart = self.nodes[other].part != self.nodes[node].part || self.nodes[other].member.is_none();
            let same = self.nodes[other].key.public() == self.nodes[node].key.public();
            if other == node || apart || same {
                continue;
            }
            for (a, b) in [(node, other), (other, node)] {
                let key = self.nodes[b].key.public();
                if let Some(member) = &mut self.nodes[a].member {
                    member.connected(now, key);
                }
                self.settle(a);
            }
        }
    }

    fn part_from(&mut self, node: usize) {
        let key = self.nodes[node].key.public();
        for other in 0..self.nodes.len() {
            // One of two machines with the same key may still be there.
            let twin = self.nodes.iter().enumerate().any(|(at, one)| {
                at != node
                    && one.key.public() == key
                    && one.member.is_some()
                    && one.part == self.nodes[other].part
            });
            if let Some(member) = self.nodes[other].member.as_mut().filter(|_| other != node && !twin) {
                member.disconnected(key);
            }
        }
    }

    /// Splits the network: machines of one part hear only each other.
    fn split(&mut self, parts: &[u8]) {
        for (node, part) in self.nodes.iter_mut().zip(parts) {
            node.part = *part;
        }
        let now_parts: Vec<u8> = self.nodes.iter().map(|node| node.part).collect();
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                let key = self.nodes[b].key.public();
                if now_parts[a] != now_parts[b]
                    && let Some(member) = &mut self.nodes[a].member
                {
                    member.disconnected(key);
                }
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].member.is_some() {
                self.greet(node);
            }
        }
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        let id = self.next_event;
        self.next_event += 1;
        let tie = self.dice.roll();
        self.queue.push(Reverse((at_ms, tie, id)));
        self.events.insert(id, event);
    }

    /// Lets a member finish, and carries out what it wants.
    fn settle(&mut self, node: usize) {
        let now = self.now();
        let Some(member) = &mut self.nodes[node].member else { return };
        match member.settle(now) {
            Ok(()) => {}
            Err(Halt::Journal(_)) if self.nodes[node].journal.has_crashed() => return self.stop(node),
            Err(halt) => panic!("member {node} halted: {halt}"),
        }
        let mut outputs = Vec::new();
        while let Some(output) = member.poll() {
            outputs.push(output);
        }
        let wake = member.next_wake(now).max(self.now_ms + 1);
        if wake < self.nodes[node].wake_ms || self.nodes[node].wake_ms <= self.now_ms {
            self.nodes[node].wake_ms = wake;
            self.schedule(wake, Event::Wake { node });
        }
        for output in outputs {
            self.carry_out(node, output);
        }
        self.check(node);
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, message, .. } => {
                self.check_signed(node, &message);
                for other in 0..self.nodes.len() {
                    let key = self.nodes[other].key.public();
                    if other != node && key != self.nodes[node].key.public() && to.is_none_or(|to| to == key)
                    {
                        self.send(node, other, &message);
                    }
                }
            }
            Output::Answer { tickets, answer } => {
                for ticket in tickets {
                    let asked = self.asked.remove(&(node, ticket)).expect("each ticket is answered once");
                    let is_receipt = matches!(asked.body, Some(registration::Body::Receipt(_)));
                    if is_receipt
                        && !self.nodes[node].reckless
                        && matches!(answer, Answer::Kept | Answer::Accepted { .. })
                    {
                        self.kept.push((node, asked.clone()));
                    }
                    if let Answer::Accepted { index, height } = &answer
                        && !is_receipt
                    {
                        let block = self.nodes[node].chain.block(*index).expect("accepted means on disk");
                        assert_eq!(block.height, *height);
                        assert!(crate::council::chain::same(&asked, &block), "accepted is this very one");
                    }
                    self.answers.push((node, asked, answer.clone()));
                }
            }
            Output::Checkpoint { note, members } => {
                let end = self.nodes[node].chain.end();
                let origin = antiphon_proto::note::origin(&self.shared.params.network);
                let opened = CosignedCheckpoint::open(note.as_bytes(), &origin, &members).unwrap();
                opened.check(&members).unwrap();
                // Several batches may have come in at once.
                assert!(opened.checkpoint.size <= end.position.size);
                let mut log = Frontier::new();
                let batches = self.nodes[node].chain.batches();
                let blocks = batches.iter().flat_map(|batch| &batch.blocks);
                blocks
                    .take(usize::try_from(opened.checkpoint.size).unwrap())
                    .for_each(|block| log.append(block));
                assert_eq!((opened.checkpoint.size, opened.checkpoint.root), (log.size(), log.root()));
                self.checkpoints += 1;
            }
            Output::Grown | Output::Motions(_) => {}
        }
    }

    /// No honest member ever signs two things of one kind in one round, whatever happens to it.
    fn check_signed(&mut self, node: usize, message: &CouncilMessage) {
        if self.nodes[node].reckless {
            return;
        }
        let me = self.nodes[node].key.public();
        let (kind, height, round, value) = match &message.body {
            Some(Body::Vote(vote)) if vote.member == me.0 => {
                (vote.kind, vote.height, vote.round, &vote.value)
            }
            Some(Body::Proposal(proposal)) if proposal.member == me.0 => {
                (-1, proposal.height, proposal.round, &proposal.value)
            }
            _ => return,
        };
        let known = self.signed.entry((node, kind, height, round)).or_insert_with(|| value.clone());
        assert_eq!(known, value, "member {node} signed twice at height {height}, round {round}");
    }

    fn send(&mut self, from: usize, to: usize, message: &CouncilMessage) {
        if self.nodes[from].part != self.nodes[to].part || self.dice.chance(self.weather.loss_percent) {
            return;
        }
        let times = 1 + u64::from(self.dice.chance(self.weather.twice_percent));
        for _ in 0..times {
            let (least, most) = self.weather.delay_ms;
            let delay = least + self.dice.below(most - least + 1);
            let message = Box::new(message.clone());
            self.schedule(self.now_ms + delay, Event::Deliver { to, from, message });
        }
    }

    /// No fork, ever; and the same height has the same state everywhere.
    fn check(&mut self, node: usize) {
        if self.nodes[node].reckless {
            return;
        }
        let end = self.nodes[node].chain.end();
        let height = usize::try_from(end.position.height).unwrap();
        if height > self.decided.len() {
            let batches = self.nodes[node].chain.batches();
            assert_eq!(batches.len(), height);
            for batch in &batches[self.decided.len()..] {
                self.decided.push((batch.clone(), end.clone()));
            }
        }
        if height == 0 {
            return;
        }
        let batches = self.nodes[node].chain.batches();
        let (first, first_end) = &self.decided[height - 1];
        assert_eq!(batches[height - 1].blocks, first.blocks, "FORK at height {height}, member {node}");
        if first_end.position.height == end.position.height {
            assert_eq!(first_end.position, end.position);
            assert_eq!((first_end.root, &first_end.roster), (end.root, &end.roster), "state at {height}");
        }
    }

    /// Runs for so long.
    fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(Reverse((at, _, id))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now_ms = self.now_ms.max(at);
            match self.events.remove(&id).expect("each event once") {
                Event::Deliver { to, from, message } => self.deliver(to, from, *message),
                Event::Wake { node } => {
                    self.nodes[node].wake_ms = u64::MAX;
                    let now = self.now();
                    self.finish(node, |member| member.tick(now));
                }
            }
        }
        self.now_ms = until;
    }

    fn deliver(&mut self, to: usize, from: usize, message: CouncilMessage) {
        let now = self.now();
        let key = self.nodes[from].key.public();
        if self.nodes[to].part == self.nodes[from].part && self.nodes[to].member.is_some() {
            self.finish(to, |member| member.hear(now, key, message));
        }
    }

    fn finish(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Member<SimChain, SimJournal>) -> Result<(), Halt>,
    ) {
        let Some(member) = &mut self.nodes[node].member else { return };
        match act(member) {
            Ok(()) => self.settle(node),
            Err(Halt::Journal(_)) if self.nodes[node].journal.has_crashed() => self.stop(node),
            Err(halt) => panic!("member {node} halted: {halt}"),
        }
    }

    /// Hands a new song in at a machine that is up.
    fn submit(&mut self, node: usize) -> Registration {
        self.songs += 1;
        let registration = self.artist.song_registration(self.songs);
        self.submit_again(node, registration.clone());
        registration
    }

    /// Hands in that somebody new has heard a song, at a machine that is up.
    fn submit_play(&mut self, node: usize) {
        let Some(song) = self.nodes[node].chain.first_song() else { return };
        self.songs += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.songs.to_le_bytes());
        let (listener, witness) = (SecretKey::from_seed(&seed), &self.artist.key);
        let end_ms = self.now().wall_ms;
        let body = ReceiptBody {
            session: vec![1; 16],
            song_id: song.id().0.to_vec(),
            listener: listener.public().0.to_vec(),
            witness: witness.public().0.to_vec(),
            start_ms: end_ms - 100_000,
            end_ms,
            heard: vec![Span { start: 0, end: 100_000 }],
            beats: 20,
            chain: vec![0; 32],
            served: vec![Served { key: witness.public().0.to_vec(), bytes: 1 }],
        };
        let message = body.to_sign(&self.shared.params.network);
        let receipt = Receipt::new(body, &listener.sign(&message), &witness.sign(&message));
        self.submit_again(node, Registration { body: Some(registration::Body::Receipt(receipt)) });
    }

    /// Receipts that one of these has said it keeps. What a member kept that was voted out is handed in again, by whoever
    /// heard that it is kept and not that it is settled.
    fn kept_by(&self, nodes: &[usize]) -> impl Iterator<Item = &Registration> {
        self.kept.iter().filter(|(node, _)| nodes.contains(node)).map(|(_, kept)| kept)
    }

    /// Whether every receipt that one of these members has said it keeps is settled at all of them.
    fn all_settled(&self, nodes: &[usize]) -> bool {
        nodes.iter().all(|node| {
            let chain = &self.nodes[*node].chain;
            self.kept_by(nodes).all(|kept| chain.has_settled(kept))
        })
    }

    /// Each receipt was settled once, and all have the same state.
    fn check_plays(&self, nodes: &[usize]) {
        let chain = |node: usize| &self.nodes[node].chain;
        let plays: u64 = chain(nodes[0]).plays();
        for pair in nodes.windows(2) {
            if chain(pair[0]).end().position == chain(pair[1]).end().position {
                assert_eq!(chain(pair[0]).tokens(), chain(pair[1]).tokens(), "{pair:?}");
            }
        }
        let mut kept: Vec<_> = self.kept_by(nodes).map(antiphon_proto::canonical::encode).collect();
        kept.sort();
        kept.dedup();
        // More may have come in whose answer was lost.
        assert!(plays >= kept.len() as u64, "{plays} plays of {} receipts", kept.len());
        assert_eq!(chain(nodes[0]).tokens().supply(), plays * 3 * TOKEN);
    }

    fn submit_again(&mut self, node: usize, registration: Registration) {
        let now = self.now();
        self.songs += 1;
        let ticket = self.songs;
        if let Some(member) = &mut self.nodes[node].member {
            member.submit(now, registration.clone(), ticket).unwrap();
            self.asked.insert((node, ticket), registration);
            self.settle(node);
        }
    }

    fn height(&self, node: usize) -> u64 {
        self.nodes[node].chain.end().position.height
    }

    fn voting(&self, node: usize) -> Voting {
        self.nodes[node].member.as_ref().expect("it is up").report(self.now()).voting
    }

    fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].member.is_some()).collect()
    }

    /// Who is no member follows what the members have, as every peer does.
    fn follow(&mut self) {
        let most = (0..self.nodes.len()).max_by_key(|node| self.height(*node)).unwrap_or(0);
        let batches = self.nodes[most].chain.batches();
        for node in self.up() {
            let key = self.nodes[node].key.public();
            let roster = self.nodes[most].chain.end().roster;
            if roster.knows(&key) {
                continue;
            }
            for batch in &batches[usize::try_from(self.height(node)).unwrap()..] {
                let now = self.now();
                self.nodes[node].chain.commit(batch, &[]).unwrap().unwrap();
                self.finish(node, |member| member.grown(now, batch));
            }
        }
    }

    /// Where everybody is, for whoever reads a failure.
    fn picture(&self) -> String {
        let mut text = String::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(member) = &node.member else { continue };
            let report = member.report(self.now());
            let short = |key: &PublicKey| key.to_string()[..6].to_owned();
            let connected: Vec<_> = report
                .members
                .iter()
                .filter(|member| member.connected)
                .map(|member| (short(&member.key), member.height, member.silent, member.absent))
                .collect();
            text += &format!(
                "{number} {} part {} {:?} height {} round {:?} of {:?} pending {} council {connected:?}\n",
                short(&node.key.public()),
                node.part,
                report.voting,
                report.height,
                report.round,
                report.proposer.as_ref().map(short),
                report.pending
            );
        }
        text
    }

    /// Runs until a condition holds.
    fn until(&mut self, most_ms: u64, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now_ms + most_ms;
        while !holds(self) {
            assert!(self.now_ms < end, "{what}: not within {most_ms} ms\n{}", self.picture());
            self.run(50);
            self.follow();
        }
    }
}
