"""What the site takes from the code and the records when it is built, so that it cannot go stale.

    reference/commands.md    every command and option, from the dataclasses that the command line reads
    benchmarks/*.md          every record of benchmarks/results with its figure, and the notes
    design/*.md              CONTRIBUTING.md, CHANGELOG.md and SECURITY.md
    <!-- code: NAME -->      in any page: one of `SNIPPETS`, or a file of the repository

mkdocs calls the functions that begin with `on_`.
"""

from __future__ import annotations

import ast
import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from launch import originals  # noqa: E402
from launch.fields import Option, help_of  # noqa: E402
from launch.help import METAVARS, by_theme, default_of, usage  # noqa: E402
from launch.options import COMMANDS, EXAMPLES  # noqa: E402
from launch.recipes import recipes  # noqa: E402

PACKAGES = ("partition", "bnsgcn", "launch")
RESULTS = ROOT / "benchmarks" / "results"
COPIED = {"design/contributing.md": "CONTRIBUTING.md", "design/changelog.md": "CHANGELOG.md"}
COPIED |= {"design/security.md": "SECURITY.md"}
SNIPPET = re.compile(r"<!-- code: (\S+) -->")
FAILURES = ("UserError", "WorkerFailure", "NonFiniteLoss")


# ---- the command line ----


def commands_page() -> str:
    """Every command with its options, defaults and examples."""
    lines = [
        "# Command line",
        "",
        "Made from the code when this site is built; `bnsgcn COMMAND --help` says the same.",
        "",
        "| command | |",
        "|---|---|",
        *(f"| [`{name}`](#bnsgcn-{name}) | {kind.__doc__} |" for name, kind in COMMANDS.items()),
        "",
        "Options may be written with underscores for dashes; a mistake ends with status 2 and one line. "
        "Under torchrun the entry is `python -m launch.train`, with the options of `train`.",
    ]
    for name, kind in COMMANDS.items():
        lines += ["", f"## `bnsgcn {name}` {{ #bnsgcn-{name} }}", "", str(kind.__doc__), ""]
        lines += ["```text", usage(name).removeprefix("usage: "), "```"]
        texts = help_of(kind)
        for theme, options in by_theme(kind).items():
            lines += ["", f"### {theme} {{ #{name}-{theme} }}", "", "| name | |", "|---|---|"]
            lines += [_row(name, option, texts) for option in options]
        lines += ["", "```bash", *EXAMPLES[name], "```"]
    return "\n".join(lines) + "\n"


def _row(command: str, option: Option, texts: dict[str, str]) -> str:
    name = option.name.replace("--", "--[no-]") if option.negatable else option.name
    value = "" if option.kind is bool or option.positional else f" {METAVARS[option.kind]}"
    anchor = f"<span id='{command}-{option.field.replace('_', '-')}'></span>"
    text = html.escape(texts.get(option.field, ""), quote=False).replace("|", "&#124;")
    if option.choices:
        text += " One of " + ", ".join(f"`{choice}`" for choice in option.choices) + "."
    shown = html.escape(name, quote=False).replace("|", "&#124;")
    return f"| {anchor}<code>{shown}{value}</code> | {f'{text} {default_of(option)}'.strip()} |"


# ---- messages ----


def messages() -> str:
    """Every message of a mistake or a failure, by the module that says it; what varies is in italics."""
    lines = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            said = dict.fromkeys(_messages(tree))
            found = [each for each in said if re.search("[a-z]{3}", re.sub("<var>.*?</var>", "", each))]
            if found:
                head = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
                lines += ["", f"**`{path.relative_to(ROOT)}`** {_text(head.replace('`', ''))}", ""]
                lines += [f"- {message}" for message in found]
    return "\n".join(lines)


def _messages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in FAILURES and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
            yield _message(node.args[0])


def _message(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return _text(str(node.value))
    assert isinstance(node, ast.JoinedStr)
    pieces = []
    for piece in node.values:
        if isinstance(piece, ast.Constant):
            pieces.append(_text(str(piece.value)))
        elif isinstance(piece, ast.FormattedValue):
            said = ast.unparse(piece.value)
            if re.match(r"_?near(est)?\(", said):
                pieces.append("; did you mean <var>another</var>?")
                continue
            name = re.findall(r"[A-Za-z_]+", said)
            pieces.append(f"<var>{name[-1].strip('_').replace('_', ' ') if name else '…'}</var>")
    return "".join(pieces)


def _text(words: str) -> str:
    """Words in Markdown that nothing in them formats."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", lambda found: f"&#{ord(found[0])};", words)


# ---- snippets ----


def recipes_table() -> str:
    """The recipes with the first line of each."""
    rows = ["| recipe | |", "|---|---|"]
    for name, path in recipes().items():
        first = next(line for line in path.read_text().splitlines() if re.match(r"# \w", line))
        rows.append(f"| `{name}` | {first.removeprefix('# ').rstrip(':')} |")
    return "\n".join(rows)


SNIPPETS = {"originals": originals.table, "messages": messages, "recipes": recipes_table}
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".sbatch": "bash", ".yaml": "yaml"}


def snippet(name: str) -> str:
    """What stands for `<!-- code: NAME -->`: one of `SNIPPETS`, or a file of the repository as a block."""
    if name in SNIPPETS:
        return SNIPPETS[name]()
    path = ROOT / name
    language = LANGUAGES.get(path.suffix, "docker" if path.name == "Dockerfile" else "text")
    return f"```{language}\n{path.read_text(encoding='utf-8').rstrip()}\n```"


# ---- records ----


def records() -> list[Path]:
    """The tables of benchmarks/results."""
    return sorted(RESULTS.glob("*.md"))


def claim(record: Path) -> str:
    """The sentence of a record."""
    found = re.search(r"^\*\*(.+?)\*\*", record.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def benchmarks_page() -> str:
    """benchmarks/README.md, then all records with their sentences and figures."""
    lines = [(ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"), "", "## Records", ""]
    lines += [f"- [{record.stem}]({record.name}): {claim(record)}" for record in records()]
    lines += ["- [notes](notes.md): what was tried, kept and dropped"]
    for record in records():
        if record.with_suffix(".png").exists():
            lines += ["", f"### {record.stem}", "", claim(record), ""]
            lines += [f"[![{record.stem}]({record.stem}.png)]({record.name})"]
    return "\n".join(lines) + "\n"


# ---- mkdocs ----


def on_config(config: Any) -> Any:
    """Put the records into the navigation."""
    pages = ["benchmarks/index.md", "benchmarks/notes.md"]
    pages += [f"benchmarks/{record.name}" for record in records()]
    for section in config.nav:
        if "Benchmarks" in section:
            section["Benchmarks"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and figures that are made or copied."""
    from mkdocs.structure.files import File

    def copied(path: Path) -> str:
        return path.read_text(encoding="utf-8")

    pages = {"reference/commands.md": commands_page(), "benchmarks/index.md": benchmarks_page()}
    pages |= {page: copied(ROOT / name) for page, name in COPIED.items()}
    pages["benchmarks/notes.md"] = copied(ROOT / "benchmarks" / "NOTES.md")
    pages |= {f"benchmarks/{record.name}": copied(record) for record in records()}
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    for figure in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"benchmarks/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the snippets."""
    return SNIPPET.sub(lambda found: snippet(found[1]), markdown)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Formulas as MathML, drawn pictures inline, so that both follow the page's colours without a network."""
    content = re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _formula, content, flags=re.DOTALL)
    return re.sub(r'<p><img alt="([^"]*)" src="[^"]*pictures/(\w+\.svg)"\s*/?></p>', _picture, content)


def _formula(found: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    text = html.unescape(found[2]).strip()
    display = "block" if found[1] == "div" else "inline"
    return convert(
        text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]"), display=display
    )


def _picture(found: re.Match[str]) -> str:
    drawing = (ROOT / "docs" / "pictures" / found[2]).read_text(encoding="utf-8")
    return f'<figure class="drawn" role="img" aria-label="{found[1]}">{drawing}</figure>'
