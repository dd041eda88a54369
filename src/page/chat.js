// The chat of the channel that one is in. Whatever others say is text and never becomes markup.

import { Problem, inWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const MOST_MESSAGES = 300;
const NAME = "webrtcbridge-name";

export class Chat {
  #socket;
  #isIn = false;
  #name = sessionStorage.getItem(NAME) ?? "";

  constructor(socket) {
    this.#socket = socket;
    $("name").value = this.#name;
    socket.addEventListener("chat", ({ data }) => this.#say(data));
    socket.addEventListener("chat-joined", ({ data: { name, was } }) => {
      if (was === undefined) this.#note(`${name} is here`);
      else if (was !== name) this.#note(`${was} is now ${name}`);
    });
    socket.addEventListener("chat-left", ({ data }) => this.#note(`${data.name} has left`));
    $("name-form").addEventListener("submit", (event) => this.#act(event, () => this.#rename($("name").value.trim())));
    $("chat-form").addEventListener("submit", (event) => this.#act(event, () => this.#send($("text").value.trim())));
    this.#show();
  }

  /** One is in a channel (again). */
  enter() {
    this.#isIn = true;
    if (this.#name) this.#socket.ask({ type: "alias", name: this.#name }).catch((error) => this.#fail(error));
    this.#show();
  }

  /** One is in none. */
  leave() {
    this.#isIn = false;
    this.#show();
  }

  clear() {
    $("messages").replaceChildren();
  }

  async #rename(name) {
    if (!name) throw new Problem("rejected", "the name is empty");
    if (this.#isIn) await this.#socket.ask({ type: "alias", name });
    this.#name = name;
    sessionStorage.setItem(NAME, name);
    this.#show();
    if (this.#isIn) $("text").focus();
  }

  async #send(text) {
    if (!text) return;
    await this.#socket.ask({ type: "chat", text });
    $("text").value = "";
  }

  async #act(event, action) {
    event.preventDefault();
    try {
      await action();
      this.#fail(null);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error) {
    $("chat-error").hidden = !error;
    $("chat-error").textContent = error ? inWords(error) : "";
  }

  #show() {
    const may = this.#isIn && this.#name !== "";
    $("text").disabled = $("send").disabled = !may;
    $("chat-note").hidden = may;
    $("chat-note").textContent = this.#isIn ? "Set a display name to join in." : "The chat opens with the broadcast.";
  }

  #say({ name, text, at, broadcaster }) {
    const item = document.createElement("li");
    const who = element("strong", name);
    if (broadcaster) who.append(" ", element("span", "broadcaster", "tag"));
    const when = element("time", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    when.dateTime = new Date(at).toISOString();
    item.append(who, " ", when, element("p", text));
    this.#add(item);
  }

  #note(text) {
    this.#add(element("li", text, "note"));
  }

  #add(item) {
    const log = $("messages");
    // Who has scrolled up reads; nobody is torn away from that.
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(item);
    while (log.childElementCount > MOST_MESSAGES) log.firstElementChild.remove();
    if (follows) log.scrollTop = log.scrollHeight;
  }
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}
