# ruff: noqa: INP001, S603 - a script of its own, which runs what it names
"""Look the installed dependencies up in the list of known vulnerabilities: `make audit`.

pip-audit runs in an environment of its own (.venv-audit), so that it audits what is installed and not itself. By
itself it calls what it could not look up "no known vulnerabilities found"; here that is a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OWN = ROOT / ".venv-audit"
TOOL = "pip-audit>=2.9"
CLEAN, VULNERABLE, NOT_DONE = 0, 1, 2


def judge(document: dict[str, Any]) -> tuple[int, list[str]]:
    """What pip-audit's answer comes to, in sentences, and the exit status."""
    packages = document["dependencies"]
    known = [(one, fault) for one in packages for fault in one.get("vulns", ())]
    lines = [
        f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none yet'}"
        for one, fault in known
    ]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped:
        lines.append(
            f"{len(skipped)} of {len(packages)} packages could not be looked up ({', '.join(skipped[:5])} ...): "
            "the index here does not say what is vulnerable. Run this where https://pypi.org can be reached."
        )
    if known:
        return VULNERABLE, lines
    if skipped or not packages:
        return NOT_DONE, lines or ["There was nothing to look up; install first: make install."]
    return CLEAN, [f"{len(packages)} packages, and no known vulnerability in any of them."]


def main(arguments: list[str]) -> int:
    """Audit what is installed beside this interpreter, or what a requirements file names."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(arguments[0]) if arguments else _installed(Path(folder) / "installed.txt")
        answer = subprocess.run(
            [
                _tool(),
                *("--requirement", wanted, "--no-deps", "--disable-pip", "--progress-spinner", "off"),
                *("--format", "json"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        status, lines = judge(json.loads(answer.stdout))
    except ValueError:
        last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        status, lines = NOT_DONE, [f"The list of known vulnerabilities can't be reached from here: {last[0]}"]
    if status == NOT_DONE:
        lines.append("Nothing is known of these dependencies: the audit was NOT done.")
    (sys.stderr if status else sys.stdout).write("\n".join(lines) + "\n")
    return status


def _installed(file: Path) -> Path:
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    listed = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    # What was installed from a file or an address has no place in an index.
    file.write_text("\n".join(line for line in listed.splitlines() if "==" in line))
    return file


def _tool() -> Path:
    tool = OWN / "bin" / "pip-audit"
    if not tool.exists():
        venv.create(OWN, with_pip=True)
        subprocess.run([OWN / "bin" / "python", "-m", "pip", "install", "--quiet", TOOL], check=True)
    return tool


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
