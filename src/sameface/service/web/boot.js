// Before the first paint: the theme and the language that were chosen last time.
(() => {
  const theme = localStorage.getItem("sameface.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const language = localStorage.getItem("sameface.language") ?? navigator.language;
  document.documentElement.lang = language.startsWith("ko") ? "ko" : "en";
})();
