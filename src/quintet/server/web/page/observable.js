// Things that say when they have changed, and views that follow them.
import { useEffect, useState } from "./html.js";

export class Observable {
  #watchers = new Set();
  #frame = null;

  /** Tell whoever watches, once for all that changes before the next frame. */
  changed() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      for (const watcher of this.#watchers) watcher();
    });
  }

  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/** Draw a view again whenever the observable has changed. */
export function useChanges(observable) {
  const [, again] = useState(0);
  useEffect(() => observable.watch(() => again((count) => count + 1)), [observable]);
}
