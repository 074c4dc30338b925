"""The page to log in on: no script, nothing loaded from anywhere, not even from here."""

from html import escape

from dash_app.access.headers import script_hash

_STYLE = """
:root { color-scheme: light dark; --ink: #212529; --back: #f1f3f5; --card: #fff; --line: #767d85;
  --button: #087f5b; --on-button: #fff; --bad: #c92a2a; --focus: #1864ab; }
@media (prefers-color-scheme: dark) { :root { --ink: #dee2e6; --back: #1a1b1e; --card: #25262b;
  --line: #868e96; --button: #63e6be; --on-button: #1a1b1e; --bad: #ff8787; --focus: #74c0fc; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px;
  background: var(--back); color: var(--ink);
  font: 16px/1.5 Inter, system-ui, -apple-system, "Segoe UI", sans-serif; }
main { width: 100%; max-width: 360px; padding: 24px; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
h1 { margin: 0 0 16px; font-size: 22px; }
label { display: block; margin-top: 12px; font-weight: 600; }
input, button { width: 100%; min-height: 44px; padding: 8px 12px; font: inherit;
  border: 1px solid var(--line); border-radius: 6px; }
input { background: var(--card); color: var(--ink); }
button { margin-top: 20px; border: 0; background: var(--button); color: var(--on-button);
  font-weight: 600; cursor: pointer; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.problem { margin: 0; padding: 8px 12px; border: 1px solid var(--bad); border-radius: 6px; }
.problem span { color: var(--bad); font-weight: 700; }
"""

LOGIN_POLICY = (
    f"default-src 'none'; style-src {script_hash(_STYLE)}; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>Log in to Sluiceway</h1>
{problem}<form method="post" action="/login">
<label for="name">Name</label>
<input id="name" name="name" value="{name}" autocomplete="username" autocapitalize="none"
  spellcheck="false" required maxlength="100"{at_name}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password"
  required{at_password}>
<input type="hidden" name="next" value="{then}">
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""
_PROBLEM = '<p class="problem" id="problem" role="alert"><span aria-hidden="true">✕ </span>{}</p>\n'
# Who cannot see the problem hears it with the field that the page opens on.
_ON_THIS = " autofocus"
_AFTER_A_PROBLEM = ' aria-describedby="problem" autofocus'


def login_page(*, then: str, name: str = "", problem: str = "") -> str:
    """Return the page; then: where to be led on to, problem: a sentence on the last try."""
    return _PAGE.format(
        title="Not logged in · Sluiceway" if problem else "Log in · Sluiceway",
        style=_STYLE,
        problem=_PROBLEM.format(escape(problem)) if problem else "",
        name=escape(name),
        at_name="" if problem else _ON_THIS,
        at_password=_AFTER_A_PROBLEM if problem else "",
        then=escape(then),
    )
