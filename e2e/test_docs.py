"""The documents say what is there: links lead somewhere, named tests exist, and shown commands are taken."""

import functools
import os
import re
import shlex
from pathlib import Path

import pytest

from dev import PROGRAMS
from system import run

ROOT = Path(__file__).parent.parent
NOT_OURS = {"target", ".git", "node_modules"}


def files(*suffixes):
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - NOT_OURS)
        yield from (Path(folder) / name for name in sorted(names) if name.endswith(suffixes))


DOCUMENTS = list(files(".md"))
# Documents whose words in code with at least two underscores are names of tests.
NAMING_TESTS = ["threat-model.md", "past-vulnerabilities.md"]


def name(document):
    return str(document.relative_to(ROOT))


def without_fences(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@functools.cache
def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", without_fences(document.read_text()), re.MULTILINE):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        again = sum(slug == other or re.fullmatch(rf"{re.escape(slug)}-\d+", other) is not None for other in found)
        found.add(f"{slug}-{again}" if again else slug)
    return found


def dead_links(document):
    text = re.sub(r"`[^`\n]*`", "", without_fences(document.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document):
    assert list(dead_links(document)) == []


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_named_tests_exist():
    code = "".join(file.read_text() for file in files(".rs", ".py"))
    there = set(re.findall(r"\b(?:fn|def) (\w+)", code))
    named = set()
    for document in NAMING_TESTS:
        named |= set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", (ROOT / "docs" / document).read_text()))
    assert len(named) > 50
    assert named - there == set()


@functools.cache
def help_of(*words):
    done = run(PROGRAMS / words[0], *words[1:], "--help", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands_of(help_text):
    section = re.search(r"^Commands:\n((?:  .*\n)+)", help_text, re.MULTILINE)
    return set(re.findall(r"^  ([a-z][a-z-]*)", section[1], re.MULTILINE)) if section else set()


def words_of(line):
    """The words of a command, up to where a shell or a reader would stop."""
    line = re.split(r"\s(?:\||>|&|#|;)|…", line.removeprefix("$ ").removeprefix("sudo "))[0]
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def shown(document):
    """The commands of ours that a document shows, in blocks and within lines."""
    text = document.read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", without_fences(text))
    for line in lines:
        words = words_of(line)
        # A line that an anchor signs begins like a command of ours.
        if words[1:2] == ["signer"]:
            continue
        if words and words[0] in ("instance-connect", "instance-connectd", "instance-connect-agent", "instance-connect-console"):
            yield words


def mistake(words):
    """What is wrong with a command, if anything."""
    known, rest = [words[0]], words[1:]
    while commands := commands_of(help_of(*known)):
        if not rest or rest[0].startswith("-"):
            break
        # `user suspend|activate` shows two.
        unknown = set(rest[0].split("|")) - commands
        if unknown:
            return f"{' '.join(known)} has no {', '.join(sorted(unknown))}"
        known.append(rest.pop(0).split("|")[0])
    flags = [re.match(r"--[a-z-]+", word)[0] for word in rest if re.match(r"--[a-z]", word)]
    missing = [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", help_of(*known))]
    return f"{' '.join(known)} has no {', '.join(missing)}" if missing else None


def test_shown_commands_are_taken():
    seen, mistakes = 0, []
    for document in DOCUMENTS:
        for words in shown(document):
            seen += 1
            if wrong := mistake(words):
                mistakes.append(f"{name(document)}: {wrong}")
    assert seen > 80
    assert mistakes == []


def test_the_check_of_commands_finds_mistakes():
    for words, wrong in [
        ("instance-connect user create alice --tag team=web", None),
        ("instance-connect user make alice", "instance-connect user has no make"),
        ("instance-connect user create alice --tags team=web", "instance-connect user create has no --tags"),
        ("instance-connectd serve --public-listen=127.0.0.1:0", None),
        ("instance-connectd run", "instance-connectd has no run"),
    ]:
        assert mistake(words.split()) == wrong
