// A serial port for the page, at whose other end is a board that the test has (board.py).
() => {
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

  class Port {
    #isOpen = false;
    #stream;
    #controller;

    getInfo() {
      return { usbVendorId: 0x10c4, usbProductId: 0xea60 };
    }

    async open({ baudRate }) {
      if (this.#isOpen) {
        throw new DOMException("The port is already open.", "InvalidStateError");
      }
      if (!(await boardOpens(baudRate))) {
        throw new DOMException("Failed to open serial port.", "NetworkError");
      }
      this.#isOpen = true;
      this.writable = new WritableStream({
        write: async (chunk) => this.#hear(await boardTakes(btoa(String.fromCharCode(...chunk)))),
      });
    }

    // As Web Serial has it: there is a new stream after one that was cancelled, and what comes meanwhile is kept.
    get readable() {
      if (!this.#isOpen) {
        return null;
      }
      this.#stream ??= new ReadableStream({
        start: (controller) => {
          this.#controller = controller;
        },
        cancel: () => {
          this.#stream = undefined;
        },
      });
      return this.#stream;
    }

    async setSignals({ dataTerminalReady, requestToSend }) {
      if (!this.#isOpen) {
        throw new DOMException("The port is closed.", "InvalidStateError");
      }
      this.#hear(await boardSees(dataTerminalReady ?? null, requestToSend ?? null));
    }

    async close() {
      if (!this.#isOpen) {
        throw new DOMException("The port is already closed.", "InvalidStateError");
      }
      if (this.#stream?.locked || this.writable?.locked) {
        throw new TypeError("a stream is locked");
      }
      this.#isOpen = false;
      this.#stream = undefined;
      this.writable = null;
    }

    #hear(base64) {
      if (base64 !== "" && this.readable !== null) {
        this.#controller.enqueue(bytes(base64));
      }
    }
  }

  const port = new Port();
  Object.defineProperty(navigator, "serial", { configurable: true, value: { requestPort: async () => port } });
}
