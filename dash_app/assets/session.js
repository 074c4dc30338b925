/* A session that is over: the page leads to the login, and back to itself from there. */
(function () {
  const ask = window.fetch;
  window.fetch = async function (...given) {
    const answer = await ask.apply(window, given);
    if (answer.status !== 401 || new URL(answer.url).origin !== window.location.origin) {
      return answer;
    }
    const here = window.location.pathname + window.location.search;
    window.location.replace("/login?next=" + encodeURIComponent(here));
    /* The page is left: whoever waits for this answer waits no more. */
    return new Promise(() => {});
  };
})();
