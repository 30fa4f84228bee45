// Goes from page to page without ending the song: the main part of a page is fetched and put in place.
const listeners = new Set();
let asking = null;
// What the address bar shows, to tell a hash from another page.
let shown = location.pathname + location.search;

/** Calls `hear` after each change of the page. */
export function onPage(hear) {
  listeners.add(hear);
}

/** Says something to people who listen to the page. */
export function say(words) {
  const place = document.getElementById("said");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = words; });
}

let toastTimer = 0;

/** Shows words for a while. */
export function toast(words) {
  const place = document.getElementById("toast");
  place.textContent = words;
  place.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { place.hidden = true; }, 6000);
}

/** The main part of a page; `null` when it has to be loaded whole. */
export async function part(url, options = {}) {
  const headers = { "X-Part": "main", Accept: "text/html", ...options.headers };
  const response = await fetch(url, { ...options, headers, credentials: "same-origin" });
  const at = new URL(response.url);
  const kind = response.headers.get("Content-Type") || "";
  if (at.pathname === "/login" || !kind.startsWith("text/html")) {
    return null;
  }
  const found = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("main");
  return found && { main: found, url: at.pathname + at.search, redirected: response.redirected };
}

/** Puts a main part in place of the one that is there. */
export function put(main) {
  const old = document.getElementById("main");
  old.replaceWith(document.adoptNode(main));
  document.title = main.dataset.title;
  for (const link of document.querySelectorAll(".side [data-place]")) {
    if (link.dataset.place === main.dataset.place) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  for (const hear of listeners) {
    hear();
  }
}

function remember() {
  history.replaceState({ ...history.state, top: scrollY }, "");
}

/** Puts a new page in place and moves the focus there. */
export function arrive(got, { push = true, top = 0 } = {}) {
  if (push && got.url !== shown) {
    remember();
    history.pushState({ top: 0 }, "", got.url);
  }
  shown = got.url;
  put(got.main);
  const heading = document.querySelector("#main h1") || document.getElementById("main");
  heading.focus({ preventScroll: true });
  scrollTo(0, top);
  say(document.title);
}

/** Goes to a page. */
export async function go(url, how = {}) {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  document.getElementById("main").classList.add("loading");
  try {
    const got = await part(url, { signal: mine.signal });
    if (!got) {
      location.assign(url);
      return;
    }
    arrive(got, how);
  } catch (error) {
    if (error.name !== "AbortError") {
      document.getElementById("main").classList.remove("loading");
      toast("Your peer does not answer. Is it running?");
    }
  }
}

/** How an element of the page is found again in its next version. */
function known(element) {
  const key = element?.closest("#main") && ["data-key", "id", "href", "aria-label"].find((name) => element.getAttribute(name));
  if (!key) {
    return () => null;
  }
  const like = `#main [${key}="${CSS.escape(element.getAttribute(key))}"]`;
  const index = [...document.querySelectorAll(like)].indexOf(element);
  return () => document.querySelectorAll(like)[index] ?? null;
}

/** Puts a newer version of the page in place; nothing moves, and pictures stay as they are. */
export function stay(main, pressed = null) {
  // A button that is disabled while it is asked loses the focus.
  const active = document.activeElement;
  const again = known(active === document.body ? pressed : active);
  const top = scrollY;
  const shownNow = new Map([...document.querySelectorAll("#main img")].map((img) => [img.getAttribute("src"), img]));
  for (const img of main.querySelectorAll("img")) {
    const same = shownNow.get(img.getAttribute("src"));
    if (same?.complete && same.className === img.className) {
      img.replaceWith(document.adoptNode(same));
      shownNow.delete(img.getAttribute("src"));
    }
  }
  put(main);
  scrollTo(0, top);
  again()?.focus({ preventScroll: true });
}

/** Fetches the page that is shown again. */
export async function refresh() {
  const at = shown;
  try {
    const got = await part(at);
    // Not while somebody is typing there.
    if (got && at === shown && !document.activeElement?.matches("#main input, #main textarea")) {
      stay(got.main);
    }
  } catch {
    // The next change tries again.
  }
}

/** Whether an address is one of our pages. */
function ours(url) {
  return url.origin === location.origin && !/^\/(api|assets|rest|cover|metrics)(\/|$)/.test(url.pathname);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || link.hasAttribute("download") || link.target) {
    return;
  }
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
    return;
  }
  const url = new URL(link.href);
  if (!ours(url) || (url.hash && url.pathname + url.search === shown)) {
    return;
  }
  event.preventDefault();
  go(url.pathname + url.search);
});

/** Where a form goes. A field may be called `action` too, and would be found first. */
export const actionOf = (form) => new URL(form.getAttribute("action") ?? "", location.href);

/** `get` or `post`. */
export const methodOf = (form) => (form.getAttribute("method") ?? "get").toLowerCase();

document.addEventListener("submit", (event) => {
  const form = event.target;
  const url = actionOf(form);
  if (event.defaultPrevented || methodOf(form) !== "get" || !ours(url)) {
    return;
  }
  event.preventDefault();
  go(`${url.pathname}?${new URLSearchParams(new FormData(form))}`);
});

addEventListener("popstate", (event) => {
  const at = location.pathname + location.search;
  if (at !== shown) {
    go(at, { push: false, top: event.state?.top ?? 0 });
  }
});
history.scrollRestoration = "manual";
