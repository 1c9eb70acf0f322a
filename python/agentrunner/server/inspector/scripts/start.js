const THEMES = ["system", "light", "dark"];
let theme = recall("theme") ?? "system";
function paintTheme() {
  if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
  $("theme").ariaLabel = $("theme").title = `Theme: ${theme}`;
}
$("theme").onclick = () => { remember("theme", theme = THEMES[(THEMES.indexOf(theme) + 1) % 3]); paintTheme(); };
paintTheme();
showPane("talk");

addEventListener("visibilitychange", () => { if (!document.hidden) { refresh(); draw(); } });
function hashId() { try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } }
addEventListener("hashchange", () => { if (hashId()) openThread(hashId()); });
(async () => {
  const id = hashId();
  thread = new Thread("", "default");
  draw();
  await refresh();
  if (id) openThread(id); else newThread();
})();
