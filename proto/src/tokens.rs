//! Rules on the form of records that move tokens or rights: transfers, purchases, grants, claims.

use crate::{
    economy::divide,
    epoch::Escrow,
    hash::SongId,
    keys::PublicKey,
    limits,
    record::{Invalid, at_most, key, signature_length, text},
    wire::{Claim, Grant, Purchase, Song, TermsKind, Transfer},
};

/// An artist's name as escrows know it: surrounding and repeated blanks gone, letters of the Latin, Greek and Cyrillic
/// alphabets in lower case. The rule is written out and not Unicode's own, whose tables grow: what two versions of a
/// program make of a name must be the same for ever.
#[must_use]
pub fn artist_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split([' ', '\u{a0}', '\u{3000}']).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().map(lower));
    }
    out
}

/// Lower case of letters whose two cases have a fixed distance.
fn lower(letter: char) -> char {
    let distance = match letter {
        'A'..='Z'
        | '\u{c0}'..='\u{d6}'
        | '\u{d8}'..='\u{de}'
        | '\u{391}'..='\u{3a1}'
        | '\u{3a3}'..='\u{3ab}' => 32,
        '\u{410}'..='\u{42f}' => 32,
        '\u{400}'..='\u{40f}' => 80,
        // Latin Extended-A: neighbours, of which the even one is the capital, or the odd one.
        '\u{100}'..='\u{12f}' | '\u{132}'..='\u{137}' | '\u{14a}'..='\u{177}' => 1 - u32::from(letter) % 2,
        '\u{139}'..='\u{148}' | '\u{179}'..='\u{17e}' => u32::from(letter) % 2,
        _ => 0,
    };
    char::from_u32(u32::from(letter).saturating_add(distance)).unwrap_or(letter)
}

/// Checks that a name is one that [`artist_name`] makes, and not empty.
pub(crate) fn check_artist(name: &str) -> Result<(), Invalid> {
    text("artist", name, limits::TEXT_BYTES)?;
    if name.is_empty() {
        return Err(Invalid::Missing("artist"));
    }
    if artist_name(name) == name { Ok(()) } else { Err(Invalid::Text { field: "artist" }) }
}

pub(crate) fn song_id(bytes: &[u8]) -> Result<SongId, Invalid> {
    SongId::try_from(bytes).map_err(|source| Invalid::Identity { field: "song_id", source })
}

fn sequence(sequence: u64) -> Result<(), Invalid> {
    if sequence == 0 { Err(Invalid::Missing("sequence")) } else { Ok(()) }
}

fn amount(field: &'static str, units: u64) -> Result<(), Invalid> {
    if units == 0 { Err(Invalid::Missing(field)) } else { at_most(field, units, limits::UNITS_MAX) }
}

/// Who gets the artist's share of a song, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shares {
    /// Accounts, in the order of the splits.
    Accounts(Vec<(PublicKey, u64)>),
    /// The escrow of an artist whom nobody knows yet.
    Escrow(Escrow),
    /// The song names no artist.
    Nobody,
}

impl Song {
    /// What the song asks of its listeners, and its price in units.
    #[must_use]
    pub fn asks(&self) -> (TermsKind, u64) {
        self.terms.map_or((TermsKind::Open, 0), |terms| (terms.kind(), terms.price))
    }

    /// The escrow of its artist; none for a song that a fan has registered without saying whose it is.
    #[must_use]
    pub fn escrow(&self) -> Option<Escrow> {
        match PublicKey::try_from(&self.artist_key[..]) {
            Ok(key) => Some(Escrow::Key(key)),
            Err(_) => Some(artist_name(&self.artist)).filter(|name| !name.is_empty()).map(Escrow::Name),
        }
    }

    /// The artist's share of so many units. `owner` tells whose a normalised name is; it is asked for a song that a fan
    /// has registered.
    ///
    /// # Errors
    /// What `owner` gives.
    pub fn shares<E>(
        &self,
        units: u64,
        owner: impl FnOnce(&str) -> Result<Option<PublicKey>, E>,
    ) -> Result<Shares, E> {
        Ok(match self.escrow() {
            None => Shares::Nobody,
            Some(Escrow::Key(_)) => {
                let weights: Vec<u64> = self.splits.iter().map(|split| split.basis_points.into()).collect();
                let keys = self.splits.iter().filter_map(|split| PublicKey::try_from(&split.key[..]).ok());
                Shares::Accounts(keys.zip(divide(units, &weights)).collect())
            }
            Some(Escrow::Name(name)) => match owner(&name)? {
                Some(owner) => Shares::Accounts(vec![(owner, units)]),
                None => Shares::Escrow(Escrow::Name(name)),
            },
        })
    }
}

impl Transfer {
    /// Who pays.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn payer(&self) -> Result<PublicKey, Invalid> {
        key("from", &self.from)
    }

    /// Who is paid.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn payee(&self) -> Result<PublicKey, Invalid> {
        key("to", &self.to)
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.payer()?;
        self.payee()?;
        amount("amount", self.amount)?;
        sequence(self.sequence)?;
        text("memo", &self.memo, limits::MEMO_BYTES)?;
        signature_length(&self.signature)
    }
}

impl Purchase {
    /// Who pays, and may hear the song.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn buyer_key(&self) -> Result<PublicKey, Invalid> {
        key("buyer", &self.buyer)
    }

    /// The song.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn song(&self) -> Result<SongId, Invalid> {
        song_id(&self.song_id)
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.buyer_key()?;
        self.song()?;
        amount("price", self.price)?;
        sequence(self.sequence)?;
        signature_length(&self.signature)
    }
}

impl Grant {
    /// The song's artist.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn grantor_key(&self) -> Result<PublicKey, Invalid> {
        key("grantor", &self.grantor)
    }

    /// Who may hear the song.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn holder_key(&self) -> Result<PublicKey, Invalid> {
        key("holder", &self.holder)
    }

    /// The song.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn song(&self) -> Result<SongId, Invalid> {
        song_id(&self.song_id)
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.grantor_key()?;
        self.holder_key()?;
        self.song()?;
        sequence(self.sequence)?;
        signature_length(&self.signature)
    }
}

impl Claim {
    /// Who claims.
    ///
    /// # Errors
    /// [`Invalid::Identity`] when it is not 32 bytes.
    pub fn claimant_key(&self) -> Result<PublicKey, Invalid> {
        key("claimant", &self.claimant)
    }

    /// Checks every rule of form and every limit.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_form(&self) -> Result<(), Invalid> {
        self.claimant_key()?;
        check_artist(&self.artist)?;
        text("statement", &self.statement, limits::TEXT_BYTES)?;
        sequence(self.sequence)?;
        signature_length(&self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_artists() {
        for (name, normal) in [
            ("  The   Beatles ", "the beatles"),
            ("BJÖRK", "björk"),
            ("ΜΟΥΣΙΚΉ", "μουσικΉ"),
            ("КИНО", "кино"),
            ("Ёлка", "ёлка"),
            ("ŠĀŁ ŽIŽEK", "šāł žižek"),
            ("×÷ßÿ", "×÷ßÿ"),
            ("初音ミク", "初音ミク"),
            ("", ""),
        ] {
            assert_eq!(artist_name(name), normal);
        }
    }

    proptest! {
        #[test]
        fn a_normal_name_stays(name in "\\PC{0,40}") {
            let normal = artist_name(&name);
            prop_assert_eq!(artist_name(&normal), normal.clone());
            if !normal.is_empty() {
                prop_assert!(check_artist(&normal).is_ok());
            }
        }
    }
}
