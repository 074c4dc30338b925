/* Long tables: ag-grids that ask the server for a page of rows at a time (infinite row model).

   Pages do not call this file: `dash_app/grids.py` does. Its `long_table(name, columns, …)` returns
   the table, and its `register(panels, name, columns, fetch, *filters)` connects it:
   - when a filter changes, `grids.renew` goes to the first page and forgets all rows: cached ones
     would stay unfiltered;
   - when the view changes (a refresh), it asks again for the pages in the cache, in place: page,
     scroll and focus stay. While the viewer is on another page or has scrolled, the request says
     `held`, and the server answers as of the moment when the top was last shown, so that new rows
     do not push away what is being read;
   - when an answer failed or never came, `grids.giveUp` lets the grid ask again: ag-grid itself
     would wait for ever.

   A cell's value is text or a number, or an object {text, title, href, glyph, colour}: `title` is
   shown on hover, `href` makes a link (own pages only), `glyph` stands before the text. All of it
   is set as text, never as markup. Enter on a cell follows the link in it. */
(function () {
  const PATIENCE_MS = 15000;
  const COUNTED = 10000;
  const asked = {};

  function find(name) {
    try {
      return window.dash_ag_grid.getApi(name);
    } catch (error) {
      return undefined; // the grid's own code is not loaded yet
    }
  }

  function isWaiting(api) {
    const blocks = Object.values(api.getCacheBlockState() || {});
    return blocks.some((block) => block.pageStatus === "loading");
  }

  function isHeld(api) {
    return api.paginationGetCurrentPage() > 0 || api.getVerticalPixelRange().top > 0;
  }

  /* Whether an answer is still to be waited for. */
  function isUnderWay(name, api, request) {
    if (!isWaiting(api)) {
      delete asked[name];
      return false;
    }
    if (!asked[name] || asked[name].request !== request) {
      asked[name] = { request: request, since: Date.now() };
    }
    if (Date.now() - asked[name].since < PATIENCE_MS) {
      return true;
    }
    delete asked[name];
    request.failCallback();
    return false;
  }

  function hold(api, held) {
    const context = Object.assign({}, api.getGridOption("context"), { held: held });
    api.setGridOption("context", context);
  }

  function go(event, href) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) {
      return;
    }
    event.preventDefault();
    window.history.pushState({}, "", href);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    window.scrollTo(0, 0);
  }

  /* Grids are as light or dark as everything else. */
  function dress() {
    const scheme = document.documentElement.getAttribute("data-mantine-color-scheme");
    document.documentElement.setAttribute("data-ag-theme-mode", scheme === "dark" ? "dark" : "light");
  }
  new MutationObserver(dress).observe(document.documentElement, {
    attributeFilter: ["data-mantine-color-scheme"],
  });
  dress();

  /* Links that need a label of their own, which Dash's do not take: `html.A` with this class stays
     within the application all the same. */
  document.addEventListener("click", (event) => {
    const link = event.target.closest ? event.target.closest("a.in-app") : null;
    if (link) {
      go(event, link.getAttribute("href"));
    }
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    grids: {
      /* view, each filter, the grid's last request, the grid's id */
      renew: function (view, ...rest) {
        const noUpdate = window.dash_clientside.no_update;
        const name = rest.pop();
        const request = rest.pop();
        const api = find(name);
        if (!api) {
          return noUpdate;
        }
        const triggered = window.dash_clientside.callback_context.triggered;
        if (triggered.some((each) => !each.prop_id.startsWith("view."))) {
          hold(api, false);
          api.paginationGoToFirstPage();
          if (api.getDisplayedRowCount() > 0) {
            api.ensureIndexVisible(0, "top");
          }
          api.purgeInfiniteCache();
        } else if (!isUnderWay(name, api, request)) {
          hold(api, isHeld(api));
          api.refreshInfiniteCache();
        }
        return noUpdate;
      },

      /* what the server remembers, the grid's last request */
      giveUp: function (memory, request) {
        if (memory && memory.failed && request && request.failCallback) {
          request.failCallback();
        }
        return window.dash_clientside.no_update;
      },
    },
  });

  window.dashAgGridFunctions = Object.assign({}, window.dashAgGridFunctions, {
    formatCount: function (params) {
      return params.value.toLocaleString("en") + (params.value >= COUNTED ? "+" : "");
    },
    leaveGrid: function () {
      return false;
    },
    nameGrid: function (params) {
      params.api.setGridAriaProperty("label", params.api.getGridOption("context").label);
    },
    followLink: function (params) {
      const link = params.event.target.querySelector && params.event.target.querySelector("a[href]");
      if (params.event.key === "Enter" && link) {
        link.click();
      }
    },
  });

  window.dashAgGridComponentFunctions = Object.assign({}, window.dashAgGridComponentFunctions, {
    SluicewayCell: function (props) {
      const make = window.React.createElement;
      const value = props.value;
      if (value === null || value === undefined) {
        return null;
      }
      if (typeof value !== "object") {
        return make("span", null, String(value));
      }
      const glyph = value.glyph
        ? make("span", { className: "glyph", "aria-hidden": "true" }, value.glyph + " ")
        : null;
      const look = { title: value.title, className: value.colour };
      if (typeof value.href === "string" && /^\/(?![/\\])/.test(value.href)) {
        look.className = "link";
        look.href = value.href;
        look.onClick = (event) => go(event, value.href);
        return make("a", look, glyph, String(value.text));
      }
      return make("span", look, glyph, String(value.text));
    },
  });
})();
