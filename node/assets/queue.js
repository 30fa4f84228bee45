// What is played next. It is kept for as long as the tab is open.
const KEY = "antiphon-queue";
const MOST = 2000;

function load() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY));
    if (Array.isArray(kept?.songs) && kept.songs.every((song) => typeof song?.id === "string")) {
      return kept;
    }
  } catch {
    // What cannot be read is left.
  }
  return null;
}

const empty = { songs: [], at: -1, shuffle: false, repeat: "off", order: [], seconds: 0 };
export const queue = { ...empty, ...load() };

/** Writes it down. */
export function keep() {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(queue));
  } catch {
    // It is kept as long as the page is.
  }
}

/** The song that it is at. */
export const current = () => queue.songs[queue.at] ?? null;

/** An order in which each song comes once, from the one that it is at. */
function mix() {
  const rest = queue.songs.map((_, index) => index).filter((index) => index !== queue.at);
  for (let end = rest.length - 1; end > 0; end -= 1) {
    const other = Math.floor(Math.random() * (end + 1));
    [rest[end], rest[other]] = [rest[other], rest[end]];
  }
  queue.order = queue.at >= 0 ? [queue.at, ...rest] : rest;
}

/** Replaces everything. */
export function fill(songs, at) {
  queue.songs = songs.slice(0, MOST);
  queue.at = Math.min(at, queue.songs.length - 1);
  queue.seconds = 0;
  mix();
  keep();
}

/** Puts songs at the end, as many as there is room for. */
export function append(songs) {
  for (const song of songs.slice(0, Math.max(0, MOST - queue.songs.length))) {
    queue.order.push(queue.songs.length);
    queue.songs.push(song);
  }
  keep();
}

/** Takes a song out. */
export function remove(index) {
  queue.songs.splice(index, 1);
  queue.order = queue.order.filter((other) => other !== index).map((other) => (other > index ? other - 1 : other));
  if (index < queue.at || queue.at >= queue.songs.length) {
    queue.at -= 1;
  }
  keep();
}

/** Moves a song to another place. What plays plays on. */
export function move(from, to) {
  queue.songs.splice(to, 0, ...queue.songs.splice(from, 1));
  const moved = (index) => {
    if (index === from) {
      return to;
    }
    const without = index > from ? index - 1 : index;
    return without >= to ? without + 1 : without;
  };
  queue.order = queue.order.map(moved);
  queue.at = queue.at < 0 ? queue.at : moved(queue.at);
  keep();
}

/** Leaves only the song that it is at. */
export function clear() {
  const song = current();
  queue.songs = song ? [song] : [];
  queue.at = song ? 0 : -1;
  mix();
  keep();
}

/** The place `steps` further on; -1 at the end. */
export function step(steps) {
  const count = queue.songs.length;
  if (!count) {
    return -1;
  }
  const order = queue.shuffle && queue.order.length === count ? queue.order : [...queue.songs.keys()];
  const next = order.indexOf(queue.at) + steps;
  if (next >= 0 && next < count) {
    return order[next];
  }
  return queue.repeat === "all" ? order[(next + count) % count] : -1;
}

/** Another order, or the one as listed. */
export function shuffle(on) {
  queue.shuffle = on;
  if (on) {
    mix();
  }
  keep();
}
