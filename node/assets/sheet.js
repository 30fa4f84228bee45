// The queue, to look at and to put in order: by dragging, or by the buttons beside each song.
import { say } from "./nav.js";
import * as list from "./queue.js";

const { queue } = list;
const $ = (id) => document.getElementById(id);
// What the player does when the list was changed under it.
let player = { jump() {}, removed() {} };
// The place that is being dragged, or nothing.
let dragged = null;

/** Connects the list with the player. */
export function connect(actions) {
  player = actions;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "i");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

function button(act, label, symbol) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "icon small";
  made.dataset.act = act;
  made.setAttribute("aria-label", label);
  made.append(icon(symbol));
  return made;
}

function row(song, index) {
  const item = document.createElement("li");
  const grip = document.createElement("span");
  grip.className = "grip";
  grip.setAttribute("aria-hidden", "true");
  grip.append(icon("grip"));
  const play = document.createElement("button");
  play.type = "button";
  play.dataset.act = "play";
  for (const [kind, words] of [["title", song.title], ["artist", song.artist]]) {
    const line = document.createElement("span");
    line.className = `queue-${kind}`;
    line.textContent = words;
    play.append(line, " ");
  }
  const up = button("up", `Move ${song.title} up`, "up");
  const down = button("down", `Move ${song.title} down`, "down");
  up.disabled = index === 0;
  down.disabled = index === queue.songs.length - 1;
  if (index === queue.at) {
    item.setAttribute("aria-current", "true");
  }
  item.append(grip, play, up, down, button("remove", `Remove ${song.title} from the queue`, "close"));
  return item;
}

const rows = () => [...$("q-list").children];

/** Moves the focus to a button of a row, or to what is nearest. */
function focus(index, act) {
  const item = rows()[Math.min(index, rows().length - 1)];
  const wanted = item?.querySelector(`[data-act="${act}"]:not(:disabled)`);
  (wanted ?? item?.querySelector('[data-act="play"]') ?? $("q-close")).focus();
}

/** Shows the list, when it is open. */
export function showQueue() {
  if ($("queue").hidden || dragged !== null) {
    return;
  }
  const top = $("queue").scrollTop;
  $("q-list").replaceChildren(...queue.songs.map(row));
  $("q-empty").hidden = queue.songs.length > 0;
  $("queue").scrollTop = top;
}

function move(from, to) {
  const { title } = queue.songs[from];
  list.move(from, to);
  showQueue();
  say(`${title} is number ${to + 1} of ${queue.songs.length}`);
}

/** Opens or closes it. */
export function openQueue(open) {
  $("queue").hidden = !open;
  $("p-queue").setAttribute("aria-expanded", open);
  showQueue();
  // What plays is in sight, with some of what comes after it.
  const playing = open && $("q-list").querySelector("[aria-current]");
  if (playing) {
    $("queue").scrollTop = playing.offsetTop - $("queue").clientHeight / 3;
  }
  (open ? $("q-close") : $("p-queue")).focus({ preventScroll: true });
}

$("q-list").addEventListener("click", (event) => {
  const pressed = event.target.closest("button");
  const index = rows().indexOf(event.target.closest("li"));
  const act = pressed?.dataset.act;
  if (act === "play") {
    player.jump(index);
    focus(index, act);
  } else if (act === "up" || act === "down") {
    const to = index + (act === "up" ? -1 : 1);
    move(index, to);
    focus(to, act);
  } else if (act === "remove") {
    const { title } = queue.songs[index];
    const was = index === queue.at;
    list.remove(index);
    player.removed(was, index);
    showQueue();
    focus(index, act);
    say(`${title} is out of the queue`);
  }
});

// Dragging: the row follows the pointer among the others, and the list is changed when it is let go.
$("q-list").addEventListener("pointerdown", (event) => {
  const item = event.target.closest(".grip")?.closest("li");
  if (!item || event.button !== 0) {
    return;
  }
  event.preventDefault();
  dragged = rows().indexOf(item);
  item.classList.add("dragged");
  // Not to the row: it is moved in the page, which would end it.
  $("q-list").setPointerCapture(event.pointerId);
});
$("q-list").addEventListener("pointermove", (event) => {
  const item = dragged !== null && $("q-list").querySelector(".dragged");
  if (!item) {
    return;
  }
  const box = $("queue").getBoundingClientRect();
  const edge = event.clientY < box.top + 40 ? -12 : event.clientY > box.bottom - 40 ? 12 : 0;
  $("queue").scrollTop += edge;
  const all = rows();
  const from = all.indexOf(item);
  const above = all.filter((other) => other.getBoundingClientRect().top <= event.clientY).length - 1;
  const to = Math.max(0, above);
  if (to !== from) {
    $("q-list").insertBefore(item, all[to > from ? to + 1 : to] ?? null);
  }
});
function drop(keep) {
  if (dragged === null) {
    return;
  }
  const from = dragged;
  const to = rows().findIndex((item) => item.classList.contains("dragged"));
  dragged = null;
  if (keep && to >= 0 && to !== from) {
    move(from, to);
  } else {
    showQueue();
  }
}
$("q-list").addEventListener("pointerup", () => drop(true));
$("q-list").addEventListener("pointercancel", () => drop(false));

$("p-queue").addEventListener("click", () => openQueue($("queue").hidden));
$("q-close").addEventListener("click", () => openQueue(false));
$("q-clear").addEventListener("click", () => { list.clear(); showQueue(); $("q-close").focus(); });
