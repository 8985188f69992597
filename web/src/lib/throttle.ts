/**
 * Runs `work` at once, and once more for all requests while it runs or within `pauseMs` of its start.
 */
export class Throttle {
  #running = false;
  #wanted = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #earliest = 0;

  constructor(
    private readonly work: () => Promise<void>,
    private readonly pauseMs: number,
  ) {}

  request(): void {
    this.#wanted = true;
    if (!this.#running && this.#timer === undefined) {
      this.#timer = setTimeout(() => void this.#run(), Math.max(0, this.#earliest - Date.now()));
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#wanted = false;
  }

  async #run(): Promise<void> {
    this.#timer = undefined;
    this.#running = true;
    this.#wanted = false;
    this.#earliest = Date.now() + this.pauseMs;
    try {
      await this.work();
    } finally {
      this.#running = false;
      // Requests during this run need another one, as it may have started too early for them.
      if (this.#isWanted()) {
        this.request();
      }
    }
  }

  #isWanted(): boolean {
    return this.#wanted;
  }
}
