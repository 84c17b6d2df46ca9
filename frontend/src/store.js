// Where the page's data comes from: packed into this file, or a server that is polled.

const POLL_MS = 2_000;
const IDLE_POLL_MS = 10_000;
const MAX_KEPT = 300;

export function openStore() {
  const packed = document.querySelector("script.study");
  return packed ? new PackedStore(packed) : new ServedStore();
}

async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** All of a study, in elements of this file. Texts are unpacked when they are first asked for. */
class PackedStore {
  isServed = false;
  #packed;
  #pieces;
  #size = 50;

  constructor(packed) {
    this.#packed = packed;
    this.#pieces = [...document.querySelectorAll("script.details")];
  }

  async load() {
    const { written, data } = await unpack(this.#packed);
    this.#packed.remove();
    this.written = written;
    return data;
  }

  async #unpackPiece(index) {
    const piece = this.#pieces[index];
    if (!piece) return [];
    if (piece instanceof Element) {
      this.#pieces[index] = unpack(piece);
      piece.remove();
    }
    return this.#pieces[index];
  }

  async detail(number) {
    const piece = await this.#unpackPiece(Math.floor(number / this.#size));
    return piece[number % this.#size];
  }

  async cases() {
    const packed = document.querySelector("script.cases");
    return packed ? (await unpack(packed)).trials : [];
  }

  async calls(number) {
    const packed = document.querySelector(`script.calls[data-number="${number}"]`);
    return packed ? unpack(packed) : [];
  }

  async search(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = new Set();
    for (let i = 0; i < this.#pieces.length; i++) {
      for (const { number, rationale, feedback, error, texts } of await this.#unpackPiece(i)) {
        const said = [rationale, feedback, error, ...Object.values(texts)].join("\n").toLowerCase();
        if (words.every((word) => said.includes(word))) found.add(number);
      }
    }
    return found;
  }
}

/** A study that a server reads from its storage. */
class ServedStore {
  isServed = true;
  #base = location.pathname.replace(/\/$/, "");
  #version = "";
  #kept = new Map();

  get dashboard() {
    return this.#base.replace(/\/llm\/studies\/(\d+)$/, "/dashboard/studies/$1");
  }

  async #fetch(path) {
    const answer = await fetch(this.#base + path, { cache: "no-store" });
    if (answer.status === 204) return null;
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    return answer.json();
  }

  async load() {
    const data = await this.#fetch(`/data?since=${this.#version}`);
    if (data) this.#version = data.version;
    return data;
  }

  /** Hand over what is new, again and again; with null where the server does not answer. */
  poll(receive, isBusy) {
    const again = async () => {
      if (!document.hidden) {
        try {
          const data = await this.load();
          if (data?.whole) this.#kept.clear();
          // Running trials get their texts and their feedback later than their rows.
          for (const { number } of data?.trials ?? []) this.#kept.delete(number);
          receive(data, true);
        } catch {
          receive(null, false);
        }
      }
      setTimeout(again, isBusy() ? POLL_MS : IDLE_POLL_MS);
    };
    setTimeout(again, POLL_MS);
  }

  detail(number) {
    if (!this.#kept.has(number)) {
      if (this.#kept.size >= MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value);
      const asked = this.#fetch(`/trials/${number}`);
      asked.catch(() => this.#kept.delete(number));
      this.#kept.set(number, asked);
    }
    return this.#kept.get(number);
  }

  /** Of the trials that have changed since a version: `[number, [[case, score], ...]]`. */
  async cases(since) {
    return (await this.#fetch(`/cases?since=${since}`)).trials;
  }

  async calls(number) {
    return this.#fetch(`/calls/${number}`);
  }

  async search(query) {
    return new Set(await this.#fetch(`/search?q=${encodeURIComponent(query)}`));
  }

  /** Change the study, for who has the token that the server printed. */
  async steer(action, token, body) {
    const answer = await fetch(`${this.#base}/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Steering-Token": token },
      body: JSON.stringify(body),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.reason);
    return said;
  }
}
