// What changes on the peer: pages that show it are fetched again.
import { heard } from "./player.js";
import { onPage, refresh, say } from "./nav.js";

const LEAST_MS = 400;
const seen = {};
let source = null;
let lost = 0;
let timer = 0;
let last = 0;
let scan = null;

const lives = (kind) => document.querySelector(`#main [data-live~="${kind}"]`) !== null;

/** Soon, and not again and again. */
function soon() {
  clearTimeout(timer);
  const wait = Math.max(0, last + LEAST_MS - performance.now());
  timer = setTimeout(() => {
    last = performance.now();
    refresh();
  }, wait);
}

function connected(on) {
  clearTimeout(lost);
  const banner = document.getElementById("lost");
  if (on) {
    if (!banner.hidden) {
      say("The connection is back");
    }
    banner.hidden = true;
  } else {
    // A moment without it is nothing to speak of.
    lost = setTimeout(() => { banner.hidden = false; }, 1500);
  }
}

function changed(name, version) {
  const was = seen[name];
  seen[name] = version;
  return was !== undefined && was !== version;
}

function showScan() {
  const place = document.getElementById("scan");
  if (place && scan) {
    place.hidden = !scan.running;
    place.textContent = scan.running ? `Reading your music: ${scan.done} of ${scan.found}` : "";
  }
}

const isOpen = (download) => ["waiting", "paused", "running"].includes(download?.state);

function howFar({ state, bytes, verified_bytes: verified }) {
  if (state === "paused") {
    return "Paused";
  }
  return state === "waiting" || bytes === 0 ? "Waiting" : `${Math.floor((verified * 100) / bytes)} %`;
}

/** How far songs are that are on their way to the library. The page is fetched again when one has come. */
async function showComing() {
  const places = [...document.querySelectorAll("#main [data-coming]")];
  if (!places.length) {
    return;
  }
  const { downloads } = await (await fetch("/api/v1/downloads")).json();
  for (const place of places) {
    const all = place.dataset.coming.split(" ").map((song) => downloads.find((one) => one.song === song));
    const open = all.filter(isOpen);
    if (open.length < all.length) {
      soon();
    }
    if (open.length) {
      const words = open.length === 1 ? howFar(open[0]) : `${open.length} songs to come`;
      if ((words === "Paused") !== (place.textContent === "Paused")) {
        // The page says why.
        soon();
      }
      place.textContent = words;
    }
  }
}

const hear = {
  online({ version, peers, files }) {
    const net = document.getElementById("net");
    net.hidden = false;
    net.textContent = peers === 0 ? "Nobody is online" : `${peers} ${peers === 1 ? "peer" : "peers"} online`;
    if (changed("online", `${version} ${peers} ${files}`) && lives("online")) {
      soon();
    }
  },
  library({ version }) {
    if (changed("library", version) && lives("library")) {
      soon();
    }
  },
  scan(now) {
    scan = now;
    showScan();
    if (changed("scan", now.running) && lives("library")) {
      soon();
    }
  },
  downloads() {
    // What could not be asked now is asked at the next step.
    showComing().catch(() => {});
  },
  player: heard,
};

function listen() {
  source?.close();
  source = new EventSource("/api/v1/events");
  source.onopen = () => connected(true);
  source.onerror = () => {
    connected(false);
    // The browser tries again by itself unless it was refused.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(listen, 3000);
    }
  };
  for (const [name, handler] of Object.entries(hear)) {
    source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
}

onPage(showScan);
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => { if (event.persisted) { listen(); } });
listen();
