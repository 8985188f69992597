import { useEffect } from "preact/hooks";

/** Runs `work` periodically while the page is visible. */
export function useInterval(work: () => void, everyMs: number): void {
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) {
        work();
      }
    }, everyMs);
    return () => clearInterval(timer);
  }, [work, everyMs]);
}
