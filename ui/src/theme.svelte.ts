/** Light, dark or as the system says. The choice is kept in this browser. */

export type Theme = "auto" | "light" | "dark";

const KEY = "salus-theme";
const stored = localStorage.getItem(KEY);

export const theme = $state<{ choice: Theme; turn: number }>({ choice: stored === "light" || stored === "dark" ? stored : "auto", turn: 0 });

function apply(): void {
  if (theme.choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.choice;
  theme.turn += 1;
}

/** auto, light, dark, and round again. */
export function nextTheme(): void {
  theme.choice = theme.choice === "auto" ? "light" : theme.choice === "light" ? "dark" : "auto";
  if (theme.choice === "auto") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme.choice);
  apply();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (theme.turn += 1));
apply();

/** A token's colour as the canvas understands it: `light-dark()` resolved for `element`. */
export function colour(element: HTMLElement, token: string): string {
  const before = element.style.color;
  element.style.color = `var(--${token})`;
  const resolved = getComputedStyle(element).color;
  element.style.color = before;
  return resolved;
}
