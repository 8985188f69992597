import { useEffect } from "preact/hooks";

/** Does this again and again while the page is in sight. */
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
