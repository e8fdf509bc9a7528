// A word that the browser keeps; where it may keep none, the page keeps it until it is closed.

export class Kept {
  /** `storage` is "sessionStorage" or "localStorage": even to name them throws where they are blocked. */
  constructor(storage, name) {
    this.storage = storage;
    this.name = name;
    this.value = "";
  }

  get() {
    try {
      return window[this.storage].getItem(this.name) ?? this.value;
    } catch {
      return this.value;
    }
  }

  set(value) {
    this.value = value;
    try {
      window[this.storage].setItem(this.name, value);
    } catch {
      // blocked, or full: the page's own has to do
    }
  }

  forget() {
    this.value = "";
    try {
      window[this.storage].removeItem(this.name);
    } catch {
      // blocked: nothing is there
    }
  }
}
