"""Asks a peer what apps ask, with two clients that are not ours.

Arguments: address of the server, user name, app password, folder with the music files.
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import libopensonic
import libsonic

BASE, USER, PASSWORD, MUSIC = sys.argv[1:]
PORT = int(BASE.rsplit(":", 1)[1])
FILES = {}
for name in os.listdir(MUSIC):
    with open(os.path.join(MUSIC, name), "rb") as file:
        data = file.read()
    FILES[hashlib.sha256(data).hexdigest()] = data
COUNT = len(FILES)


def ask(method, headers=None, form=None, **params):
    """One request as it is written: status, headers, body."""
    query = urllib.parse.urlencode({"f": "json", "c": "test", "v": "1.16.1", **params}, doseq=True)
    data = urllib.parse.urlencode(form).encode() if form else None
    request = urllib.request.Request(f"{BASE}/rest/{method}?{query}", data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def code(method, **params):
    """The code of the error that a request must give, in XML."""
    body = ask(method, **{"f": "xml", **params})[2].decode()
    assert 'status="failed"' in body, body
    return int(body.split('code="')[1].split('"')[0])


def logins():
    assert code("ping", u=USER, p="wrong") == 40
    assert code("ping", apiKey="wrong") == 44
    assert code("ping") == 10
    assert code("ping", u=USER, p=PASSWORD, apiKey=PASSWORD) == 43
    salt = "c19b2d"
    token = hashlib.md5((PASSWORD + salt).encode()).hexdigest()
    for login in [
        {"u": USER, "p": PASSWORD},
        {"u": USER, "p": "enc:" + PASSWORD.encode().hex()},
        {"u": USER, "t": token, "s": salt},
        {"apiKey": PASSWORD},
    ]:
        for method in ["ping", "ping.view"]:
            assert b'"status":"ok"' in ask(method, **login)[2], login
    assert b'"status":"ok"' in ask("ping", form={"u": USER, "p": PASSWORD})[2]
    assert b"apiKeyAuthentication" in ask("getOpenSubsonicExtensions")[2]
    assert ask("noSuchMethod", apiKey=PASSWORD)[0] == 404


def old(client):
    """What py-sonic knows."""
    assert client.ping()
    folders = client.getMusicFolders()["musicFolders"]["musicFolder"]
    assert [folder["name"] for folder in folders] == ["My Library", "Online now"], folders
    index = client.getIndexes()["indexes"]["index"]
    artists = [artist for letter in index for artist in letter["artist"]]
    songs = []
    for artist in artists:
        albums = client.getMusicDirectory(artist["id"])["directory"]["child"]
        for album in albums:
            assert album["isDir"], album
            songs += client.getMusicDirectory(album["id"])["directory"]["child"]
    songs = {song["id"]: song for song in songs}
    assert len(songs) == COUNT, songs
    for song in songs.values():
        assert song["title"] and song["duration"] > 0 and song["created"] and not song["isDir"], song
        data = client.stream(song["id"]).read()
        assert len(data) == song["size"] and hashlib.sha256(data).hexdigest() in FILES, song
    first = next(iter(songs))
    assert client.download(first).read() == client.stream(first).read()
    assert len(client.getCoverArt(first, size=64).read()) > 100
    assert client.getLicense()["license"]["valid"]
    assert client.getUser(USER)["user"]["streamRole"]
    assert client.getGenres()["genres"] is not None
    assert len(client.getRandomSongs(size=3)["randomSongs"]["song"]) == min(3, COUNT)
    assert client.scrobble(first)
    assert client.getSong(first)["song"]["playCount"] == 1
    for kind in ["random", "newest", "frequent", "recent", "alphabeticalByName", "alphabeticalByArtist"]:
        assert client.getAlbumList2(kind)["albumList2"]["album"], kind
        assert client.getAlbumList(kind)["albumList"]["album"], kind
    return list(songs)


def everything(client):
    """All songs, two at a time, each once."""
    found = []
    while True:
        songs = client.search3("", artist_count=0, album_count=0, song_count=2, song_offset=len(found)).song
        if not songs:
            return [song.id for song in found]
        found += songs


def modern(client, songs):
    """What py-opensonic knows, with an API key."""
    assert client.ping() and client.token_info().username == USER
    found = everything(client)
    assert sorted(found) == sorted(songs) and len(found) == COUNT, found
    artists = [artist for index in client.get_artists().index for artist in index.artist]
    albums = client.get_artist(artists[0].id).album
    album = client.get_album(albums[0].id)
    assert album.song_count == len(album.song) and album.duration > 0
    first, last = songs[0], songs[-1]
    word = client.get_song(first).title.split()[0]
    assert first in [song.id for song in client.search3(word).song]
    assert client.star(sids=[first], album_ids=[album.id], artist_ids=[artists[0].id])
    starred = client.get_starred2()
    assert [song.id for song in starred.song] == [first] and len(starred.album) == len(starred.artist) == 1
    assert client.get_song(first).starred
    assert client.unstar(sids=[first], album_ids=[album.id], artist_ids=[artists[0].id])
    assert not client.get_starred2().song
    assert client.set_rating(first, 4) and client.get_song(first).user_rating == 4
    playlists(client, first, last)
    assert client.save_play_queue([first, last], current=last, position=1500)
    queue = client.get_play_queue()
    assert (queue.current, queue.position, len(queue.entry)) == (last, 1500, 2), queue
    assert client.save_play_queue_by_index([first, last, first], current_index=2, position=7)
    queue = client.get_play_queue_by_index()
    assert (queue.current_index, len(queue.entry)) == (2, 3), queue
    assert client.create_bookmark(first, 4321, "here")
    mark = client.get_bookmarks()[0]
    assert (mark.position, mark.comment, mark.entry.id) == (4321, "here", first), mark
    assert client.delete_bookmark(first) and not client.get_bookmarks()
    assert client.report_playback(first, "song", 1000, "playing")
    assert client.get_now_playing()[0].id == first
    assert client.report_playback(first, "song", 2000, "stopped")
    assert not client.get_now_playing()
    rates(first)
    assert client.get_similar_songs2(first) is not None and client.get_scan_status().scanning is False


def rates(song):
    """A song that is played twice as fast is where it must be by then."""

    def report(state, position, **more):
        body = ask("reportPlayback", apiKey=PASSWORD, mediaId=song, mediaType="song", positionMs=position, state=state, **more)[2]
        return json.loads(body)["subsonic-response"]["status"]

    def playing():
        return json.loads(ask("getNowPlaying", apiKey=PASSWORD)[2])["subsonic-response"]["nowPlaying"]["entry"]

    for ignore in ["false", "true"]:
        before = time.monotonic()
        assert report("playing", 1000, playbackRate=2.0, ignoreScrobble=ignore) == "ok"
        said = time.monotonic()
        while True:
            asked = time.monotonic()
            entry = playing()[0]
            answered = time.monotonic()
            least, most = 1000 + 2000 * (asked - said), 1000 + 2000 * (answered - before)
            assert least - 5 <= entry["positionMs"] <= most + 5, (least, entry["positionMs"], most)
            assert (entry["state"], entry["playbackRate"]) == ("playing", 2.0), entry
            if entry["positionMs"] > 1500:
                break
        assert report("paused", 2000, playbackRate=2.0, ignoreScrobble=ignore) == "ok" and not playing()
        assert report("stopped", 2000) == "ok"
    for wrong in ["0", "-1", "nan", "inf", "x", "1e9"]:
        assert report("playing", 0, playbackRate=wrong) == "failed", wrong


def playlists(client, first, last):
    assert client.create_playlist(name="Mine", song_ids=[first, last])
    mine = client.get_playlists()[0]
    assert (mine.name, mine.song_count) == ("Mine", 2) and mine.duration > 0, mine
    assert client.update_playlist(mine.id, name="Ours", song_ids_to_add=[first], song_indices_to_remove=[0])
    ours = client.get_playlist(mine.id)
    assert (ours.name, [song.id for song in ours.entry]) == ("Ours", [last, first]), ours
    assert client.delete_playlist(mine.id) and not client.get_playlists()


def streams(song):
    login = {"apiKey": PASSWORD, "id": song}
    status, headers, whole = ask("stream", **login)
    assert status == 200 and headers["Accept-Ranges"] == "bytes"
    status, headers, part = ask("stream.view", {"Range": "bytes=100-199"}, **login)
    assert (status, part) == (206, whole[100:200]), status
    assert headers["Content-Range"] == f"bytes 100-199/{len(whole)}"
    assert ask("stream", format="raw", maxBitRate=32, **login)[2] == whole
    assert "transcodeOffset" not in ask("getOpenSubsonicExtensions")[2].decode() or (
        ask("stream", format="mp3", maxBitRate=64, timeOffset=1, **login)[1]["Content-Type"] == "audio/mpeg"
    )
    if "transcodeOffset" in ask("getOpenSubsonicExtensions")[2].decode():
        estimated(login)
    status, headers, body = ask("stream", apiKey=PASSWORD, id="so-999999")
    assert status == 200 and b'"code":70' in body and headers["Content-Type"].startswith("application/json")


def estimated(login):
    """Another encoding has a length that was guessed, and is as long; nothing of it is cut off."""
    for form in ["mp3", "opus", "aac"]:
        asked = {"format": form, "maxBitRate": 96, **login}
        exact = ask("stream", **asked)[2]
        status, headers, body = ask("stream", estimateContentLength="true", **asked)
        assert status == 200 and int(headers["Content-Length"]) == len(body), headers
        assert headers["Accept-Ranges"] == "none" and len(body) >= len(exact), (form, len(body), len(exact))
        assert not body[len(exact) :].strip(b"\0"), form
        head = urllib.request.Request(
            f"{BASE}/rest/stream?{urllib.parse.urlencode({**asked, 'estimateContentLength': 'true'})}&v=1.16.1&c=test",
            method="HEAD",
        )
        with urllib.request.urlopen(head) as answer:
            assert int(answer.headers["Content-Length"]) == len(body)


logins()
SONGS = old(libsonic.Connection("http://127.0.0.1", USER, PASSWORD, port=PORT, appName="old"))
CLIENT = libopensonic.Connection("http://127.0.0.1", port=PORT, api_key=PASSWORD, app_name="new")
modern(CLIENT, SONGS)
CLIENT.cleanup()
streams(SONGS[0])
print("ok")
