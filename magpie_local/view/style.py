"""The style sheet of all views, and the signs of states as drawings.

Every rule is scoped by one class, which changes with the rules: a saved notebook may hold outputs of several versions.
Colours are JupyterLab's, or VS Code's, or a page's light or dark ones. Whatever has a hue of its own is mixed with the
text colour, which makes it darker on light themes and lighter on dark ones: one palette can be read on all of them.
"""

from __future__ import annotations

import re

from magpie_local.view.words import Look

SCOPE = "magpie-1"

#: Of the 16 terminal colours, black and the whites are the page's own text colour, more or less of it.
_HUES = {
    1: "#d1242f", 2: "#1a9b45", 3: "#b08000", 4: "#2f6feb", 5: "#a347d1", 6: "#0d8f9c", 8: "#7d8590",
    9: "#f0464f", 10: "#2bb05a", 11: "#c99a10", 12: "#5590f5", 13: "#bf66e8", 14: "#1fa9b8",
}  # fmt: skip
_STATES = {
    Look.WAITS: "#8b7500", Look.RUNS: "#2f6feb", Look.WELL: "#1a9b45", Look.BADLY: "#d1242f",
    Look.STOPPED: "#7d8590", Look.UNKNOWN: "#a347d1",
}  # fmt: skip

#: Of every view: its frame, head, sentences and foot.
_FRAME = """
.S{--ink:#1f2328;--page:#fff;--fg:var(--jp-content-font-color1,var(--vscode-editor-foreground,var(--ink)));
--bg:var(--jp-layout-color0,var(--vscode-editor-background,var(--page)));
--soft:color-mix(in srgb,var(--fg) 70%,var(--bg));--line:color-mix(in srgb,var(--fg) 16%,var(--bg));
--pane:color-mix(in srgb,var(--fg) 4%,var(--bg));
--mono:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);
color:var(--fg);background:var(--bg);border:1px solid var(--line);border-radius:6px;overflow:hidden;margin:4px 0;
font:13px/20px var(--jp-ui-font-family,system-ui,sans-serif)}
@media(prefers-color-scheme:dark){.S{--ink:#e6edf3;--page:#0d1117}}
.S .mh,.S .mm,.S .mf{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:center;padding:6px 12px}
.S .mh{padding-bottom:0}
.S .mk{display:inline-flex;gap:6px;align-items:center;font-weight:600;white-space:nowrap}
.S .mh .mk{min-width:112px}
.S .mi{width:14px;height:14px;flex:none}
.S .mn{font-weight:600;overflow-wrap:anywhere;min-width:0}
.S code:nth-child(n){font:12px/20px var(--mono);color:inherit;background:none;padding:0;border:0;white-space:inherit}
.S .mt{margin-left:auto;font-variant-numeric:tabular-nums}
.S .md,.S .mm,.S .mf{color:var(--soft);font-size:12px}
.S .md,.S .mo{padding:0 12px 6px;overflow-wrap:anywhere}
.S .mf{border-top:1px solid var(--line);padding:4px 12px}
.S .mf code{user-select:all;overflow-wrap:anywhere}
.S .mk{color:color-mix(in srgb,var(--c) 72%,var(--fg))}
"""
#: Of output and curves.
_LOG = """
.S .mm{padding-top:0;gap:2px 24px}
.S .mg{display:inline-flex;gap:8px;align-items:center}
.S .mg b{font-weight:400;color:var(--fg);font-variant-numeric:tabular-nums;min-width:72px}
.S .ms{width:auto;height:20px;max-width:none;vertical-align:middle}
.S .ml{display:flex;flex-direction:column-reverse;max-height:368px;overflow:auto;background:var(--pane);
border-top:1px solid var(--line)}
.S .ml:focus-visible{outline:2px solid var(--jp-brand-color1,#2f6feb);outline-offset:-2px}
.S .ml pre{flex:none;overflow:visible;margin:0;padding:8px 12px;font:12px/18px var(--mono);color:var(--fg);
background:none;border:0;white-space:pre-wrap;overflow-wrap:anywhere;tab-size:8;direction:ltr}
.S pre .e,.S pre .n{display:block;margin-left:-12px;padding-left:9px;border-left:3px solid}
.S pre .e{border-color:color-mix(in srgb,#d1242f 80%,var(--fg))}
.S pre .n{border-color:color-mix(in srgb,var(--fg) 45%,var(--bg));color:var(--soft);font-style:italic}
@media print{.S .ml{max-height:none}}
"""
#: Of output with colours (ansi.py).
_COLOURS = """
.S .ax{color:color-mix(in srgb,var(--c) 60%,var(--fg))}
.S .ab{font-weight:700}.S .ad{opacity:.72}.S .ai{font-style:italic}.S .au{text-decoration:underline}
.S .as{text-decoration:line-through}.S .au.as{text-decoration:underline line-through}
.S .av{color:var(--bg);background:var(--fg)}
.S .a0,.S .a7,.S .a15{--c:var(--fg)}
"""
_TABLE = """
.S table{border-collapse:collapse;margin:0;font-size:12px;width:100%;table-layout:auto;border:0}
.S .mw{overflow-x:auto}
.S table.mb tr:nth-child(n){background:none}
.S table.mb th,.S table.mb td{text-align:left;padding:4px 12px;white-space:nowrap;max-width:none;border:0;
line-height:20px;border-top:1px solid var(--line);vertical-align:top}
.S table.mb thead th{color:var(--soft);font-weight:600;border-top:0;background:var(--pane)}
.S table.mb td.q,.S table.mb thead th.q{text-align:right;font-variant-numeric:tabular-nums}
.S table.mb tbody th{font-weight:400}
.S table.mb td:last-child{white-space:normal;color:var(--soft);width:99%}
"""
#: What stands in the circle of a state: a clock's hands, a dot, a tick, a cross, a square, a question mark.
_DRAWINGS = {
    Look.WAITS: "<path d='M8 4.5V8l2.3 1.6'/>",
    Look.RUNS: "<circle cx='8' cy='8' r='3' fill='currentColor' stroke='none'/>",
    Look.WELL: "<path d='m4.9 8.2 2.2 2.2 4-4.6'/>",
    Look.BADLY: "<path d='m5.6 5.6 4.8 4.8m0-4.8-4.8 4.8'/>",
    Look.STOPPED: "<rect x='5.5' y='5.5' width='5' height='5' fill='currentColor' stroke='none'/>",
    Look.UNKNOWN: "<path d='M6.2 6.4a1.8 1.8 0 1 1 2.6 1.7c-.6.3-.8.6-.8 1.2m0 1.9v.1'/>",
}


def _block(*rules: str) -> str:
    lines = "".join(line for part in rules for line in part.splitlines())
    return f"<style>{_SCOPED.sub(f'.{SCOPE}', lines)}</style>"


_SCOPED = re.compile(r"\.S\b")
_HUE_RULES = "".join(f".S .a{number}{{--c:{hue}}}" for number, hue in _HUES.items())
_STATE_RULES = "".join(f".S .m-{state}{{--c:{hue}}}" for state, hue in _STATES.items())
#: The one style block that a view carries: of jobs, of jobs whose output has colours, and of lists.
JOB_STYLE = _block(_FRAME, _STATE_RULES, _LOG)
COLOURED_JOB_STYLE = _block(_FRAME, _STATE_RULES, _LOG, _COLOURS, _HUE_RULES)
LIST_STYLE = _block(_FRAME, _STATE_RULES, _TABLE)


def sign(look: Look) -> str:
    """Return the drawing of a state; the word beside it tells the same, so readers of screens pass over it."""
    return (
        "<svg class='mi' viewBox='0 0 16 16' aria-hidden='true' fill='none' stroke='currentColor' stroke-width='1.5' "
        f"stroke-linecap='round'><circle cx='8' cy='8' r='6.5'/>{_DRAWINGS[look]}</svg>"
    )


def framed(style: str, body: str, label: str) -> str:
    """Return a view whole: its style block and its body, named `label` (escaped) for readers of screens."""
    return f"<div class='{SCOPE}' role='group' aria-label='{label}'>{style}{body}</div>"
