//! `antiphon get` without a ledger: the song's block with its proof, then the audio as usual.

use std::{fmt, fs, time::Instant};

use antiphon_p2p::ProofQuery;
use antiphon_proto::{
    ContentHash, SongId,
    wire::{Song, block::Body},
};
use anyhow::Context;
use tokio::sync::watch;

use super::{client::Client, store::Proven};
use crate::{
    failure::{Failure, Kind},
    peer::{
        choice::{Choice, GetProgress},
        fetching::Fetching,
        get::{GetReport, GetRequest},
    },
    system::pathhex,
};

/// A block that somebody means, as exactly as a peer without a catalogue can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// By its position.
    Index(u64),
    /// A song.
    Song(SongId),
    /// The song or variant with this file.
    Content(ContentHash),
}

impl Wanted {
    /// What these words may mean, the likeliest first.
    ///
    /// # Errors
    /// [`Kind::Usage`] for anything but `#index`, or a whole song id or content hash.
    pub(super) fn parse(words: &str) -> anyhow::Result<Vec<Self>> {
        let words = words.trim();
        if let Some(index) = words.strip_prefix('#').and_then(|number| number.parse().ok()) {
            return Ok(vec![Self::Index(index)]);
        }
        if let Ok(id) = words.parse::<SongId>() {
            return Ok(vec![Self::Song(id), Self::Content(ContentHash(id.0))]);
        }
        let message = format!(
            "{words:?}: a light peer has no catalogue to look into; name the song by its whole id, the file by its whole \
             content hash, or the block as #INDEX"
        );
        Err(Failure::new(Kind::Usage, message).into())
    }

    pub(super) const fn query(&self) -> ProofQuery {
        match *self {
            Self::Index(index) => ProofQuery::Index(index),
            Self::Song(id) => ProofQuery::Song(id),
            Self::Content(content) => ProofQuery::Content(content),
        }
    }

    /// Whether a block is what was meant.
    pub(super) fn is(&self, proven: &Proven) -> bool {
        match (self, &proven.block.body) {
            (Self::Index(index), _) => *index == proven.index,
            (Self::Song(id), Some(Body::Song(song))) => song.id() == *id,
            (Self::Content(content), Some(Body::Song(song))) => song.content_hash == content.0,
            (Self::Content(content), Some(Body::Variant(variant))) => variant.content_hash == content.0,
            _ => false,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "block {index}"),
            Self::Song(id) => write!(f, "song {id}"),
            Self::Content(content) => write!(f, "file {content}"),
        }
    }
}

impl Client {
    /// Gets a song.
    ///
    /// # Errors
    /// As [`crate::peer::Peer::get`]; [`Kind::Verification`] when no peer proves what it says.
    pub(super) async fn get(
        &self,
        request: GetRequest,
        progress: &watch::Sender<GetProgress>,
    ) -> anyhow::Result<GetReport> {
        let started = Instant::now();
        let wanted = Wanted::parse(&request.song)?;
        self.refresh().await?;
        let (song, choice) = self.find(&wanted).await?;
        if let Some(container) = request.container.as_deref().filter(|wanted| !choice.is_in(wanted)) {
            let message = format!(
                "this file of {:?} is {}, not {container}; a light peer cannot list the others: name one by its content \
                 hash",
                song.title,
                choice.extension()
            );
            return Err(Failure::new(Kind::NotFound, message).into());
        }
        let folder = pathhex::decode(&request.folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let choices = [choice];
        let fetching = Fetching { network: Some(&self.network), library: None, access: None };
        let got = fetching.fetch_any(&folder, &song, &choices, progress).await?;
        Ok(GetReport::of(&song).finish(got, started, progress))
    }

    /// The song and its file that is meant, both proven.
    async fn find(&self, wanted: &[Wanted]) -> anyhow::Result<(Song, Choice)> {
        let mut worst: Option<anyhow::Error> = None;
        for wanted in wanted {
            match self.prove(wanted).await {
                Ok(proven) => return self.open_block(proven).await,
                // It may still be meant in another way, and known to somebody as that.
                Err(error) => match &worst {
                    Some(worse) if Failure::of(worse).kind != Kind::NotFound => {}
                    _ => worst = Some(error),
                },
            }
        }
        Err(worst.unwrap_or_else(|| Failure::new(Kind::NotFound, "nothing was asked for").into()))
    }

    async fn open_block(&self, proven: Proven) -> anyhow::Result<(Song, Choice)> {
        let index = proven.index;
        match proven.block.body {
            Some(Body::Song(song)) => {
                let choice = Choice::new(song.content()?, song.container, song.bytes, index);
                Ok((song, choice))
            }
            Some(Body::Variant(variant)) => {
                let choice = Choice::new(variant.content()?, variant.container, variant.bytes, index);
                let id = SongId::try_from(&variant.song_id[..])?;
                match self.prove(&Wanted::Song(id)).await?.block.body {
                    Some(Body::Song(song)) => Ok((song, choice)),
                    _ => Err(Failure::new(Kind::Verification, "the variant is of no song").into()),
                }
            }
            _ => Err(Failure::new(Kind::NotFound, format!("block {index} is not a song")).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use antiphon_proto::{
        RootHash,
        note::Checkpoint,
        wire::{Block, Variant},
    };

    use super::*;

    fn proven(index: u64, body: Body) -> Proven {
        let checkpoint = Checkpoint { origin: "o".into(), size: 9, root: RootHash([0; 32]) };
        Proven { index, block: Block { body: Some(body), ..Block::default() }, checkpoint }
    }

    #[test]
    fn only_what_is_exact() {
        assert_eq!(Wanted::parse(" #7 ").unwrap(), [Wanted::Index(7)]);
        let hex = "ab".repeat(32);
        let both = [Wanted::Song(SongId([0xab; 32])), Wanted::Content(ContentHash([0xab; 32]))];
        assert_eq!(Wanted::parse(&hex).unwrap(), both);
        for words in ["", "#", "#x", "some words", "abababab", "7"] {
            assert_eq!(Failure::of(&Wanted::parse(words).unwrap_err()).kind, Kind::Usage, "{words}");
        }
    }

    #[test]
    fn another_block_is_no_answer() {
        let song = Song { content_hash: vec![1; 32], title: "a".into(), ..Song::default() };
        let id = song.id();
        let block = proven(4, Body::Song(song));
        assert!(Wanted::Song(id).is(&block) && Wanted::Index(4).is(&block));
        assert!(Wanted::Content(ContentHash([1; 32])).is(&block));
        assert!(!Wanted::Song(SongId([1; 32])).is(&block) && !Wanted::Index(5).is(&block));
        let block = proven(5, Body::Variant(Variant { content_hash: vec![2; 32], ..Variant::default() }));
        assert!(Wanted::Content(ContentHash([2; 32])).is(&block));
        assert!(!Wanted::Content(ContentHash([1; 32])).is(&block) && !Wanted::Song(id).is(&block));
    }
}
