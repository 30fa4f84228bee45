//! Records of the own account: made, signed, handed in, and awaited in the own ledger.

use std::{sync::Arc, time::Duration};

use antiphon_ledger::Ledger;
use antiphon_proto::{
    NetworkId, PublicKey, SecretKey, limits,
    tokens::artist_name,
    wire::{
        Claim, Grant, Purchase, RefusalCode, Registration, TermsKind, Transfer, block, registration::Body,
    },
};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::key;
use crate::{
    failure::{Failure, Kind},
    library::describe::work,
    peer::{
        Peer,
        orders::{Orders, Verdict},
        select::{self, name},
    },
    search::Index,
    system::clock,
    tokens,
};

/// How long a record that nobody has decided is handed in again, and the pause between.
const HAND_IN_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// How long the own ledger may take to have what was decided.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// Blocks that are searched for a record whose answer was lost.
const SEARCHED: u64 = 4_096;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// One record at a time: each says how many were before it.
static TURN: Mutex<()> = Mutex::const_new(());

/// A record that the wallet is asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Wanted {
    /// Tokens to another wallet.
    Send {
        /// Public key.
        to: String,
        /// Units.
        units: u64,
        /// For people.
        memo: String,
    },
    /// Pay a song's price.
    Buy {
        /// Id or words.
        song: String,
        /// What the buyer was told, in units; none: whatever it is.
        price: Option<u64>,
    },
    /// Give or take the right to hear an own song.
    Grant {
        /// Id or words.
        song: String,
        /// Public key of the listener.
        to: String,
        /// For how long; none: for ever.
        days: Option<u32>,
        /// Take it away.
        revoke: bool,
    },
    /// Say who one is.
    Claim {
        /// Name of the artist.
        artist: String,
        /// For the council.
        statement: String,
    },
}

/// What has become of it: `antiphon wallet send|buy|grant|claim --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Version of this form.
    pub schema: u32,
    /// `transfer`, `purchase`, `grant` or `claim`.
    pub kind: String,
    /// Ledger index of its block.
    pub index: u64,
    /// Batch.
    pub height: u64,
    /// Number of the record in the account.
    pub sequence: u64,
    /// What was done, in words.
    pub what: String,
    /// What is in the account now.
    pub units: u64,
    /// The same in tokens.
    pub tokens: String,
    /// Whether the own ledger has the block already: `units` counts it then.
    pub arrived: bool,
}

/// Does it.
///
/// # Errors
/// [`Kind::Usage`] or [`Kind::NotFound`] for what cannot be meant, [`Kind::Failed`] with the reason where it is refused
/// or nobody decides it.
pub(crate) async fn make(peer: &Peer, wanted: Wanted) -> anyhow::Result<Recorded> {
    let _turn = TURN.lock().await;
    let wallet = peer.signer()?.clone();
    let (ledger, search, own) = (peer.ledger.clone(), peer.search.clone(), wallet.public());
    let (draft, ledger) = tokio::task::spawn_blocking(move || {
        let draft = Draft::of(&ledger, &search, own, &wanted)?;
        anyhow::Ok((draft, ledger))
    })
    .await??;
    let clerk = Clerk {
        bits: ledger.genesis().stamp_bits,
        network: ledger.network(),
        ledger,
        orders: peer.orders.clone(),
        wallet,
    };
    clerk.hand_in(draft).await
}

/// A record without sequence, stamp and signature.
struct Draft {
    body: Body,
    what: String,
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Kind::Usage, message).into()
}

fn refused(message: impl Into<String>) -> anyhow::Error {
    Failure::new(Kind::Failed, message).into()
}

/// Says so when an account has less than is needed.
fn enough(ledger: &Ledger, own: &PublicKey, needed: u64) -> anyhow::Result<()> {
    let there = ledger.account(own)?.units;
    if there >= needed {
        return Ok(());
    }
    Err(refused(format!(
        "{} are needed, and the account holds {}; nothing was sent",
        tokens::words(needed),
        tokens::words(there)
    )))
}

impl Draft {
    fn of(ledger: &Ledger, search: &Index, own: PublicKey, wanted: &Wanted) -> anyhow::Result<Self> {
        match wanted {
            Wanted::Send { to, units, memo } => Self::transfer(ledger, own, &key(to)?, *units, memo),
            Wanted::Buy { song, price } => Self::purchase(ledger, search, own, song, *price),
            Wanted::Grant { song, to, days, revoke } => {
                let until_ms = match (revoke, days) {
                    // Any time that is past takes the right away.
                    (true, _) => 1,
                    (false, None) => 0,
                    (false, Some(days)) => {
                        clock::now_ms().saturating_add(u64::from(*days).saturating_mul(DAY_MS))
                    }
                };
                Self::grant(ledger, search, own, song, &key(to)?, until_ms)
            }
            Wanted::Claim { artist, statement } => Self::claim(ledger, own, artist, statement),
        }
    }

    fn transfer(
        ledger: &Ledger,
        own: PublicKey,
        to: &PublicKey,
        units: u64,
        memo: &str,
    ) -> anyhow::Result<Self> {
        if *to == own {
            return Err(usage("that is this wallet's own key: nobody can pay themselves"));
        }
        if units == 0 {
            return Err(usage("0 tokens cannot be sent"));
        }
        bounded("the memo", memo)?;
        enough(ledger, &own, units)?;
        let transfer = Transfer {
            from: own.0.to_vec(),
            to: to.0.to_vec(),
            amount: units,
            memo: memo.to_owned(),
            ..Transfer::default()
        };
        Ok(Self { body: Body::Transfer(transfer), what: format!("sent {} to {to}", tokens::words(units)) })
    }

    fn purchase(
        ledger: &Ledger,
        search: &Index,
        own: PublicKey,
        words: &str,
        told: Option<u64>,
    ) -> anyhow::Result<Self> {
        let found = select::select(ledger, search, words)?;
        let (song, shown) = (&found.song, name(&found.song.artist, &found.song.title));
        let (kind, price) = song.asks();
        match kind {
            TermsKind::Open => return Err(refused(format!("{shown} is free to hear; nothing was paid"))),
            TermsKind::Grant => {
                return Err(refused(format!("{shown} is not for sale: its artist grants it")));
            }
            TermsKind::PayPerPlay | TermsKind::Purchase => {}
        }
        if let Some(told) = told.filter(|told| *told != price) {
            let (price, told) = (tokens::words(price), tokens::words(told));
            return Err(refused(format!("{shown} costs {price}, not {told}; nothing was paid")));
        }
        // Shy of the last moment there is, only a right without an end holds.
        let last = u64::MAX.saturating_sub(1);
        if ledger.may_hear(found.index, song, &own, last)?.is_ok() {
            return Err(refused(format!("this wallet may hear {shown} for ever already; nothing was paid")));
        }
        enough(ledger, &own, price)?;
        let purchase =
            Purchase { buyer: own.0.to_vec(), song_id: song.id().0.to_vec(), price, ..Purchase::default() };
        let right = if kind == TermsKind::PayPerPlay { " (one play)" } else { "" };
        let what = format!("bought {shown}{right} for {}", tokens::words(price));
        Ok(Self { body: Body::Purchase(purchase), what })
    }

    fn grant(
        ledger: &Ledger,
        search: &Index,
        own: PublicKey,
        words: &str,
        to: &PublicKey,
        until_ms: u64,
    ) -> anyhow::Result<Self> {
        let found = select::select(ledger, search, words)?;
        let (song, shown) = (&found.song, name(&found.song.artist, &found.song.title));
        if song.artist_key != own.0 {
            return Err(refused(format!(
                "only the artist grants {shown}, and that is not this wallet's key"
            )));
        }
        if song.asks().0 == TermsKind::Open {
            return Err(refused(format!("{shown} is free to hear: there is nothing to grant")));
        }
        let grant = Grant {
            grantor: own.0.to_vec(),
            song_id: song.id().0.to_vec(),
            holder: to.0.to_vec(),
            until_ms,
            ..Grant::default()
        };
        let what = match until_ms {
            1 => format!("took the right to hear {shown} from {to}"),
            0 => format!("granted {shown} to {to}"),
            _ => format!("granted {shown} to {to} for a time"),
        };
        Ok(Self { body: Body::Grant(grant), what })
    }

    fn claim(ledger: &Ledger, own: PublicKey, artist: &str, statement: &str) -> anyhow::Result<Self> {
        let artist = artist_name(artist);
        if artist.is_empty() || artist.len() > limits::TEXT_BYTES {
            return Err(usage(format!("a name has 1 to {} bytes", limits::TEXT_BYTES)));
        }
        if statement.len() > limits::TEXT_BYTES {
            return Err(usage(format!("the statement is longer than {} bytes", limits::TEXT_BYTES)));
        }
        let state = ledger.artist(&artist)?;
        if state.owner == own.0 {
            return Err(refused(format!("the name {artist:?} is this wallet's already")));
        }
        let again = state.claims.iter().any(|claim| claim.key == own.0);
        if !again && state.claims.len() >= limits::CLAIMS {
            return Err(refused(format!(
                "{} keys claim the name {artist:?}: the council has to rule on it first",
                limits::CLAIMS
            )));
        }
        let claim = Claim {
            claimant: own.0.to_vec(),
            artist: artist.clone(),
            statement: statement.to_owned(),
            ..Claim::default()
        };
        let what = format!("claimed the name {artist:?}; the council decides");
        Ok(Self { body: Body::Claim(claim), what })
    }
}

fn bounded(what: &str, text: &str) -> anyhow::Result<()> {
    if text.len() <= limits::MEMO_BYTES {
        return Ok(());
    }
    Err(usage(format!("{what} is longer than {} bytes", limits::MEMO_BYTES)))
}

/// Who makes, signs and hands in.
struct Clerk {
    ledger: Ledger,
    orders: Arc<dyn Orders>,
    wallet: Arc<SecretKey>,
    network: NetworkId,
    bits: u32,
}

impl Clerk {
    async fn hand_in(&self, draft: Draft) -> anyhow::Result<Recorded> {
        let mut again = true;
        loop {
            let sequence = self.account()?.sequence.saturating_add(1);
            let sealed = self.sealed(&draft.body, sequence).await?;
            match self.settle(sealed.clone()).await? {
                Verdict::Accepted { index, height } => {
                    return self.recorded(&draft, &sealed, sequence, index, height).await;
                }
                Verdict::Refused(why) if why.code() == RefusalCode::Sequence => {
                    self.reaches(|ledger, own| Ok(ledger.account(own)?.sequence >= sequence)).await?;
                    // An answer that was lost on its way.
                    if let Some((index, height)) = self.find(&sealed)? {
                        return self.recorded(&draft, &sealed, sequence, index, height).await;
                    }
                    if !again {
                        return Err(refused(format!("refused: {}; try again", why.detail)));
                    }
                    again = false;
                }
                Verdict::Refused(why) => return Err(refused(format!("refused: {}", why.detail))),
                Verdict::Kept => anyhow::bail!("the network took the record for a receipt"),
                Verdict::Unavailable(reason) => {
                    return Err(refused(format!(
                        "nobody has decided it: {reason}. It may still come into the ledger: look at `antiphon wallet \
                         history` before you try again"
                    )));
                }
            }
        }
    }

    fn account(&self) -> anyhow::Result<antiphon_proto::wire::AccountState> {
        Ok(self.ledger.account(&self.wallet.public())?)
    }

    /// Finds the stamp, signs, and checks what can be checked here.
    async fn sealed(&self, body: &Body, sequence: u64) -> anyhow::Result<Registration> {
        let (body, network, bits) = (body.clone(), self.network, self.bits);
        let wallet = self.wallet.clone();
        let sealed =
            tokio::task::spawn_blocking(move || seal(body, sequence, &network, bits, &wallet)).await?;
        let sealed = sealed.context("the work for the stamp found nothing")?;
        sealed.check(&self.network, self.bits).map_err(|error| usage(error.to_string()))?;
        Ok(sealed)
    }

    /// Hands it in until somebody decides it. The very same record cannot come in twice.
    async fn settle(&self, sealed: Registration) -> anyhow::Result<Verdict> {
        let until = Instant::now() + HAND_IN_WITHIN;
        loop {
            let verdict = match timeout(HAND_IN_WITHIN, self.orders.submit(sealed.clone(), 0)).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Unavailable("no answer came".to_owned()),
            };
            match verdict {
                Verdict::Unavailable(_) if Instant::now() < until => sleep(PAUSE).await,
                verdict => return Ok(verdict),
            }
        }
    }

    /// Waits until something is so in the own ledger; whether it is.
    async fn reaches(
        &self,
        so: impl Fn(&Ledger, &PublicKey) -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let (mut grows, own) = (self.ledger.watch(), self.wallet.public());
        let until = Instant::now() + ARRIVES_WITHIN;
        loop {
            grows.borrow_and_update();
            if so(&self.ledger, &own)? {
                return Ok(true);
            }
            if !matches!(tokio::time::timeout_at(until, grows.changed()).await, Ok(Ok(()))) {
                return Ok(false);
            }
        }
    }

    /// Where the record stands in the own ledger.
    fn find(&self, sealed: &Registration) -> anyhow::Result<Option<(u64, u64)>> {
        let end = self.account()?.last;
        for index in (end.saturating_sub(SEARCHED)..end).rev() {
            if let Some(block) = self.ledger.parsed(index)?
                && is_same(block.body.as_ref(), sealed)
            {
                return Ok(Some((block.index, block.height)));
            }
        }
        Ok(None)
    }

    async fn recorded(
        &self,
        draft: &Draft,
        sealed: &Registration,
        sequence: u64,
        index: u64,
        height: u64,
    ) -> anyhow::Result<Recorded> {
        let arrived = self.reaches(|ledger, _| Ok(ledger.size() > index)).await?;
        if arrived && !is_same(self.ledger.parsed(index)?.and_then(|block| block.body).as_ref(), sealed) {
            anyhow::bail!(
                "block {index} is not the record, as the peer that took it says; look at `antiphon wallet history`"
            );
        }
        let units = self.account()?.units;
        Ok(Recorded {
            schema: 1,
            kind: kind(&draft.body).to_owned(),
            index,
            height,
            sequence,
            what: draft.what.clone(),
            units,
            tokens: tokens::format(units),
            arrived,
        })
    }
}

const fn kind(body: &Body) -> &'static str {
    match body {
        Body::Transfer(_) => "transfer",
        Body::Purchase(_) => "purchase",
        Body::Grant(_) => "grant",
        Body::Claim(_) => "claim",
        _ => "",
    }
}

fn is_same(block: Option<&block::Body>, sealed: &Registration) -> bool {
    match (block, &sealed.body) {
        (Some(block::Body::Transfer(there)), Some(Body::Transfer(ours))) => there == ours,
        (Some(block::Body::Purchase(there)), Some(Body::Purchase(ours))) => there == ours,
        (Some(block::Body::Grant(there)), Some(Body::Grant(ours))) => there == ours,
        (Some(block::Body::Claim(there)), Some(Body::Claim(ours))) => there == ours,
        _ => false,
    }
}

/// Numbers, stamps and signs a record.
fn seal(
    mut body: Body,
    sequence: u64,
    network: &NetworkId,
    bits: u32,
    wallet: &SecretKey,
) -> Option<Registration> {
    macro_rules! seal {
        ($record:ident) => {{
            $record.sequence = sequence;
            $record.stamp = work(&$record.stamp_challenge(network), bits, &|| true)?;
            $record.sign(network, wallet);
        }};
    }
    match &mut body {
        Body::Transfer(record) => seal!(record),
        Body::Purchase(record) => seal!(record),
        Body::Grant(record) => seal!(record),
        Body::Claim(record) => seal!(record),
        _ => return None,
    }
    Some(Registration { body: Some(body) })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Held;

    use antiphon_ledger::Options;
    use antiphon_proto::wire::{Genesis, Refused};
    use futures::future::BoxFuture;

    use super::*;

    /// Answers from a list, the last for ever.
    struct Script(Held<Vec<Verdict>>, Held<Vec<Registration>>);

    impl Orders for Script {
        fn submit(&self, registration: Registration, _hops: u32) -> BoxFuture<'static, Verdict> {
            self.1.lock().unwrap().push(registration);
            let mut answers = self.0.lock().unwrap();
            let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            Box::pin(async move { next })
        }
    }

    fn clerk(answers: Vec<Verdict>, dir: &std::path::Path) -> (Clerk, Arc<Script>) {
        let wallet = Arc::new(SecretKey::from_seed(&[7; 32]));
        let genesis = Genesis { stamp_bits: 2, ..Genesis::new("", 1, [0; 16], &[wallet.public()]) };
        let ledger = Ledger::open(dir, Options::without_rule(Some(genesis))).unwrap();
        let script = Arc::new(Script(Held::new(answers), Held::new(Vec::new())));
        let network = ledger.network();
        (Clerk { ledger, orders: script.clone(), wallet, network, bits: 2 }, script)
    }

    fn transfer() -> Draft {
        let own = SecretKey::from_seed(&[7; 32]).public();
        let transfer = Transfer { from: own.0.to_vec(), to: vec![9; 32], amount: 5, ..Transfer::default() };
        Draft { body: Body::Transfer(transfer), what: "sent".to_owned() }
    }

    fn no(code: RefusalCode, detail: &str) -> Verdict {
        Verdict::Refused(Refused { code: code.into(), detail: detail.to_owned(), ..Refused::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_handed_in_is_sealed_and_a_refusal_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (clerk, script) = clerk(vec![no(RefusalCode::Balance, "holds 0 units")], dir.path());
        let error = clerk.hand_in(transfer()).await.unwrap_err();
        assert!(error.to_string().contains("holds 0 units"), "{error}");
        let asked = script.1.lock().unwrap();
        assert_eq!(asked.len(), 1);
        asked[0].check(&clerk.network, 2).unwrap();
        let Some(Body::Transfer(sealed)) = &asked[0].body else { panic!() };
        assert_eq!(sealed.sequence, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_record_that_was_faster_is_tried_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let (clerk, script) = clerk(vec![no(RefusalCode::Sequence, "another one was faster")], dir.path());
        let error = clerk.hand_in(transfer()).await.unwrap_err();
        assert!(error.to_string().contains("faster"), "{error}");
        assert_eq!(script.1.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_record_goes_again_until_somebody_decides() {
        let dir = tempfile::tempdir().unwrap();
        let (clerk, script) = clerk(
            vec![Verdict::Unavailable("nobody".to_owned()), no(RefusalCode::Quota, "too many")],
            dir.path(),
        );
        let error = clerk.hand_in(transfer()).await.unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
        let asked = script.1.lock().unwrap().clone();
        assert!(asked.len() == 2 && asked[0] == asked[1]);
        let (clerk, _) =
            self::clerk(vec![Verdict::Unavailable("nobody is there".to_owned())], &dir.path().join("b"));
        let error = clerk.hand_in(transfer()).await.unwrap_err().to_string();
        assert!(error.contains("nobody is there") && error.contains("wallet history"), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_said_before() {
        let dir = tempfile::tempdir().unwrap();
        let (clerk, _) = clerk(Vec::new(), dir.path());
        let own = clerk.wallet.public();
        let other = SecretKey::from_seed(&[8; 32]).public();
        let says = |draft: anyhow::Result<Draft>, what: &str| {
            let error = draft.err().unwrap().to_string();
            assert!(error.contains(what), "{error}");
        };
        says(Draft::transfer(&clerk.ledger, own, &own, 5, ""), "own key");
        says(Draft::transfer(&clerk.ledger, own, &other, 0, ""), "0 tokens");
        says(Draft::transfer(&clerk.ledger, own, &other, 5, &"x".repeat(129)), "128 bytes");
        let short = Draft::transfer(&clerk.ledger, own, &other, 150_000_000, "");
        says(short, "1.5 tokens are needed, and the account holds 0 tokens");
        says(Draft::claim(&clerk.ledger, own, "  ", ""), "name");
        let claimed = Draft::claim(&clerk.ledger, own, " The  Artist", "see example.org").unwrap();
        let Body::Claim(claim) = claimed.body else { panic!() };
        assert_eq!(claim.artist, "the artist");
    }
}
