//! What the index holds of a block.
//!
//! Words of titles, artists, albums and genres lead to documents; columns lead from documents to names, numbers and
//! ledger indexes. Nothing else is kept: what is shown of a song is read from the ledger. A variant is a document of
//! its own that has no words and names its song, so nothing that was written ever changes.

use antiphon_proto::wire::Song;
use tantivy::{
    TantivyDocument,
    schema::{
        FAST, Field, IndexRecordOption, NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
    },
    tokenizer::{Token, TokenStream, Tokenizer, TokenizerManager},
};

use super::words;

/// Name of the analysis in the schema.
const WORDS: &str = "antiphon";
/// The engine's name for leaving a text as it is.
const RAW: &str = "raw";
/// Between the key of a name and the name itself.
const SEPARATOR: char = '\0';
/// Discs and tracks have four digits at most, so that both fit one number.
const DISC: u64 = 10_000;
/// Letters of a title that are counted: a title has 256 bytes.
const COUNTED: usize = 255;

/// Columns of numbers.
pub(super) mod number {
    /// Ledger index of the block.
    pub(crate) const INDEX: &str = "index";
    /// Ledger index of the song: the block itself, or the song of a variant.
    pub(crate) const SONG: &str = "song";
    /// Letters in the title, as [`words::letters`](crate::search::words::letters) counts them.
    pub(crate) const LETTERS: &str = "title_letters";
    /// Disc and track, see [`super::place`].
    pub(crate) const PLACE: &str = "place";
    /// Year of release, 0 when unknown.
    pub(crate) const YEAR: &str = "year";
}

/// Columns of names: key, zero byte, name. Sorted by key, the spellings of one name stand side by side.
pub(super) mod name {
    /// The artist.
    pub(crate) const ARTIST: &str = "artist_name";
    /// Whose album it is: the album artist, or else the artist.
    pub(crate) const OWNER: &str = "owner_name";
    /// The album.
    pub(crate) const ALBUM: &str = "album_name";
    /// The genre.
    pub(crate) const GENRE: &str = "genre_name";
}

/// The fields of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    title: Field,
    artist: Field,
    album: Field,
    genre: Field,
    index: Field,
    song: Field,
    title_letters: Field,
    place: Field,
    year: Field,
    artist_name: Field,
    owner_name: Field,
    album_name: Field,
    genre_name: Field,
}

/// The schema and its fields.
pub(super) fn schema() -> (Schema, Fields) {
    let mut builder = SchemaBuilder::new();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(WORDS)
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false);
    let found = TextOptions::default().set_indexing_options(indexing);
    let named = TextOptions::default().set_fast(RAW);
    let number = || NumericOptions::from(FAST);
    let fields = Fields {
        title: builder.add_text_field("title", found.clone()),
        artist: builder.add_text_field("artist", found.clone()),
        album: builder.add_text_field("album", found.clone()),
        genre: builder.add_text_field("genre", found),
        index: builder.add_u64_field(number::INDEX, number()),
        song: builder.add_u64_field(number::SONG, number()),
        title_letters: builder.add_u64_field(number::LETTERS, number()),
        place: builder.add_u64_field(number::PLACE, number()),
        year: builder.add_u64_field(number::YEAR, number()),
        artist_name: builder.add_text_field(name::ARTIST, named.clone()),
        owner_name: builder.add_text_field(name::OWNER, named.clone()),
        album_name: builder.add_text_field(name::ALBUM, named.clone()),
        genre_name: builder.add_text_field(name::GENRE, named),
    };
    (builder.build(), fields)
}

/// The analysis that the schema names.
pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::default();
    tokenizers.register(WORDS, Words);
    tokenizers
}

impl Fields {
    /// Fields with words, the one that counts least first.
    pub(super) fn with_words(&self) -> [Field; 4] {
        [self.genre, self.album, self.artist, self.title]
    }

    /// The document of a song.
    pub(super) fn song(&self, index: u64, song: &Song) -> TantivyDocument {
        let mut document = self.document(index, index);
        for (field, text) in [
            (self.title, &song.title),
            (self.artist, &song.artist),
            (self.album, &song.album),
            (self.genre, &song.genre),
        ] {
            document.add_text(field, text);
        }
        if song.album_artist != song.artist {
            document.add_text(self.artist, &song.album_artist);
        }
        let letters = words::letters(&words::words(&song.title)).min(COUNTED);
        document.add_u64(self.title_letters, letters as u64);
        document.add_u64(self.place, place(song.disc, song.track));
        document.add_u64(self.year, u64::from(song.year));
        for (field, text) in [
            (self.artist_name, &song.artist),
            (self.owner_name, owner(song)),
            (self.album_name, &song.album),
            (self.genre_name, &song.genre),
        ] {
            document.add_text(field, format!("{}{SEPARATOR}{}", words::key(text), text.trim()));
        }
        document
    }

    /// The document of a variant. Every column has a value in every document, which makes columns small and quick.
    pub(super) fn variant(&self, index: u64, song: u64) -> TantivyDocument {
        let mut document = self.document(index, song);
        for field in [self.title_letters, self.place, self.year] {
            document.add_u64(field, 0);
        }
        for field in [self.artist_name, self.owner_name, self.album_name, self.genre_name] {
            document.add_text(field, entries_of(""));
        }
        document
    }

    fn document(&self, index: u64, song: u64) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.index, index);
        document.add_u64(self.song, song);
        document
    }
}

/// Whose album a song is on.
pub(super) fn owner(song: &Song) -> &String {
    if song.album_artist.trim().is_empty() { &song.artist } else { &song.album_artist }
}

/// Disc and track as one number that sorts as they do.
fn place(disc: u32, track: u32) -> u64 {
    u64::from(disc) * DISC + u64::from(track).min(DISC - 1)
}

/// Key and name of an entry in a column of names.
pub(super) fn key_and_name(entry: &str) -> (&str, &str) {
    entry.split_once(SEPARATOR).unwrap_or((entry, entry))
}

/// What the entries of one name in a column begin with.
pub(super) fn entries_of(key: &str) -> String {
    format!("{key}{SEPARATOR}")
}

/// [`words::words`] for the engine.
#[derive(Debug, Clone, Copy)]
struct Words;

impl Tokenizer for Words {
    type TokenStream<'a> = Tokens;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Tokens {
        let mut texts = Vec::new();
        for word in words::words(text) {
            texts.extend(word.parts);
            texts.extend(word.joined);
        }
        Tokens { texts: texts.into_iter(), token: Token::default() }
    }
}

/// The runs of a text, and each word of several runs as one.
struct Tokens {
    texts: std::vec::IntoIter<String>,
    token: Token,
}

impl TokenStream for Tokens {
    fn advance(&mut self) -> bool {
        let Some(text) = self.texts.next() else { return false };
        self.token.text = text;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
