//! A genesis document as people keep it: TOML. What counts is the canonical form that is made of it, whose hash is the
//! network id; order of lines, spaces and comments do not matter.

use std::{fmt::Write as _, path::Path};

use antiphon_proto::{
    PublicKey, economy, limits,
    wire::{self, Genesis},
};
use anyhow::{Context, bail};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

use crate::tokens;

/// Bytes of a document that are read at most: 128 members with a comment each.
const FILE_BYTES: usize = 4 * limits::GENESIS_BYTES;

/// The document. Every field must be there, but for the economy, whose defaults are a part of the format: a default that
/// changes would change the network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    name: String,
    created_ms: u64,
    salt: String,
    members: Vec<String>,
    stamp_bits: u32,
    batch_quota: u32,
    economy: Option<Economy>,
}

/// What plays are worth: all of it or nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Economy {
    floor_units: u64,
    cap_units: u64,
    threshold_plays: u32,
    coverage_basis_points: u32,
    heartbeat_ms: u32,
    epoch_ms: u32,
    window_ms: u32,
}

impl From<Economy> for wire::Economy {
    fn from(economy: Economy) -> Self {
        Self {
            floor_units: economy.floor_units,
            cap_units: economy.cap_units,
            threshold_plays: economy.threshold_plays,
            coverage_basis_points: economy.coverage_basis_points,
            heartbeat_ms: economy.heartbeat_ms,
            epoch_ms: economy.epoch_ms,
            window_ms: economy.window_ms,
        }
    }
}

/// The document of a network.
#[must_use]
pub fn write(genesis: &Genesis) -> String {
    let mut text = format!(
        "# Genesis document of an Antiphon network: every member and every peer that starts from it must have the same.\n\
         # Network id: {}\n\
         version = {}\nname = {}\ncreated_ms = {}\nsalt = \"{}\"\n",
        genesis.network_id(),
        genesis.version,
        toml::Value::String(genesis.name.clone()),
        genesis.created_ms,
        HEXLOWER.encode(&genesis.salt),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# The first council, {} of whom must agree.", quorum(genesis));
    text.push_str("members = [\n");
    for member in genesis.member_keys() {
        let _ = writeln!(text, "    \"{member}\",");
    }
    let _ = write!(
        text,
        "]\n# Leading zero bits of a registration's work stamp.\nstamp_bits = {}\n\
         # Registrations of one registrant in one batch.\nbatch_quota = {}\n",
        genesis.stamp_bits, genesis.batch_quota
    );
    if let Some(economy) = &genesis.economy {
        write_economy(economy, &mut text);
    }
    text
}

fn write_economy(economy: &wire::Economy, text: &mut String) {
    let _ = write!(
        text,
        "\n# What plays are worth; a token is 100,000,000 units.\n[economy]\n\
         # Supply up to which nothing is burned: {}.\nfloor_units = {}\n\
         # Supply beyond which nothing is minted: {}.\ncap_units = {}\n\
         # Plays of a song up to which its listeners are discoverers.\nthreshold_plays = {}\n\
         # Share of a song that must be heard for a play, in hundredths of a percent.\n\
         coverage_basis_points = {}\n\
         # From one heartbeat of a play to the next, from one settlement to the next, and how long a play may be settled.\n\
         heartbeat_ms = {}\nepoch_ms = {}\nwindow_ms = {}\n",
        tokens::words(economy.floor_units),
        economy.floor_units,
        tokens::words(economy.cap_units),
        economy.cap_units,
        economy.threshold_plays,
        economy.coverage_basis_points,
        economy.heartbeat_ms,
        economy.epoch_ms,
        economy.window_ms,
    );
}

fn quorum(genesis: &Genesis) -> usize {
    antiphon_proto::genesis::quorum(genesis.members.len())
}

/// Reads a document.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(text: &str) -> anyhow::Result<Genesis> {
    let document: Document = toml::from_str(text)?;
    let salt = HEXLOWER_PERMISSIVE
        .decode(document.salt.as_bytes())
        .context("salt: it must be 32 hexadecimal digits")?;
    let mut members = document
        .members
        .iter()
        .map(|member| member.parse::<PublicKey>().map_err(|error| anyhow::anyhow!("members: {error}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    members.sort_unstable();
    let genesis = Genesis {
        version: document.version,
        name: document.name,
        created_ms: document.created_ms,
        salt,
        members: members.iter().map(|member| member.0.to_vec()).collect(),
        stamp_bits: document.stamp_bits,
        batch_quota: document.batch_quota,
        // Written out or left out, the defaults are the same network.
        economy: document.economy.map(wire::Economy::from).filter(|economy| *economy != economy::DEFAULT),
    };
    genesis.check()?;
    Ok(genesis)
}

/// Reads a document from a file.
///
/// # Errors
/// What is wrong, and where.
pub fn read(path: &Path) -> anyhow::Result<Genesis> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the genesis document {shown}"))?;
    if bytes.len() > FILE_BYTES {
        bail!("the genesis document {shown} is longer than {FILE_BYTES} bytes");
    }
    let text = String::from_utf8(bytes).with_context(|| format!("in the genesis document {shown}"))?;
    parse(&text).with_context(|| format!("in the genesis document {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_proto::SecretKey;

    fn genesis() -> Genesis {
        let members: Vec<_> = (1..=4u8).map(|n| SecretKey::from_seed(&[n; 32]).public()).collect();
        Genesis::new("a \"name\"", 5, [6; 16], &members)
    }

    #[test]
    fn written_and_read_again() {
        let text = write(&genesis());
        assert_eq!(parse(&text).unwrap(), genesis());
        assert!(text.contains(&genesis().network_id().to_string()));
        assert!(text.contains("3 of whom must agree"));
    }

    #[test]
    fn form_does_not_change_the_network() {
        let text = write(&genesis());
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        // The simple keys, in another order, before the list.
        lines[..4].reverse();
        let reordered = lines.join("\n\n") + "\n# the end\n";
        assert_eq!(parse(&reordered).unwrap().network_id(), genesis().network_id());
    }

    #[test]
    fn an_economy_is_written_when_there_is_one() {
        assert!(!write(&genesis()).contains("economy"));
        let small = wire::Economy { floor_units: 100_000_000, threshold_plays: 3, ..economy::DEFAULT };
        let with = Genesis { economy: Some(small), ..genesis() };
        let text = write(&with);
        assert!(text.contains("1 token.") && text.contains("threshold_plays = 3"), "{text}");
        assert_eq!(parse(&text).unwrap(), with);
        // The defaults, written out.
        let mut text = write(&genesis());
        write_economy(&economy::DEFAULT, &mut text);
        assert_eq!(parse(&text).unwrap(), genesis());
        let lacking = text.replace("epoch_ms", "epoch");
        assert!(format!("{:#}", parse(&lacking).unwrap_err()).contains("epoch"));
        let crossed = text.replace("floor_units = 1", "floor_units = 9");
        assert!(format!("{:#}", parse(&crossed).unwrap_err()).contains("floor"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = write(&genesis());
        let says = |text: &str, what: &str| {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(what), "{error}");
        };
        says(&text.replace("batch_quota", "quota"), "quota");
        says(&text.replace("salt = \"06", "salt = \""), "salt");
        says(&text.replace("version = 1", "version = 2"), "version");
        says(&text.replace("stamp_bits = 17", "stamp_bits = 99"), "stamp bits");
        let member = genesis().member_keys()[0].to_string();
        says(&text.replace(&member, "xyz"), "members");
        let line = format!("    \"{member}\",\n");
        says(&text.replace(&line, &line.repeat(2)), "ascending");
    }
}
