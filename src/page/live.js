// The page of a bridge server: watching, broadcasting or an echo, by what its address says.
//
// document.body.dataset.state is idle, connecting, live, ended or failed; dataset.error is the code of a Problem;
// dataset.mode is viewer, broadcaster or echo; dataset.way is p2p or forward for who watches; dataset.peers is how many viewers a
// broadcaster serves.

import { readAddress } from "./address.js";
import { Broadcaster } from "./broadcaster.js";
import { Chat } from "./chat.js";
import { Echo } from "./echo.js";
import { Socket } from "./socket.js";
import { $ } from "./view.js";
import { Viewer } from "./viewer.js";

/** Takes the token out of the address, where it would stay in the history and on the screen. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

const token = takeToken();
const address = readAddress(location.search);
const socket = new Socket(token);
const chat = new Chat(socket);
document.body.dataset.mode = address.mode;
$(`to-${address.mode}`).setAttribute("aria-current", "page");

const views = { viewer: Viewer, broadcaster: Broadcaster, echo: Echo };
const view = new views[address.mode]({ socket, chat, address, token });

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("token-form").hidden = true;
  view.useToken($("token").value.trim());
});
