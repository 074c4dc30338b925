/* A panel that is drawn anew takes the keyboard's place with it: it is given back to the same link,
   button or field, known by its address, label and text among its like. */
(function () {
  let last = null;

  function name(element) {
    return [element.tagName, element.id, element.getAttribute("href"),
      element.getAttribute("aria-label"), element.textContent].join("\n");
  }

  document.addEventListener("focusin", (event) => {
    const panel = event.target.closest(".panel[id]");
    last = panel
      ? { element: event.target, panel: panel.id, name: name(event.target) }
      : null;
  });

  new MutationObserver(() => {
    if (!last || last.element.isConnected || document.activeElement !== document.body) {
      return;
    }
    const panel = document.getElementById(last.panel);
    const alike = panel
      && [...panel.querySelectorAll(last.element.tagName)].find((each) => name(each) === last.name);
    if (alike) {
      alike.focus({ preventScroll: true });
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
