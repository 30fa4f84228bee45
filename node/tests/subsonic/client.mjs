// Asks a peer what apps in JavaScript ask, with the package `subsonic-api`, which is not ours.
//
// Arguments: address of the server, user name, app password, folder with the music files. `words.lrc` there is the text
// of `words.wav`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { SubsonicAPI } from "subsonic-api";

const [url, username, password, music] = process.argv.slice(2);
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
const names = readdirSync(music).filter((name) => !name.endsWith(".lrc"));
const files = new Map(names.map((name) => [hash(readFileSync(join(music, name))), name]));

/** What is in an answer that must be good. */
function good(answer) {
  assert.equal(answer.status, "ok", JSON.stringify(answer));
  assert.equal(answer.openSubsonic, true);
  return answer;
}

/** The code of an answer that must not be good. */
function code(answer) {
  assert.equal(answer.status, "failed", JSON.stringify(answer));
  return answer.error.code;
}

/** Everything that a list has, a few entries at a time, each once. */
async function paged(size, list) {
  const all = [];
  for (;;) {
    const page = await list(size, all.length);
    assert(page.length <= size);
    all.push(...page);
    if (page.length < size) break;
  }
  assert.equal(new Set(all.map((entry) => entry.id)).size, all.length);
  return all;
}

async function logins() {
  const as = (auth, more) => new SubsonicAPI({ url, auth, ...more });
  const wrong = "not the password";
  assert.equal(code(await as({ username, password: wrong }).ping()), 40);
  assert.equal(code(await as({ apiKey: wrong }).ping()), 44);
  const right = [
    as({ username, password }),
    as({ username, password }, { salt: "pepper", reuseSalt: true }),
    as({ username, password }, { post: true }),
    as({ apiKey: password }),
    as({ apiKey: password }, { post: true }),
  ];
  for (const api of right) good(await api.ping());
}

async function lists(api) {
  const { musicFolders } = good(await api.getMusicFolders());
  assert.deepEqual(musicFolders.musicFolder.map((folder) => folder.name), ["My Library", "Online now"]);
  assert.equal(good(await api.getLicense()).license.valid, true);
  assert(good(await api.getOpenSubsonicExtensions()).openSubsonicExtensions.length >= 5);

  const search = async (what, size, offset) => {
    const none = { artistCount: 0, albumCount: 0, songCount: 0 };
    const page = { [`${what}Count`]: size, [`${what}Offset`]: offset };
    return good(await api.search3({ query: "", ...none, ...page })).searchResult3[what];
  };
  const songs = await paged(2, (size, offset) => search("song", size, offset));
  assert.equal(songs.length, files.size);
  const albums = await paged(2, (size, offset) => search("album", size, offset));
  const artists = await paged(2, (size, offset) => search("artist", size, offset));

  const { index } = good(await api.getArtists()).artists;
  const byLetters = index.flatMap((letter) => letter.artist);
  assert.deepEqual(byLetters.map((artist) => artist.id).sort(), artists.map((artist) => artist.id).sort());
  for (const type of ["alphabeticalByName", "alphabeticalByArtist", "newest", "random"]) {
    const list = async (size, offset) => good(await api.getAlbumList2({ type, size, offset })).albumList2.album;
    // Random has no second page.
    const found = type === "random" ? await list(500, 0) : await paged(2, list);
    assert.deepEqual(found.map((album) => album.id).sort(), albums.map((album) => album.id).sort(), type);
  }
  const found = new Set();
  for (const album of albums) {
    const whole = good(await api.getAlbum({ id: album.id })).album;
    // The package makes dates of what it knows to be one.
    assert(whole.created instanceof Date && !Number.isNaN(whole.created.getTime()));
    assert.equal(whole.songCount, whole.song.length);
    whole.song.forEach((song) => found.add(song.id));
  }
  assert.equal(found.size, songs.length);
  return { songs, albums, artists };
}

async function bytes(api, songs) {
  for (const song of songs) {
    const answer = await api.stream({ id: song.id, format: "raw" });
    const body = Buffer.from(await answer.arrayBuffer());
    assert.equal(answer.headers.get("content-type"), song.contentType);
    assert.equal(body.length, song.size);
    assert(files.has(hash(body)), `${song.title} is none of the files`);
    const whole = await api.download({ id: song.id });
    assert.deepEqual(Buffer.from(await whole.arrayBuffer()), body);
  }
  const cover = await api.getCoverArt({ id: songs[0].coverArt, size: 100 });
  assert.match(cover.headers.get("content-type"), /^image\//);
  const missing = await (await api.stream({ id: "so-999999" })).json();
  assert.equal(code(missing["subsonic-response"]), 70);
}

async function own(api, { songs, albums, artists }) {
  const [first, last] = [songs[0].id, songs.at(-1).id];
  good(await api.star({ id: first, albumId: albums[0].id, artistId: artists[0].id }));
  const { starred2 } = good(await api.getStarred2());
  const ids = [starred2.song, starred2.album, starred2.artist].map((list) => list.map((entry) => entry.id));
  assert.deepEqual(ids, [[first], [albums[0].id], [artists[0].id]]);
  assert(starred2.song[0].starred instanceof Date);
  good(await api.unstar({ id: first, albumId: albums[0].id, artistId: artists[0].id }));
  assert.deepEqual(good(await api.getStarred2()).starred2.song, []);
  good(await api.setRating({ id: first, rating: 3 }));
  assert.equal(good(await api.getSong({ id: first })).song.userRating, 3);

  const { playlist } = good(await api.createPlaylist({ name: "Tunes", songId: [first, last] }));
  assert.deepEqual(playlist.entry.map((entry) => entry.id), [first, last]);
  good(await api.updatePlaylist({ playlistId: playlist.id, songIdToAdd: first, songIndexToRemove: 0 }));
  const changed = good(await api.getPlaylist({ id: playlist.id })).playlist;
  assert.deepEqual(changed.entry.map((entry) => entry.id), [last, first]);
  assert(changed.created <= changed.changed);
  good(await api.deletePlaylist({ id: playlist.id }));
  assert.deepEqual(good(await api.getPlaylists()).playlists.playlist, []);
  assert.equal(code(await api.getPlaylist({ id: playlist.id })), 70);

  good(await api.scrobble({ id: first, submission: false }));
  assert.equal(good(await api.getNowPlaying()).nowPlaying.entry[0].id, first);
  good(await api.scrobble({ id: first, time: Date.now() }));
  assert.equal(good(await api.getSong({ id: first })).song.playCount, 1);
  good(await api.reportPlayback({ mediaId: first, mediaType: "song", positionMs: 0, state: "playing", playbackRate: 1.5 }));
  good(await api.reportPlayback({ mediaId: first, mediaType: "song", positionMs: 10, state: "stopped" }));
}

async function lyrics(api, songs) {
  const song = songs.find((song) => song.title === "words");
  const { lyricsList } = good(await api.getLyricsBySongId({ id: song.id }));
  const [text] = lyricsList.structuredLyrics;
  assert.equal(text.synced, true);
  assert.deepEqual(text.line, [
    { start: 1_000, value: "first" },
    { start: 2_500, value: "second & last" },
  ]);
  const plain = good(await api.getLyrics({ title: "words" })).lyrics;
  assert.equal(plain.value, "first\nsecond & last");
}

await logins();
const api = new SubsonicAPI({ url, auth: { username, password } });
const found = await lists(api);
await bytes(api, found.songs);
await own(api, found);
await lyrics(api, found.songs);
console.log("ok");
