// Everything starts here. Pages work without any of it.
import "./nav.js";
import "./forms.js";
import "./player.js";
import "./live.js";

if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("/sw.js").catch(() => {});
}
