//! A genesis document as people keep it: TOML. What counts is the canonical form that is made of it, whose hash is the
//! network id; order of lines, spaces and comments do not matter.

use std::{fmt::Write as _, path::Path};

use antiphon_proto::{PublicKey, limits, wire::Genesis};
use anyhow::{Context, bail};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

/// Bytes of a document that are read at most: 128 members with a comment each.
const FILE_BYTES: usize = 4 * limits::GENESIS_BYTES;

/// The document. Every field must be there: a default that changes would change the network.
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
    text
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
        economy: None,
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
