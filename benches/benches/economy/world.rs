//! Who listens, serves and makes music, and what becomes of their plays.

use std::collections::HashMap;

use antiphon_benches::NOW_MS;
use antiphon_ledger::{
    bench::Town,
    tokens::{NoEarlier, StateKey, Unsettled},
};
use antiphon_proto::{
    PublicKey,
    council::Change,
    economy::{self, TOKEN},
    epoch::Escrow,
    tokens::artist_name,
    wire::{
        AccountState, Claim, Economy, EscrowState, Genesis, Receipt, ReceiptBody, Served, Song, SongState,
        Span, Split,
    },
};

/// Plays for which the scale is 1.
const FULL_PLAYS: u64 = 1_200_000_000;
const LISTENERS: usize = 20_000;
/// The first of the listeners serve, too.
const SERVERS: usize = 300;
const ARTISTS: usize = 2_000;
const SONGS_AT_FIRST: usize = 10_000;
const SONGS_AT_LAST: usize = 40_000;
/// Plays that are wanted in one settlement: they fit.
const AT_ONCE: usize = 200;
/// Settlements between two rounds of releases from escrows.
const RELEASE_EVERY: u64 = 250;
/// Songs that a listener thinks of before giving up.
const TRIES: usize = 20;
const DURATION_MS: u32 = 200_000;
const POINTS: u64 = 600;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A rank from 0 up to `count`, the first twice as often as the second (Zipf, exponent 1, by its continuous form).
    fn zipf(&mut self, count: usize) -> usize {
        let rank = ((count as f64 + 1.0).ln() * self.unit()).exp();
        (rank as usize).clamp(1, count) - 1
    }
}

fn key(kind: &str, number: usize) -> PublicKey {
    PublicKey(*blake3::hash(format!("{kind} {number}").as_bytes()).as_bytes())
}

/// The state of the network after some plays. Amounts in units, since the beginning but for the supply, the burn and what
/// escrows hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Point {
    pub(super) plays: u64,
    pub(super) supply: u64,
    pub(super) minted: u64,
    pub(super) burned: u64,
    /// Minted to those who only listen.
    pub(super) listeners: u64,
    /// Minted to those who serve.
    pub(super) serving: u64,
    /// Minted to artists' accounts, and released to them.
    pub(super) artists: u64,
    /// Still in escrow.
    pub(super) escrow: u64,
    /// What a play beyond discovery burns now.
    pub(super) burn: u64,
    /// Songs beyond discovery.
    pub(super) past: u64,
    /// Songs that were wanted and not affordable.
    pub(super) unaffordable: u64,
    /// Receipts that could not be settled since the listener could not pay any more.
    pub(super) refused: u64,
    /// Plays that counted, but brought nothing: the supply was at the cap.
    pub(super) empty: u64,
    /// Of what was wanted since the point before.
    pub(super) unaffordable_share: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listener,
    Server,
    Artist,
}

pub(super) struct World {
    town: Town,
    economy: Economy,
    scale: u64,
    random: Random,
    listeners: Vec<PublicKey>,
    artists: Vec<PublicKey>,
    kinds: HashMap<PublicKey, Kind>,
    /// Songs by popularity: a new one takes a random place.
    charts: Vec<usize>,
    songs: Vec<Song>,
    ids: Vec<Vec<u8>>,
    /// Plays of each song.
    counts: Vec<u64>,
    time_ms: u64,
    settlements: u64,
    sequences: HashMap<PublicKey, u64>,
    /// Wanted songs: all, and those that were played or given up.
    wanted: u64,
    releases: u64,
    silent: u64,
    now: Point,
    floor_at: Option<u64>,
    cap_at: Option<u64>,
    at_most: u64,
}

impl World {
    pub(super) fn new(plays: u64) -> Self {
        let scale = (FULL_PLAYS / plays.max(1)).max(1);
        let economy = Economy {
            floor_units: economy::DEFAULT.floor_units / scale,
            cap_units: economy::DEFAULT.cap_units / scale,
            threshold_plays: u32::try_from(u64::from(economy::DEFAULT.threshold_plays) / scale)
                .unwrap()
                .max(1),
            ..economy::DEFAULT
        };
        economy.check().unwrap();
        let genesis = Genesis {
            economy: Some(economy),
            ..Genesis::new("economy", NOW_MS, [0; 16], &[key("member", 0)])
        };
        let listeners: Vec<PublicKey> = (0..LISTENERS).map(|number| key("listener", number)).collect();
        let artists: Vec<PublicKey> = (0..ARTISTS).map(|number| key("artist", number)).collect();
        let mut kinds = HashMap::new();
        kinds.extend(listeners.iter().map(|key| (*key, Kind::Listener)));
        kinds.extend(listeners.iter().take(SERVERS).map(|key| (*key, Kind::Server)));
        kinds.extend(artists.iter().map(|key| (*key, Kind::Artist)));
        let mut world = Self {
            town: Town::new(&genesis),
            economy,
            scale,
            random: Random(1),
            listeners,
            artists,
            kinds,
            charts: Vec::new(),
            songs: Vec::new(),
            ids: Vec::new(),
            counts: Vec::new(),
            time_ms: NOW_MS,
            settlements: 0,
            sequences: HashMap::new(),
            wanted: 0,
            releases: 0,
            silent: 0,
            now: Point::default(),
            floor_at: None,
            cap_at: None,
            at_most: 0,
        };
        (0..SONGS_AT_FIRST).for_each(|_| world.add_song());
        world
    }

    pub(super) const fn economy(&self) -> Economy {
        self.economy
    }

    pub(super) const fn scale(&self) -> u64 {
        self.scale
    }

    /// Popular artists make popular songs no more often than others; half of the artists have registered with a key, and
    /// every fourth of those shares with a second key.
    fn add_song(&mut self) {
        let number = self.songs.len();
        let artist = self.random.below(ARTISTS);
        let mut song = Song {
            title: format!("song {number}"),
            artist: format!("artist {artist}"),
            duration_ms: DURATION_MS,
            ..Song::default()
        };
        if artist.is_multiple_of(2) {
            let split = |who: usize, basis_points| Split { key: self.artists[who].0.to_vec(), basis_points };
            song.artist_key = self.artists[artist].0.to_vec();
            song.splits = match artist % 8 {
                0 => vec![split(artist, 7_000), split((artist + 1) % ARTISTS, 3_000)],
                _ => vec![split(artist, 10_000)],
            };
        }
        self.ids.push(song.id().0.to_vec());
        self.counts.push(0);
        self.town.add_song(song.clone());
        self.songs.push(song);
        let place = self.random.below(self.charts.len() + 1);
        self.charts.push(number);
        let last = self.charts.len() - 1;
        self.charts.swap(place, last);
    }

    /// What a listener hears next: nothing beyond discovery that cannot be paid for.
    fn choose(&mut self, units: u64, burn: u64) -> Option<usize> {
        for _ in 0..TRIES {
            let rank = self.random.zipf(self.charts.len());
            let song = self.charts[rank];
            self.wanted += 1;
            if self.counts[song] < self.economy.threshold_plays.into() || units >= burn {
                return Some(song);
            }
            self.now.unaffordable += 1;
        }
        self.silent += 1;
        None
    }

    /// A play that ends within the last ten minutes; one in four is served by two.
    fn receipt(&mut self, listener: PublicKey, song: usize) -> Receipt {
        let mut served: Vec<Served> = Vec::new();
        let two = self.random.below(4) == 0;
        for bytes in [20_000_000, 10_000_000].into_iter().take(1 + usize::from(two)) {
            let server = self.listeners[self.random.zipf(SERVERS)];
            if served.iter().all(|other| other.key != server.0) {
                served.push(Served { key: server.0.to_vec(), bytes });
            }
        }
        let end_ms = self.time_ms - self.random.next() % 400_000;
        let session = [self.random.next().to_le_bytes(), self.random.next().to_le_bytes()].concat();
        let body = ReceiptBody {
            session,
            song_id: self.ids[song].clone(),
            listener: listener.0.to_vec(),
            witness: served[0].key.clone(),
            start_ms: end_ms - u64::from(DURATION_MS) + 1,
            end_ms,
            heard: vec![Span { start: 0, end: DURATION_MS }],
            beats: 40,
            chain: vec![0; 32],
            served,
        };
        Receipt::new(body, &[0; 64], &[0; 64])
    }

    /// One settlement of ten minutes.
    fn step(&mut self) {
        self.time_ms += u64::from(self.economy.epoch_ms);
        self.settlements += 1;
        let burn = self.economy.burn(self.town.tokens().supply());
        let mut busy: HashMap<PublicKey, usize> = HashMap::new();
        let mut receipts = Vec::with_capacity(AT_ONCE);
        for _ in 0..AT_ONCE {
            let listener = self.listeners[self.random.below(LISTENERS)];
            if busy.contains_key(&listener) {
                continue;
            }
            let account: AccountState = self.town.entry(&StateKey::Account(listener)).unwrap();
            if let Some(song) = self.choose(account.units, burn) {
                busy.insert(listener, song);
                receipts.push((self.receipt(listener, song), song));
            }
        }
        let (receipts, of): (Vec<Receipt>, Vec<usize>) = receipts.into_iter().unzip();
        let before = *self.town.tokens();
        let found = self.town.settle(self.time_ms, &receipts, &NoEarlier).unwrap();
        for (_, why) in &found.unsettled {
            // A song that came out of discovery in this very settlement.
            assert!(matches!(why, Unsettled::CannotPay { .. }), "{why}");
            self.now.refused += 1;
        }
        let Some(epoch) = found.epoch else { return };
        epoch.check_form().unwrap();
        self.town.apply(&epoch, self.time_ms).unwrap();
        found.settled.iter().for_each(|at| self.counts[of[*at]] += 1);
        for credit in &epoch.credits {
            let key = PublicKey::try_from(&credit.key[..]).unwrap();
            match self.kinds[&key] {
                Kind::Listener => self.now.listeners += credit.units,
                Kind::Server => self.now.serving += credit.units,
                Kind::Artist => self.now.artists += credit.units,
            }
        }
        self.now.escrow += epoch.escrows.iter().map(|escrow| escrow.units).sum::<u64>();
        self.now.plays += u64::from(epoch.plays);
        // What a play brings at least is two tokens; those that brought nothing are the rest.
        let most: u64 =
            epoch.songs.iter().map(|song| u64::from(2 * song.plays + song.discovered) * TOKEN).sum();
        self.now.empty += (most - epoch.minted) / (2 * TOKEN);
        self.check(before.totals.minted + epoch.minted, before.totals.burned + epoch.burned);
    }

    /// What must hold after every step.
    fn check(&mut self, minted: u64, burned: u64) {
        let tokens = self.town.tokens();
        assert_eq!((tokens.totals.minted, tokens.totals.burned), (minted, burned));
        assert_eq!(tokens.supply(), minted - burned);
        assert_eq!(self.town.held(), u128::from(tokens.supply()), "accounts and escrows");
        assert!(tokens.supply() <= self.economy.cap_units, "the cap");
        let earned = self.now.listeners + self.now.serving + self.now.artists + self.now.escrow;
        assert_eq!(earned, minted, "who has got it");
        let supply = tokens.supply();
        self.at_most = self.at_most.max(supply);
        if self.floor_at.is_none() && supply > self.economy.floor_units {
            self.floor_at = Some(self.now.plays);
        }
        // No play fits any more.
        if self.cap_at.is_none() && self.economy.cap_units - supply < 2 * TOKEN {
            self.cap_at = Some(self.now.plays);
        }
        if self.settlements.is_multiple_of(500) {
            assert_eq!(self.town.recount().unwrap(), self.town.held());
        }
    }

    /// The council releases the escrows of some artists; those who had no key have claimed their names by now.
    fn release(&mut self) {
        for _ in 0..ARTISTS / 20 {
            let artist = self.random.below(ARTISTS);
            let to = self.artists[artist];
            let escrow = if artist.is_multiple_of(2) {
                Escrow::Key(to)
            } else if artist % 4 == 1 {
                let name = artist_name(&format!("artist {artist}"));
                let sequence = self.sequences.entry(to).or_default();
                *sequence += 1;
                let claim = Claim {
                    claimant: to.0.to_vec(),
                    artist: name.clone(),
                    sequence: *sequence,
                    ..Claim::default()
                };
                if self.town.claim(&claim).is_err() {
                    // The name is this artist's already: what is played now goes to the account.
                    *sequence -= 1;
                    continue;
                }
                Escrow::Name(name)
            } else {
                // Never comes.
                continue;
            };
            let held: EscrowState = self.town.entry(&StateKey::Escrow(escrow.clone())).unwrap();
            if held.units > 0 {
                self.town.decide(Change::Release { escrow, to }).unwrap();
                self.now.escrow -= held.units;
                self.now.artists += held.units;
                self.releases += 1;
            }
        }
        let totals = self.town.tokens().totals;
        self.check(totals.minted, totals.burned);
    }

    fn point(&mut self, last: &Point, wanted_before: u64) -> Point {
        let tokens = *self.town.tokens();
        self.now.supply = tokens.supply();
        self.now.minted = tokens.totals.minted;
        self.now.burned = tokens.totals.burned;
        self.now.burn = self.economy.burn(tokens.supply());
        let threshold = u64::from(self.economy.threshold_plays);
        self.now.past = self.counts.iter().filter(|count| **count >= threshold).count() as u64;
        let wanted = (self.wanted - wanted_before).max(1);
        self.now.unaffordable_share = (self.now.unaffordable - last.unaffordable) as f64 / wanted as f64;
        self.now
    }

    pub(super) fn run(&mut self, plays: u64) -> Vec<Point> {
        let mut points = vec![Point::default()];
        let mut wanted = 0;
        while self.now.plays < plays {
            self.step();
            if self.settlements.is_multiple_of(RELEASE_EVERY) {
                self.release();
            }
            let share = self.now.plays as f64 / plays as f64;
            let songs = SONGS_AT_FIRST + ((SONGS_AT_LAST - SONGS_AT_FIRST) as f64 * share) as usize;
            while self.songs.len() < songs.min(SONGS_AT_LAST) {
                self.add_song();
            }
            let last = *points.last().unwrap();
            if self.now.plays >= plays || self.now.plays >= last.plays + plays / POINTS {
                let point = self.point(&last, wanted);
                wanted = self.wanted;
                points.push(point);
            }
        }
        assert_eq!(self.town.recount().unwrap(), u128::from(self.town.tokens().supply()));
        let state = |song: usize| self.town.entry::<SongState>(&StateKey::Song(song as u64)).unwrap().plays;
        assert!((0..self.songs.len()).all(|song| state(song) == self.counts[song]), "plays of each song");
        points
    }

    pub(super) fn summary(&self) -> String {
        let at = |plays: Option<u64>| {
            plays.map_or_else(|| "never".to_owned(), |plays| format!("after {plays} plays"))
        };
        format!(
            "floor crossed {}, cap met {}, supply {:.6} of the cap at most; {} settlements, {} songs, {} releases, \
             {} times nothing to hear, {} refused, {} plays brought nothing; state {:02x?}",
            at(self.floor_at),
            at(self.cap_at),
            self.at_most as f64 / self.economy.cap_units as f64,
            self.settlements,
            self.songs.len(),
            self.releases,
            self.silent,
            self.now.refused,
            self.now.empty,
            &self.town.tokens().digest()[..8],
        )
    }
}
