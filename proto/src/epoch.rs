//! Rules on the form of settlements: sums that agree with one another.

use crate::{
    limits,
    record::{Invalid, key},
    tokens::check_artist,
    wire::{Amount, Epoch, EscrowAmount},
};

/// Whose an escrow is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Escrow {
    /// An artist who has registered.
    Key(crate::PublicKey),
    /// A normalised name that nobody has registered under.
    Name(String),
}

impl EscrowAmount {
    /// Whose it is.
    ///
    /// # Errors
    /// [`Invalid`] when that is not said, or said twice.
    pub fn escrow(&self) -> Result<Escrow, Invalid> {
        match (self.key.is_empty(), self.name.is_empty()) {
            (false, true) => key("escrows.key", &self.key).map(Escrow::Key),
            (true, false) => check_artist(&self.name).map(|()| Escrow::Name(self.name.clone())),
            _ => Err(Invalid::Epoch("an escrow has either a key or a name")),
        }
    }

    /// What an escrow gets.
    #[must_use]
    pub fn new(escrow: &Escrow, units: u64) -> Self {
        match escrow {
            Escrow::Key(key) => Self { key: key.0.to_vec(), units, ..Self::default() },
            Escrow::Name(name) => Self { name: name.clone(), units, ..Self::default() },
        }
    }
}

/// Sum of ascending amounts, none of them 0.
fn sum(amounts: &[Amount]) -> Result<u64, Invalid> {
    let mut total = 0u64;
    for amount in amounts {
        key("key", &amount.key)?;
        total = add(total, amount.units)?;
    }
    if amounts.is_sorted_by(|a, b| a.key < b.key) {
        Ok(total)
    } else {
        Err(Invalid::Epoch("amounts are not in ascending order, each once"))
    }
}

fn add(total: u64, units: u64) -> Result<u64, Invalid> {
    if units == 0 {
        return Err(Invalid::Epoch("an amount of nothing"));
    }
    total.checked_add(units).ok_or(Invalid::Epoch("the sum overflows"))
}

impl Epoch {
    /// Checks what can be checked without the ledger and the receipts: order, and that the sums agree.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        let rule = |holds: bool, text| if holds { Ok(()) } else { Err(Invalid::Epoch(text)) };
        rule(self.number > 0, "it has no number")?;
        rule(self.receipts_root.len() == 32 && self.state.len() == 32, "a hash that is not 32 bytes")?;
        rule(self.receipts as usize <= limits::EPOCH_RECEIPTS, "too many receipts")?;
        rule(self.plays > 0 && self.plays <= self.receipts, "it has no plays, or more than receipts")?;
        let (mut plays, mut minted) = (0u64, 0u64);
        for song in &self.songs {
            rule(song.plays > 0 && song.discovered <= song.plays, "a song without plays")?;
            plays = plays.saturating_add(song.plays.into());
            minted = minted.checked_add(song.minted).ok_or(Invalid::Epoch("the sum overflows"))?;
        }
        rule(self.songs.is_sorted_by(|a, b| a.song < b.song), "songs are not in ascending order, each once")?;
        rule(plays == u64::from(self.plays), "the plays of the songs do not add up")?;
        rule(minted == self.minted, "what was minted for the songs does not add up")?;
        let mut given = sum(&self.credits)?;
        let mut before: Option<Escrow> = None;
        for amount in &self.escrows {
            let escrow = amount.escrow()?;
            rule(
                before.as_ref().is_none_or(|before| *before < escrow),
                "escrows are not in ascending order",
            )?;
            given = add(given, amount.units)?;
            before = Some(escrow);
        }
        rule(given == self.minted, "what was given is not what was minted")?;
        rule(sum(&self.burns)? == self.burned, "what was burned does not add up")
    }
}
