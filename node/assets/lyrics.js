// Texts of songs: the line that is heard now is marked, and kept in sight.
const place = () => document.querySelector("#main [data-lyrics]");

/** Marks the line of a song that is at a place. */
export function sing(song, seconds) {
  const text = place();
  if (!text || text.dataset.lyrics !== song) {
    return;
  }
  const timed = [...text.querySelectorAll("[data-ms]")];
  const now = timed.findLast((line) => Number(line.dataset.ms) <= seconds * 1000);
  const was = text.querySelector("[aria-current]");
  if (now !== was) {
    was?.removeAttribute("aria-current");
    now?.setAttribute("aria-current", "true");
    text.scrollTo({ top: (now?.offsetTop ?? 0) - text.clientHeight / 2, behavior: "smooth" });
  }
}
