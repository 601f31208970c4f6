"""What both READMEs say: the same commands and code in both, figures from the record, and names that exist."""

import json
import re

import pytest

from tests.docs.readme import CHINESE, README, ROOT, code, commands
from tests.test_docs import TARGETS, is_command
from workbench.cli.commands import app, main
from workbench.datasets import published

PAGES = [README, CHINESE]
GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("index", "own_model", "gpu_host", "serving", "article", "exam")]


def test_both_readmes_have_the_same_commands_and_the_same_code():
    assert commands(README) == commands(CHINESE)
    assert code(README) == code(CHINESE)
    assert len(commands(README)) > 10


def test_both_readmes_have_the_same_sections_tables_and_figures():
    english, chinese = (page.read_text() for page in PAGES)
    for pattern in (r"^## ", r"^\| ", r"^!\["):
        assert len(re.findall(pattern, english, re.M)) == len(re.findall(pattern, chinese, re.M)), pattern
    figures = re.compile(r"(?<![\w.])\d[\d,.]*\d(?!\w)", re.ASCII)  # letters of Chinese are no part of a number
    prose = [re.sub(r"<!-- study.*?/study -->", "", text, flags=re.S) for text in (english, chinese)]
    assert sorted(figures.findall(prose[0])) == sorted(figures.findall(prose[1]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_table_of_a_readme_is_what_its_record_says(page):
    import make

    record = json.loads(make.RECORD.read_text())
    assert make.with_table(page.read_text(), page.name, record) == page.read_text()
    assert make.SCREENSHOT.is_file()
    assert make.CHART.is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_figure_about_a_gpu_is_what_the_recorded_run_says(page):
    import gpu_table

    import workbench

    assert gpu_table.with_table(page.read_text(), page.name, workbench.recorded()) == page.read_text()


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.name)
def test_what_a_page_links_to_and_the_commands_and_names_it_mentions_exist(page):
    import workbench

    text = page.read_text()
    generated = {"troubleshooting.md", "commands.md", "reference/index.md"}
    generated |= {f"tutorial/{path.stem}.md" for path in ROOT.glob("notebooks/*.ipynb")}
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)]
    assert [link for link in links if link not in generated and not (page.parent / link).exists()] == []
    spans = re.findall(r"`((?:make|workbench) [^`\n]+)`", text)
    assert [span for span in spans if "COMMAND" not in span and not is_command(span)] == []
    assert [name for name in re.findall(r"\bwb\.(\w+)", text) if not hasattr(workbench, name)] == []
    assert all(word in TARGETS for word in re.findall(r"`make ([a-z-]+)`", text))


def test_the_readme_names_the_extra_the_environment_and_the_scripts_that_there_are():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        text = page.read_text()
        for extra in re.findall(r"vit-workbench\[(\w+)\]", text):
            assert extra in project["optional-dependencies"]
        for path in re.findall(r"python (benchmarks/\w+\.py)|conda env create -f (\S+?)`", text):
            assert (ROOT / next(filter(None, path))).is_file()


def test_fetch_commands_of_the_readme_download(server, monkeypatch, tmp_path, capsys):
    from hashlib import md5

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    address = (f"{server.url}cifar-10-binary.tar.gz", md5(server.content).hexdigest())
    monkeypatch.setitem(published.IMAGES, "cifar10", address)
    monkeypatch.setattr(published.fetch_checkpoint, "__kwdefaults__", {"base_url": server.url})
    for words in re.findall(r"`workbench (fetch-\w+ [\w/]+)`", README.read_text()):
        assert main(words.split()) == 0
        assert (tmp_path / "vit-workbench") in _parents(capsys.readouterr().out.strip())
    assert len(server.asked) == 2


def _parents(path: str):
    from pathlib import Path

    assert Path(path).is_file()
    return Path(path).parents


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_is_in_both_readmes_in_the_sites_list_and_in_the_tutorials_index(path):
    assert all(f"| `{path.stem}` |" in page.read_text() for page in PAGES)
    assert f"- tutorial/{path.stem}.md" in (ROOT / "mkdocs.yml").read_text()
    assert f"]({path.stem}.md)" in (ROOT / "docs" / "tutorial" / "index.md").read_text()


def test_the_readme_names_every_command():
    assert all(name in README.read_text() for name in app if not name.startswith("-"))
