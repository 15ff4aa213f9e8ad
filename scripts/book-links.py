#!/usr/bin/env python3
"""Checks links and anchors of the book in a folder, and of the repository's Markdown files.

Nothing that a page loads may come from outside the book. Links to this repository on GitHub
must lead to something in the working tree; other links to the outside are not followed.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

REPOSITORY = "https://github.com/srfilter/srfilter"
# By these attributes, elements other than `a` load something.
LOADS = ["src", "srcset", "href", "xlink:href", "poster", "data", "action"]
CSS_URL = re.compile(r"""url\(\s*["']?([^"')]*)|@import\s+["']([^"']*)""")


def css_urls(text):
    return [url or imported for url, imported in CSS_URL.findall(text)]


class Page:
    """A page's anchors, where its links lead, and what it loads."""

    def __init__(self, html):
        soup = BeautifulSoup(html, "html.parser")
        self.headings = [tag.get_text() for tag in soup.find_all(re.compile("^h[1-6]$"))]
        self.anchors = {tag["id"] for tag in soup.find_all(id=True)}
        self.links = [tag["href"] for tag in soup.find_all("a", href=True)]
        self.loads = []
        for name in LOADS:
            for tag in soup.find_all(lambda tag: tag.name != "a" and tag.has_attr(name)):
                # A srcset has several, each with a size.
                parts = tag[name].split(",") if name == "srcset" else [tag[name]]
                self.loads += [part.split()[0] for part in parts if part.strip()]
        styles = [tag.get_text() for tag in soup.find_all("style")]
        for style in styles + [tag["style"] for tag in soup.find_all(style=True)]:
            self.loads += css_urls(style)

    @classmethod
    def of_markdown(cls, text):
        """A page with the anchors that GitHub gives to headings."""
        page = cls(MarkdownIt("commonmark").enable("table").render(text))
        seen = []
        for heading in page.headings:
            anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            page.anchors.add(f"{anchor}-{seen.count(anchor)}" if anchor in seen else anchor)
            seen.append(anchor)
        return page


class Tree:
    """Files, some of which are pages."""

    def __init__(self, root, files, pages):
        self.root, self.files, self.pages = root, files, pages
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
        self.places = files | folders
        self.checked = 0

    @classmethod
    def repository(cls):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        root = Path.cwd().resolve()
        files = {root / name for name in names if name and (root / name).exists()}
        pages = {file: Page.of_markdown(file.read_text()) for file in files if file.suffix == ".md"}
        return cls(root, files, pages)

    @classmethod
    def book(cls, root):
        files = {file for file in root.rglob("*") if file.is_file()}
        pages = {file: Page(file.read_text()) for file in files if file.suffix == ".html"}
        return cls(root, files, pages)

    def missing(self, start, path, anchor):
        """What a link from a file lacks; None if it leads somewhere."""
        self.checked += 1
        path = (start.parent / unquote(path)).resolve() if path else start
        if path not in self.places:
            return "no such file"
        if anchor and path in self.pages and unquote(anchor) not in self.pages[path].anchors:
            return "no such anchor"
        return None

    def broken(self, repository, loads_outside):
        """Descriptions of all links that lead nowhere."""
        for file, page in sorted(self.pages.items()):
            for link in page.links:
                yield from self.describe(file, link, self.link(repository, file, link))
            for load in page.loads:
                yield from self.describe(file, load, self.load(file, load, loads_outside))
        for file in sorted(file for file in self.files if file.suffix == ".css"):
            for load in css_urls(file.read_text()):
                yield from self.describe(file, load, self.load(file, load, loads_outside))

    def describe(self, file, url, what):
        if what:
            yield f"{file.relative_to(self.root)}: {url}: {what}"

    def link(self, repository, file, link):
        url = urlsplit(link)
        if match := re.fullmatch(rf"{REPOSITORY}(?:/(?:blob|tree)/main/([^#]*))?(?:#(.*))?", link):
            readme = repository.root / "README.md"
            # Lines of a file are no anchors.
            anchor = re.sub(r"^L\d+(-L\d+)?$", "", match[2] or "")
            return repository.missing(readme, match[1] or "", anchor)
        if url.scheme or url.netloc:
            return None
        return self.missing(file, url.path, url.fragment)

    def load(self, file, load, outside):
        url = urlsplit(load)
        if url.scheme == "data":
            return None
        if url.scheme or url.netloc:
            return None if outside else "loaded from outside"
        return self.missing(file, url.path, url.fragment)


def main():
    repository = Tree.repository()
    book = Tree.book(Path(sys.argv[1]).resolve())
    broken = [*repository.broken(repository, True), *book.broken(repository, False)]
    broken = list(dict.fromkeys(broken))
    for problem in broken:
        print(problem, file=sys.stderr)
    print(f"{len(book.pages)} pages of the book, {len(repository.pages)} Markdown files, "
          f"{book.checked + repository.checked} links and files: {len(broken)} problems")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
