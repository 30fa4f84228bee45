// One audio element that plays on while pages change. The peer is told each second where it is.
import { sing } from "./lyrics.js";
import { go, onPage, part, say, toast } from "./nav.js";
import * as list from "./queue.js";
import { connect, openQueue, showQueue } from "./sheet.js";

const { queue } = list;
const $ = (id) => document.getElementById(id);
const audio = new Audio();
audio.preload = "auto";

const PLAYER = sessionStorage.getItem("antiphon-player") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("antiphon-player", PLAYER);

let wanted = false;
// Songs in a row that could not be played.
let failed = 0;
let dragging = false;
let loaded = null;
// Whether the peer is to know: what has stopped says nothing more.
let telling = false;

/** Minutes and seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

const cover = (song, size) => `/cover/${song.id}?size=${size}`;
const total = () => (Number.isFinite(audio.duration) && audio.duration) || (list.current()?.ms ?? 0) / 1000;

function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return fetch(`/api/v1/player/${path}`, { ...options, keepalive: true }).catch(() => {});
}

function report() {
  if (loaded && telling) {
    const ms = Math.max(0, Math.round(audio.currentTime * 1000));
    post("position", { player: PLAYER, song: loaded, position_ms: ms, playing: !audio.paused && !audio.seeking });
  }
}

function fill(input, share) {
  input.style.setProperty("--fill", `${Math.round(share * 1000) / 10}%`);
}

function showTime() {
  const [now, all] = [audio.currentTime || 0, total()];
  $("p-total").textContent = clock(all);
  if (!dragging) {
    const share = all ? Math.min(1, now / all) : 0;
    $("p-elapsed").textContent = clock(now);
    $("p-seek").value = Math.round(share * 1000);
    $("p-seek").setAttribute("aria-valuetext", `${clock(now)} of ${clock(all)}`);
    fill($("p-seek"), share);
  }
  sing(loaded, now);
}

/** Tells the system where the song is; it counts on by itself. */
function showPlace() {
  if ("mediaSession" in navigator && Number.isFinite(audio.duration)) {
    const { duration, playbackRate, currentTime } = audio;
    navigator.mediaSession.setPositionState?.({ duration, playbackRate, position: Math.min(currentTime, duration) });
  }
}

function showState() {
  const waiting = wanted && !audio.paused && audio.readyState < 3;
  $("p-play-icon").setAttribute("href", waiting ? "#i-wait" : wanted ? "#i-pause" : "#i-play");
  $("p-play").setAttribute("aria-label", wanted ? "Pause" : "Play");
  for (const button of document.querySelectorAll("[data-shuffle]")) {
    button.setAttribute("aria-pressed", queue.shuffle);
  }
  for (const button of document.querySelectorAll("[data-repeat]")) {
    button.setAttribute("aria-pressed", queue.repeat !== "off");
    button.setAttribute("aria-label", `Repeat: ${{ off: "off", all: "all", one: "this song" }[queue.repeat]}`);
    button.querySelector("use").setAttribute("href", queue.repeat === "one" ? "#i-repeat-one" : "#i-repeat");
  }
  if ("mediaSession" in navigator) {
    navigator.mediaSession.playbackState = wanted ? "playing" : loaded ? "paused" : "none";
  }
  mark();
}

/** Marks the song in the lists of the page. */
function mark() {
  for (const row of document.querySelectorAll(".track[data-song]")) {
    const on = row.dataset.song === loaded;
    row.classList.toggle("playing", on);
    const button = row.querySelector("[data-play]");
    button?.querySelector("use").setAttribute("href", on && wanted ? "#i-pause" : "#i-play");
    button?.setAttribute("aria-label", `${on && wanted ? "Pause" : "Play"} ${row.dataset.title} by ${row.dataset.artist}`);
  }
}

function showSong(song) {
  $("player").toggleAttribute("data-empty", !song);
  $("p-title").textContent = song?.title ?? "Nothing is playing";
  $("p-artist").textContent = song?.artist ?? "Choose a song to begin";
  $("p-way").textContent = "";
  $("p-cover").src = song ? cover(song, 128) : "/assets/icon.svg";
  $("p-link").href = song ? `/song/${song.id}` : "/library";
  if (song && "mediaSession" in navigator) {
    const artwork = [96, 256, 512].map((size) => ({ src: cover(song, size), sizes: `${size}x${size}` }));
    const { title, artist, album } = song;
    navigator.mediaSession.metadata = new MediaMetadata({ title, artist, album, artwork });
  }
  showQueue();
}

function begin(seconds = 0, play = true) {
  const song = list.current();
  if (!song) {
    stop();
    loaded = null;
    audio.removeAttribute("src");
    audio.load();
    showSong(null);
    showTime();
    showState();
    return;
  }
  loaded = song.id;
  wanted = play;
  // The peer is told first: what it has fetched before it knows that somebody listens counts as its own.
  post("position", { player: PLAYER, song: song.id, position_ms: Math.round(seconds * 1000), playing: false });
  audio.src = `/api/v1/songs/${song.id}/stream`;
  if (seconds > 0) {
    audio.addEventListener("loadedmetadata", () => { audio.currentTime = seconds; }, { once: true });
  }
  showSong(song);
  if (play) {
    start();
    say(`Playing ${song.title} by ${song.artist}`);
  }
  showState();
}

function start() {
  wanted = true;
  telling = true;
  audio.play().catch((error) => {
    // Whatever else there is comes as an event of its own.
    if (error.name === "NotAllowedError") {
      wanted = false;
      showState();
      toast("The browser wants you to press play first.");
    }
  });
}

function stop() {
  wanted = false;
  telling = false;
  if (loaded) {
    post("stop", { player: PLAYER });
  }
  audio.pause();
  showState();
}

function jump(index) {
  queue.at = index;
  queue.seconds = 0;
  list.keep();
  begin();
}

export function toggle() {
  if (!list.current()) {
    document.querySelector("[data-play-all], [data-play]")?.click();
  } else if (!loaded) {
    begin(queue.seconds);
  } else if (wanted) {
    wanted = false;
    audio.pause();
  } else {
    start();
  }
  showState();
}

export function next() {
  const index = list.step(1);
  if (index < 0) {
    stop();
  } else {
    jump(index);
  }
}

export function previous() {
  const index = list.step(-1);
  if (audio.currentTime > 3 || index < 0) {
    audio.currentTime = 0;
  } else {
    jump(index);
  }
}

function seekBy(seconds) {
  if (loaded) {
    audio.currentTime = Math.max(0, Math.min(total() - 0.5, audio.currentTime + seconds));
  }
}

function setVolume(volume) {
  audio.volume = Math.max(0, Math.min(1, volume));
  audio.muted = false;
}

function showVolume() {
  const silent = audio.muted || audio.volume === 0;
  $("p-mute-icon").setAttribute("href", silent ? "#i-muted" : "#i-volume");
  $("p-mute").setAttribute("aria-pressed", audio.muted);
  $("p-volume").value = Math.round((audio.muted ? 0 : audio.volume) * 100);
  fill($("p-volume"), audio.muted ? 0 : audio.volume);
  localStorage.setItem("antiphon-volume", audio.volume);
}

/** Why a song does not play, in words. */
async function why(song) {
  try {
    const response = await fetch(`/api/v1/songs/${song.id}/stream`, { headers: { Range: "bytes=0-0" } });
    if (response.ok) {
      return "this browser cannot play its format, or it ended early";
    }
    return (await response.json()).detail || "the peer does not say why";
  } catch {
    return "your peer does not answer";
  }
}

audio.addEventListener("error", async () => {
  const song = list.current();
  if (!song || !loaded || !audio.error) {
    return;
  }
  const was = loaded;
  const words = `“${song.title}” cannot be played: ${await why(song)}`;
  toast(words);
  if (was !== loaded) {
    return;
  }
  failed += 1;
  // Not all of them in a row.
  if (wanted && failed < Math.min(5, queue.songs.length) && list.step(1) >= 0) {
    next();
  } else {
    failed = 0;
    stop();
    loaded = null;
    showState();
  }
});
audio.addEventListener("playing", () => { failed = 0; showState(); showPlace(); report(); });
audio.addEventListener("pause", () => { if (!audio.ended) { wanted = false; } showState(); showPlace(); report(); });
audio.addEventListener("seeked", () => { showTime(); showPlace(); report(); });
audio.addEventListener("waiting", showState);
audio.addEventListener("canplay", showState);
audio.addEventListener("timeupdate", showTime);
audio.addEventListener("durationchange", () => { showTime(); showPlace(); });
audio.addEventListener("volumechange", showVolume);
audio.addEventListener("ended", () => {
  report();
  if (queue.repeat === "one") {
    audio.currentTime = 0;
    start();
  } else {
    next();
  }
});
setInterval(() => {
  if (!audio.paused) {
    report();
    queue.seconds = audio.currentTime;
    list.keep();
  }
}, 1000);
addEventListener("pagehide", () => {
  if (loaded) {
    telling = false;
    post("stop", { player: PLAYER });
  }
});

/** What the peer says of what plays here. */
export function heard({ playing }) {
  const mine = playing.find((one) => one.player === `web ${PLAYER}` && `so-${one.song}` === loaded);
  const way = { library: "From your library", direct: "Direct from a peer", relayed: "Through a relay", app: "" }[mine?.how] ?? "";
  const counted = mine?.counted ? "counts for the artist" : mine?.uncounted_because ? `not counted: ${mine.uncounted_because}` : "";
  const words = [way, counted].filter(Boolean).join(" · ");
  const place = $("p-way");
  place.textContent = words;
  place.title = words;
  place.classList.toggle("counted", Boolean(mine?.counted));
}

// Lists of the page.
function songOf(row) {
  const { song: id, title, artist, album, ms } = row.dataset;
  return { id, title, artist, album, ms: Number(ms) };
}
const songsOf = (root) => [...root.querySelectorAll(".track[data-song]")].map(songOf);

function playList(songs, at) {
  if (!songs.length) {
    toast("There is no song in it that can be played now.");
    return;
  }
  list.fill(songs, at);
  begin();
}

function add(songs) {
  list.append(songs);
  showQueue();
  toast(songs.length === 1 ? `“${songs[0].title}” is in the queue` : `${songs.length} songs are in the queue`);
  if (queue.at < 0 && queue.songs.length) {
    jump(0);
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  const main = $("main");
  if (!button || !main.contains(button)) {
    return;
  }
  const row = button.closest(".track[data-song]");
  if ("play" in button.dataset && row) {
    if (row.dataset.song === loaded) {
      toggle();
    } else {
      const rows = [...main.querySelectorAll(".track[data-song]")];
      playList(rows.map(songOf), rows.indexOf(row));
    }
  } else if ("add" in button.dataset && row) {
    add([songOf(row)]);
  } else if ("playAll" in button.dataset) {
    playList(songsOf(main), 0);
  } else if ("addAll" in button.dataset) {
    add(songsOf(main));
  } else if (button.dataset.playPage) {
    const got = await part(button.dataset.playPage).catch(() => null);
    playList(got ? songsOf(got.main) : [], 0);
  }
});
document.addEventListener("dblclick", (event) => {
  const row = event.target.closest(".track[data-song]");
  if (row && !event.target.closest("a, button")) {
    row.querySelector("[data-play]")?.click();
  }
});

// What is pressed beside the song.
connect({
  jump,
  removed(was, index) {
    if (was) {
      queue.at = Math.min(index, queue.songs.length - 1);
      begin(0, wanted);
    }
  },
});
for (const [name, act] of Object.entries({
  previous,
  next,
  shuffle: () => { list.shuffle(!queue.shuffle); showState(); },
  repeat: () => {
    queue.repeat = { off: "all", all: "one", one: "off" }[queue.repeat] ?? "off";
    list.keep();
    showState();
  },
})) {
  for (const button of document.querySelectorAll(`[data-${name}]`)) {
    button.addEventListener("click", act);
  }
}
$("p-play").addEventListener("click", toggle);
$("p-mute").addEventListener("click", () => { audio.muted = !audio.muted; });
$("p-volume").addEventListener("input", (event) => setVolume(event.target.value / 100));
$("p-seek").addEventListener("input", (event) => {
  dragging = true;
  const share = event.target.value / 1000;
  $("p-elapsed").textContent = clock(share * total());
  fill(event.target, share);
});
$("p-seek").addEventListener("change", (event) => {
  dragging = false;
  if (loaded) {
    audio.currentTime = (event.target.value / 1000) * total();
  }
});

// Keys.
const KEYS = {
  " ": toggle,
  k: toggle,
  n: next,
  p: previous,
  m: () => { audio.muted = !audio.muted; },
  ArrowLeft: () => seekBy(-5),
  ArrowRight: () => seekBy(5),
  ArrowUp: () => setVolume(audio.volume + 0.05),
  ArrowDown: () => setVolume(audio.volume - 0.05),
  "/": () => {
    if ($("q")) {
      $("q").focus();
    } else {
      go("/search").then(() => $("q")?.focus());
    }
  },
};
document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.key === "Escape" && !$("queue").hidden) {
    openQueue(false);
    return;
  }
  if (!Object.hasOwn(KEYS, key) || event.metaKey || event.ctrlKey || event.altKey) {
    return;
  }
  // A slider needs its arrows, and other fields all of their keys.
  const arrow = key.startsWith("Arrow");
  if (event.target.closest('input:not([type="range"]), textarea, select, [contenteditable]')) {
    return;
  }
  // Space presses the button that has the focus.
  if (key === " " && event.target.closest("button, a, summary")) {
    return;
  }
  // Where nothing plays, arrows scroll, and always in a part of a page that scrolls by itself.
  if (arrow && (!loaded || event.target.closest('input, [tabindex="0"]'))) {
    return;
  }
  event.preventDefault();
  KEYS[key]();
});

if ("mediaSession" in navigator) {
  const handlers = {
    play: () => { if (!wanted) { toggle(); } },
    pause: () => { if (wanted) { toggle(); } },
    nexttrack: next, previoustrack: previous, stop,
    seekbackward: (how) => seekBy(-(how.seekOffset || 10)),
    seekforward: (how) => seekBy(how.seekOffset || 10),
    seekto: (how) => { audio.currentTime = how.seekTime; },
  };
  for (const [action, handler] of Object.entries(handlers)) {
    try {
      navigator.mediaSession.setActionHandler(action, handler);
    } catch {
      // This browser has no such key.
    }
  }
}

onPage(() => { mark(); sing(loaded, audio.currentTime); });
const kept = Number.parseFloat(localStorage.getItem("antiphon-volume"));
setVolume(Number.isFinite(kept) ? kept : 1);
showVolume();
showSong(list.current());
showTime();
showState();
