/* What happens in the browser alone. */
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  sluiceway: {
    /* What every panel depends on: it changes with each refresh, and never for a hidden page. */
    look: function (ticks, clicks, scheme, before) {
      // The toggle says "light" until it knows better; the page's own mark is right from the start.
      const mark = document.documentElement.getAttribute("data-mantine-color-scheme");
      const dark = (mark || scheme) === "dark";
      if (before && before.dark === dark && document.hidden) {
        return window.dash_clientside.no_update;
      }
      let zone = "UTC";
      try {
        zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
      } catch (error) {
        console.warn("This browser does not say its time zone: UTC is shown.", error);
      }
      return { zone: zone, dark: dark, look: (before ? before.look : 0) + 1 };
    },

    setClock: function (seconds) {
      const wanted = Number(seconds);
      return [Math.max(1, wanted) * 1000, wanted === 0];
    },

    toggleNavigation: function (opened, pathname, navbar) {
      const triggered = window.dash_clientside.callback_context.triggered;
      const navigated = triggered.some((each) => each.prop_id.startsWith("_pages_location"));
      const open = Boolean(opened) && !navigated;
      return [Object.assign({}, navbar, { collapsed: { mobile: !open } }), open];
    },

    /* Filters stand in the address without a new page being asked for. The last value is the list
       of the parameters' names, in the order of the values before it. */
    writeAddress: function (...values) {
      const names = values.pop();
      const parameters = new URLSearchParams(window.location.search);
      names.forEach((name, place) => {
        const value = values[place];
        if (value === null || value === undefined || value === "" || value.length === 0) {
          parameters.delete(name);
        } else {
          parameters.set(name, Array.isArray(value) ? value.join(",") : String(value));
        }
      });
      const search = parameters.toString();
      const address = window.location.pathname + (search ? "?" + search : "");
      window.history.replaceState(window.history.state, "", address);
      return window.dash_clientside.no_update;
    },
  },
});
