//! Balances along the ledger: what transfers, purchases, settlements and the council's acts have led to. Blocks are in the
//! ledger, so they keep the rules; they are only added up here.

use std::{collections::BTreeMap, convert::Infallible};

use antiphon_ledger::Ledger;
use antiphon_proto::{
    PublicKey, SongId,
    council::Change,
    epoch::Escrow,
    tokens::Shares,
    wire::{Block, Epoch, Song, block::Body},
};
use anyhow::Context;

/// Blocks that are read between two looks at whether to stop.
const LOOK_EVERY: u64 = 1_024;

/// What a settlement has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    /// All units that exist after it.
    pub(super) supply: u64,
    /// Accounts that it has changed, with what is in them, ascending.
    pub(super) balances: Vec<(PublicKey, u64)>,
}

/// Accounts and escrows at a place of the ledger.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    next: u64,
    supply: u64,
    accounts: BTreeMap<PublicKey, u64>,
    escrows: BTreeMap<Escrow, u64>,
    owners: BTreeMap<String, PublicKey>,
}

/// What is taken is there, and sums fit: the ledger has checked both.
fn add(to: &mut u64, units: u64) {
    *to = to.saturating_add(units);
}

fn take(from: &mut u64, units: u64) {
    *from = from.saturating_sub(units);
}

impl Accounts {
    /// Counts every block before `index`, from where it is or from the beginning.
    pub(super) fn go_to(
        &mut self,
        ledger: &Ledger,
        index: u64,
        tell: &mut dyn FnMut(u64) -> bool,
    ) -> anyhow::Result<()> {
        if self.next > index {
            *self = Self::default();
        }
        while self.next < index {
            let at = self.next;
            let block = ledger.parsed(at)?.with_context(|| format!("the ledger ends before block {at}"))?;
            self.take(ledger, &block)?;
            if at.is_multiple_of(LOOK_EVERY) && !tell(0) {
                return Err(super::interrupted());
            }
        }
        Ok(())
    }

    /// Counts the next block; what it has led to, if it is a settlement.
    pub(super) fn take(&mut self, ledger: &Ledger, block: &Block) -> anyhow::Result<Option<Settled>> {
        self.next = block.index.saturating_add(1);
        let song = match &block.body {
            Some(Body::Purchase(purchase)) => song_of(ledger, &purchase.song()?)?,
            _ => None,
        };
        self.count(block, song.as_ref())
    }

    fn count(&mut self, block: &Block, song: Option<&Song>) -> anyhow::Result<Option<Settled>> {
        match &block.body {
            Some(Body::Transfer(transfer)) => {
                take(self.account(transfer.payer()?), transfer.amount);
                add(self.account(transfer.payee()?), transfer.amount);
            }
            Some(Body::Purchase(purchase)) => {
                take(self.account(purchase.buyer_key()?), purchase.price);
                if let Some(song) = song {
                    self.pay(song, purchase.price);
                }
            }
            Some(Body::Epoch(epoch)) => return self.epoch(epoch).map(Some),
            Some(Body::Council(council)) => match council.act()?.change()? {
                Change::Release { escrow, to } => {
                    let units = self.escrows.remove(&escrow).unwrap_or_default();
                    add(self.account(to), units);
                    if let Escrow::Name(name) = escrow {
                        self.owners.insert(name, to);
                    }
                }
                Change::Name { artist, owner: Some(owner) } => drop(self.owners.insert(artist, owner)),
                Change::Name { artist, owner: None } => drop(self.owners.remove(&artist)),
                Change::Member { .. } | Change::Parameters(_) | Change::Song { .. } => {}
            },
            _ => {}
        }
        Ok(None)
    }

    fn account(&mut self, key: PublicKey) -> &mut u64 {
        self.accounts.entry(key).or_default()
    }

    /// Pays the payees of a song.
    fn pay(&mut self, song: &Song, price: u64) {
        let shares = song.shares(price, |name| Ok::<_, Infallible>(self.owners.get(name).copied()));
        match shares {
            Ok(Shares::Accounts(accounts)) => {
                accounts.into_iter().for_each(|(key, units)| add(self.account(key), units));
            }
            Ok(Shares::Escrow(escrow)) => add(self.escrows.entry(escrow).or_default(), price),
            Ok(Shares::Nobody) => {}
        }
    }

    fn epoch(&mut self, epoch: &Epoch) -> anyhow::Result<Settled> {
        let mut changed = BTreeMap::new();
        for (amounts, change) in [(&epoch.burns, take as fn(&mut u64, u64)), (&epoch.credits, add)] {
            for amount in amounts {
                let key = PublicKey::try_from(&amount.key[..])?;
                let account = self.account(key);
                change(account, amount.units);
                changed.insert(key, *account);
            }
        }
        for amount in &epoch.escrows {
            add(self.escrows.entry(amount.escrow()?).or_default(), amount.units);
        }
        self.supply = self.supply.saturating_add(epoch.minted).saturating_sub(epoch.burned);
        Ok(Settled { supply: self.supply, balances: changed.into_iter().collect() })
    }
}

fn song_of(ledger: &Ledger, id: &SongId) -> anyhow::Result<Option<Song>> {
    Ok(match ledger.by_song_id(id)? {
        Some(index) => ledger.song(index)?,
        None => None,
    })
}

#[cfg(test)]
mod tests {
    use antiphon_proto::wire::{
        Amount, Council, CouncilAct, EscrowAmount, EscrowRelease, Purchase, Split, Transfer, council_act,
    };

    use super::*;

    fn block(body: Body) -> Block {
        Block { body: Some(body), ..Block::default() }
    }

    fn amount(key: u8, units: u64) -> Amount {
        Amount { key: vec![key; 32], units }
    }

    #[test]
    fn every_unit_is_somewhere() {
        let mut accounts = Accounts::default();
        let name = |units| EscrowAmount::new(&Escrow::Name("a".to_owned()), units);
        let epoch = Epoch {
            number: 1,
            minted: 1_000,
            credits: vec![amount(1, 500), amount(2, 300)],
            escrows: vec![name(200)],
            ..Epoch::default()
        };
        let key = |byte| PublicKey([byte; 32]);
        let settled = accounts.count(&block(Body::Epoch(epoch)), None).unwrap().unwrap();
        assert_eq!(settled, Settled { supply: 1_000, balances: vec![(key(1), 500), (key(2), 300)] });

        let transfer = Transfer { from: vec![1; 32], to: vec![3; 32], amount: 100, ..Transfer::default() };
        assert_eq!(accounts.count(&block(Body::Transfer(transfer)), None).unwrap(), None);
        let song = Song {
            artist_key: vec![3; 32],
            splits: vec![
                Split { key: vec![3; 32], basis_points: 5_000 },
                Split { key: vec![4; 32], basis_points: 5_000 },
            ],
            ..Song::default()
        };
        let bought =
            |buyer| Body::Purchase(Purchase { buyer: vec![buyer; 32], price: 51, ..Purchase::default() });
        accounts.count(&block(bought(2)), Some(&song)).unwrap();
        let of_a_fan = Song { artist: " A".to_owned(), ..Song::default() };
        accounts.count(&block(bought(1)), Some(&of_a_fan)).unwrap();
        let release = EscrowRelease { artist: "a".to_owned(), to: vec![5; 32] };
        let act = CouncilAct::new(council_act::Change::Release(release), 9, [0; 16]);
        let council = Council { act: Some(act), votes: Vec::new() };
        accounts.count(&block(Body::Council(council)), None).unwrap();
        // The name is somebody's now.
        accounts.count(&block(bought(1)), Some(&of_a_fan)).unwrap();

        let epoch = Epoch {
            number: 2,
            minted: 10,
            burned: 4,
            credits: vec![amount(5, 10)],
            burns: vec![amount(1, 3), amount(4, 1)],
            ..Epoch::default()
        };
        let settled = accounts.count(&block(Body::Epoch(epoch)), None).unwrap().unwrap();
        let expected = vec![(key(1), 500 - 100 - 51 - 51 - 3), (key(4), 24), (key(5), 251 + 51 + 10)];
        assert_eq!(settled, Settled { supply: 1_006, balances: expected });
        let held: u64 = accounts.accounts.values().chain(accounts.escrows.values()).sum();
        assert_eq!(held, accounts.supply);
    }
}
