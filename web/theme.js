// Not a module: it runs before the first paint, so that a theme that was chosen does not flash.
try {
  const { theme, fontSize } = JSON.parse(localStorage.getItem("settings") ?? "{}");
  if (theme) document.documentElement.dataset.theme = theme;
  if (fontSize) document.documentElement.style.setProperty("--font-size", `${fontSize}px`);
} catch {
  // Without storage there is no choice to apply.
}
