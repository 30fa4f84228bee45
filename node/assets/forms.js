// Forms that change something: sent in the background, and the page that answers is put in place.
import { actionOf, arrive, methodOf, part, stay, toast } from "./nav.js";

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (event.defaultPrevented || methodOf(form) !== "post" || "whole" in form.dataset) {
    return;
  }
  event.preventDefault();
  const to = actionOf(form).pathname;
  const button = event.submitter;
  const fields = new FormData(form, button);
  if (button) {
    button.disabled = true;
  }
  try {
    const got = await part(to, { method: "POST", body: new URLSearchParams(fields) });
    if (got) {
      const looks = to === "/settings/theme" && fields.get("theme");
      if (typeof looks === "string") {
        document.documentElement.dataset.theme = looks;
      }
      // What only marks something on the page moves nobody.
      if ("stay" in form.dataset && got.redirected && got.url === location.pathname + location.search) {
        stay(got.main, button);
        return;
      }
      // An answer to the form itself has no address of its own.
      arrive(!got.redirected ? { ...got, url: location.pathname + location.search } : got);
    } else {
      location.assign("/");
    }
  } catch {
    toast("Your peer does not answer. Nothing was changed, as far as is known.");
    if (button) {
      button.disabled = false;
    }
  }
});
