//! `antiphon wallet balance|history|send|buy|grant|claim` and `antiphon ledger song`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde_json::Value;

use super::{
    args::{Common, Join, Wallet},
    ask,
    output::Output,
    table::{Align, Table},
};
use crate::{
    failure::{Failure, Kind},
    ops::{self, Request},
    peer::Reach,
    token_ops::{
        Balance, History, HistoryLine, SongReport,
        record::{Recorded, Wanted},
    },
    tokens::{format, words},
    wallet::prompt,
};

/// Does what is about tokens, and gives back what is not.
pub(super) async fn run(common: &Common, what: Wallet, output: &Output) -> anyhow::Result<Option<Wallet>> {
    let wanted = match what {
        Wallet::Balance { key } => {
            let answer = here(common, Request::WalletBalance { key }, output).await?;
            balance(answer, output)?;
            return Ok(None);
        }
        Wallet::History { limit } => {
            let answer = here(common, Request::WalletHistory { limit }, output).await?;
            history(answer, output)?;
            return Ok(None);
        }
        Wallet::Buy { song, yes } => match offer(common, song.join(" "), yes, output).await? {
            Some(wanted) => wanted,
            None => return Err(Failure::new(Kind::Failed, "nothing was bought").into()),
        },
        Wallet::Send { key, units, memo } => Wanted::Send { to: key, units, memo },
        Wallet::Grant { song, key, days, revoke } => Wanted::Grant { song, to: key, days, revoke },
        Wallet::Claim { artist, statement } => Wanted::Claim { artist: artist.join(" "), statement },
        other => return Ok(Some(other)),
    };
    let request = Request::WalletRecord { wanted };
    let answer = ask(common, &Join::default(), request, Reach::Dial, output).await?;
    recorded(answer, output)?;
    Ok(None)
}

async fn here(common: &Common, request: Request, output: &Output) -> anyhow::Result<Value> {
    ask(common, &Join::default(), request, Reach::ReadOnly, output).await
}

/// Tells the price of a song, and asks whether it is right where somebody can answer.
async fn offer(common: &Common, song: String, yes: bool, output: &Output) -> anyhow::Result<Option<Wanted>> {
    let answer = here(common, Request::LedgerSong { what: song }, output).await?;
    let song: SongReport = ops::read(answer)?;
    // What is free or granted has no price; whoever makes the record says so.
    let price = (song.terms.price_units > 0).then_some(song.terms.price_units);
    if let Some(price) = price {
        let once = if song.terms.kind == "pay_per_play" { " for one play" } else { "" };
        output.note(&format!("{} costs {}{once}", song.name(), words(price)));
        if !yes && prompt::is_possible() && !tokio::task::spawn_blocking(confirmed).await?? {
            return Ok(None);
        }
    }
    Ok(Some(Wanted::Buy { song: song.id, price }))
}

fn confirmed() -> anyhow::Result<bool> {
    let mut error = io::stderr();
    write!(error, "pay it? [y/N] ")?;
    error.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn balance(answer: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&answer);
    }
    let balance: Balance = ops::read(answer)?;
    output.line(&format!("account    {}", balance.key))?;
    output.line(&format!("balance    {} ({} units)", words(balance.units), balance.units))?;
    if balance.escrow_units > 0 {
        output
            .line(&format!("escrow     {}, until the council releases them", words(balance.escrow_units)))?;
    }
    output.line(&format!("records    {}", balance.sequence))?;
    output.line(&format!(
        "supply     {}, of which plays burn above {}; never more than {}",
        words(balance.supply_units),
        format(balance.floor_units),
        format(balance.cap_units)
    ))
}

fn recorded(answer: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&answer);
    }
    let recorded: Recorded = ops::read(answer)?;
    output.line(&format!("{}: block {}, height {}", recorded.what, recorded.index, recorded.height))?;
    if recorded.arrived {
        output.note(&format!("the account holds {}", words(recorded.units)));
    } else {
        output.note("the block has not come here yet: the balance does not count it");
    }
    Ok(())
}

fn history(answer: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&answer);
    }
    let history: History = ops::read(answer)?;
    let mut table = Table::new([
        ("BLOCK", Align::Right),
        ("WHAT", Align::Left),
        ("IN", Align::Right),
        ("OUT", Align::Right),
        ("WITH", Align::Left),
        ("ABOUT", Align::Left),
    ]);
    for HistoryLine { index, kind, in_units, out_units, with, about, .. } in history.entries {
        let units = |units: Option<u64>| units.map(format).unwrap_or_default();
        let short = with.map(|key| key.chars().take(12).collect()).unwrap_or_default();
        let kind = kind.replace('_', " ");
        table.row([index.to_string(), kind, units(in_units), units(out_units), short, about]);
    }
    output.raw(table.text().as_bytes())
}

/// `antiphon ledger song`.
pub(super) fn song(answer: Value, output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.value(&answer);
    }
    let song: SongReport = ops::read(answer)?;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("song", &format!("#{} {}", song.index, song.name()));
    line("id", &song.id);
    let tier = match song.tier.as_str() {
        "discovery" => format!("being discovered, up to {}", song.threshold_plays),
        _ => format!("discovered; a play burns {}", words(song.burn_units)),
    };
    line("plays", &format!("{}: {tier}", song.plays));
    line(
        "tokens",
        &format!(
            "{} minted, {} burned, {} paid",
            format(song.minted_units),
            format(song.burned_units),
            format(song.paid_units)
        ),
    );
    let terms = match (song.terms.kind.as_str(), words(song.terms.price_units)) {
        ("open", _) => "open: free to hear".to_owned(),
        ("pay_per_play", price) => format!("{price} for each play"),
        ("purchase", price) => format!("{price} once"),
        ("grant", _) => "by grant of the artist".to_owned(),
        (other, _) => other.to_owned(),
    };
    line("terms", &terms);
    if let Some(why) = &song.why_not {
        line("you", &format!("may not hear it: {why}"));
    }
    let escrow = &song.escrow;
    let whose = match (&escrow.key, &escrow.name, &escrow.owner) {
        (Some(key), _, _) => key.clone(),
        (None, Some(name), Some(owner)) => format!("the name {name:?}, which is {owner}'s"),
        (None, name, None) => {
            format!("the name {:?}, which is nobody's yet", name.as_deref().unwrap_or_default())
        }
        (None, None, Some(owner)) => owner.clone(),
    };
    line("escrow", &format!("{} for {whose}", words(escrow.units)));
    for split in &song.splits {
        line("split", &format!("{} basis points to {}", split.basis_points, split.key));
    }
    if song.withheld {
        line("WITHHELD", "plays do not count, by a ruling of the council");
    }
    for right in &song.rights {
        let until = right.until_ms.map_or_else(|| "for ever".to_owned(), |until| format!("until {until} ms"));
        line("may hear", &format!("{} {until} (block {})", right.key, right.index));
    }
    output.raw(text.as_bytes())
}
