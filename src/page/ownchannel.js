// The channel that this page publishes on: made when it is needed, entered (again) as its publisher, and ended.

export class OwnChannel {
  #socket;
  #token;
  #made = null;
  /** The server knows this page to be in it. */
  #isIn = false;

  /** `token` is what the user has been given, for making channels and for those of others. */
  constructor(socket, token) {
    this.#socket = socket;
    this.#token = token;
    // Another connection is nowhere.
    socket.addEventListener("open", () => (this.#isIn = false));
  }

  /** Null until it has been entered. */
  get id() {
    return this.#made?.id ?? null;
  }

  /** The bearer token of who publishes on it. */
  get key() {
    return this.#made?.key;
  }

  useToken(token) {
    this.#token = token;
    this.#socket.useToken(token, { reconnect: true });
  }

  /** Makes it, if it is not there yet and has no name, and enters it (anew); returns what the server has `joined` to say. */
  async enter({ named, title, category, p2p }) {
    if (!this.#made) {
      const made = named ? { channel: named } : await this.#socket.ask({ type: "create", title, category });
      this.#made = { id: made.channel, key: made.key ?? this.#token, isOwn: !named };
    }
    // Should the connection be lost, the next one knows us by the key.
    this.#socket.useToken(this.#made.key, { reconnect: false });
    if (this.#isIn) this.#socket.send({ type: "leave" });
    const joined = await this.#socket.ask({ type: "join", channel: this.#made.id, role: "publisher", p2p });
    this.#isIn = true;
    return joined;
  }

  /**
   * The server knows it no more: from now on it is one of this name, for which counts what the user has been given. False
   * if that has been tried already.
   */
  renew() {
    if (!this.#made?.isOwn) return false;
    this.#made = { id: this.#made.id, key: this.#token, isOwn: false };
    // Whoever came with the key of what is not there any more has to come anew.
    this.#socket.useToken(this.#token, { reconnect: true });
    return true;
  }

  /** Ends what was made; leaves what was only entered. */
  leave() {
    if (!this.#made) return;
    const { id, isOwn } = this.#made;
    [this.#made, this.#isIn] = [null, false];
    this.#socket.send(isOwn ? { type: "stop", channel: id } : { type: "leave" });
    this.#socket.useToken(this.#token, { reconnect: true });
  }
}
