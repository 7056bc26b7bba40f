/** Where the reader is, and how they get elsewhere: the History API, no hash. */

export const place = $state({ path: location.pathname, query: location.search, title: "" });

function arrive(): void {
  place.path = location.pathname;
  place.query = location.search;
}

/** Goes to `to`, an address on this origin. `replace` leaves no step to go back to. */
export function go(to: string, { replace = false }: { replace?: boolean } = {}): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  const moved = place.path !== location.pathname;
  arrive();
  if (moved) scrollTo(0, 0);
}

/** The query parameter `name`, or "". Reactive. */
export function query(name: string): string {
  return new URLSearchParams(place.query).get(name) ?? "";
}

/** The present address with the query parameter `name` set to `value` (removed when empty). */
export function withQuery(name: string, value: string): string {
  const params = new URLSearchParams(place.query);
  if (value) params.set(name, value);
  else params.delete(name);
  const text = params.toString();
  return text ? `${place.path}?${text}` : place.path;
}

/** Lets plain clicks on links of this origin change the page without loading it anew. */
export function followLinks(): void {
  addEventListener("popstate", arrive);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!(link instanceof HTMLAnchorElement || link instanceof SVGAElement)) return;
    if (link.hasAttribute("download") || link.getAttribute("target")) return;
    const to = new URL(link.getAttribute("href") ?? "", location.href);
    if (to.origin !== location.origin || to.pathname.startsWith("/api/") || link.hasAttribute("data-native")) return;
    if (to.hash && to.pathname === location.pathname) return;
    event.preventDefault();
    go(to.pathname + to.search);
  });
}
