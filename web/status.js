// Says what is going on: the line at the bottom, the banner for what needs attention, the server's health.

import { $, make } from "./dom.js";
import { number, t } from "./strings.js";

const POLL = 5000, POLL_WHILE_DOWN = 2000; // milliseconds
const SPEED_EVERY = 250; // milliseconds

/** An error in the person's words. */
function words({ status, code, message }) {
  if (code === "offline" || code === "broken") return t(code);
  if (code === "model_not_found") return t("unknownModel");
  return t("failed", { message: message || status });
}

export class Status {
  /** page: {api, editor, models, desk}. */
  constructor(page) {
    Object.assign(this, { page, down: false, banners: new Map(), warned: new Set() });
    this.show("ready");
  }

  /** Write a line of the state. Screen readers announce it, except while it only counts. */
  show(key, values, announced = true) {
    this.shown = [key, values, announced];
    $("progress").textContent = t(key, values);
    if (announced) $("announcement").textContent = t(key, values);
  }

  began() {
    this.firstToken = null;
    this.hideBanner("error");
    this.show("reading");
    document.body.classList.add("writing");
    this.update();
  }

  queued(place) {
    if (place) this.show("queued", { n: place });
    else if (!this.firstToken) this.show("reading");
  }

  busy(seconds) {
    this.show("busy", { n: seconds });
  }

  /** Warnings of the server, each once. */
  warn(warnings) {
    for (const warning of warnings.filter(warning => !this.warned.has(warning))) {
      this.warned.add(warning);
      const cut = /^the prefix is longer.* (\d+) tokens/.exec(warning);
      this.banner("warning", cut ? t("prefixCut", { n: cut[1] }) : warning);
    }
  }

  /** New tokens have come. */
  progress(run) {
    const now = performance.now();
    this.firstToken ??= { time: now, tokens: run.tokens };
    if (now - (this.lastProgress ?? 0) < SPEED_EVERY) return;
    this.lastProgress = now;
    const seconds = (now - this.firstToken.time) / 1000;
    this.speed = seconds > 0.3 ? (run.tokens - this.firstToken.tokens) / seconds : this.speed;
    this.show("writing", { n: number(lengthOf(run)) }, false);
    this.showModel();
  }

  ended(run, finish) {
    document.body.classList.remove("writing");
    this.penAt(null);
    const length = lengthOf(run);
    if (finish === "stopped") this.show("stopped", { n: number(length) });
    else if (finish) this.show(length ? "finished" : "nothing", { n: number(length) });
    else this.show("ready");
    this.update();
  }

  failed(error) {
    if (error.code !== "offline") this.banner("error", words(error));
    if (error.status === 0 || error.status >= 500) this.watch();
  }

  /** Where the model is writing. */
  penAt(place) {
    this.page.editor.cover($("pen"), place);
  }

  showModel() {
    const { current } = this.page.models, digits = this.speed < 10 ? 1 : 0;
    const speed = this.speed && t("speed", { n: number(this.speed, digits) });
    const others = this.others && t("others", { n: this.others });
    $("model-name").textContent = [current?.id, speed, others].filter(part => part).join(" · ");
  }

  /** All that is said, in the language of now. */
  translate() {
    this.show(...this.shown);
    this.showModel();
  }

  /** A message across the page, one of each kind. The newest can be seen. buttons: [[text, function]]. */
  banner(kind, message, buttons = [[t("ok"), () => {}]]) {
    this.banners.delete(kind);
    this.banners.set(kind, { message, buttons });
    this.#showBanner();
  }

  hideBanner(kind) {
    if (this.banners.delete(kind)) this.#showBanner();
  }

  #showBanner() {
    const [kind, { message, buttons }] = [...this.banners].at(-1) ?? ["", { message: "", buttons: [] }];
    const [text, space] = $("banner").children;
    space.replaceChildren(...buttons.map(([textContent, action]) => {
      const button = make("button", { textContent });
      button.addEventListener("click", () => {
        this.hideBanner(kind);
        action();
      });
      return button;
    }));
    $("banner").className = kind;
    $("banner").hidden = !kind;
    text.textContent = message;
  }

  #setDown(down) {
    if (down === this.down) return;
    this.down = down;
    if (down) this.banner("offline", t("offline"), []);
    else {
      this.hideBanner("offline");
      this.hideBanner("error"); // of the server that ended
      this.show("online");
      this.page.models.load();
    }
  }

  /** Ask the server how it is, again and again while the page can be seen. */
  async watch() {
    clearTimeout(this.timer);
    if (!document.hidden) {
      try {
        const { queue, max_tokens } = await this.page.api.health();
        this.others = queue;
        this.maxTokens = max_tokens; // that a request may ask for
        this.#setDown(false);
        this.showModel();
      } catch {
        this.#setDown(true);
      }
    }
    this.timer = setTimeout(() => this.watch(), this.down ? POLL_WHILE_DOWN : POLL);
  }
}

function lengthOf(run) {
  return run.choices ? run.choices.reduce((sum, { text }) => sum + text.length, 0) : run.written.text.length;
}
