"""The whole site, strictly: every link and anchor leads somewhere, and every docstring can be read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: In place of the hook that executes the notebooks: their pages without outputs, which have the same headings.
UNEXECUTED = f"""
import sys
from pathlib import Path
from mkdocs.structure.files import File
sys.path.insert(0, {str(ROOT / "docs" / "hooks")!r})
from notebooks import rendered

def on_files(files, config):
    for path in Path({str(ROOT / "notebooks")!r}).glob("*.ipynb"):
        name = f"{{path.stem}}.md"
        files.append(File.generated(config, f"tutorial/{{name}}", content=rendered(path)[name]))
    return files
"""


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path):
    hook, config = tmp_path / "unexecuted.py", tmp_path / "mkdocs.yml"
    hook.write_text(UNEXECUTED)
    text = (ROOT / "mkdocs.yml").read_text()
    replaced = {
        "docs_dir: docs": f"docs_dir: {ROOT / 'docs'}",
        "- docs/hooks/notebooks.py": f"- {hook}",
        "- docs/hooks/": f"- {ROOT}/docs/hooks/",
        "paths: [.]": f"paths: [{ROOT}]",
    }
    for given, here in replaced.items():
        assert given in text
        text = text.replace(given, here)
    config.write_text(text)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", config]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    pages = [path.stem for path in ROOT.glob("docs/*.md")] + ["troubleshooting", "commands", "reference/graphs"]
    pages += [f"tutorial/{path.stem}" for path in ROOT.glob("notebooks/*.ipynb")]
    assert [name for name in pages if name != "index" and not (site / name / "index.html").is_file()] == []
    assert "fonts.googleapis" not in (site / "index.html").read_text()
