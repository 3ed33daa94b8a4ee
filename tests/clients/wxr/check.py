"""Checks the content of a server after `cable import wxr FILE` against the file, with an independent reader.

    python check.py FILE HOST:PORT REPORT1 STATUS1 REPORT2 STATUS2

REPORT1 and REPORT2 are the reports of the importer for the first and the second run, STATUS1 and STATUS2 the output
of `cable status -o json` after each.
"""

import datetime
import html.parser
import json
import re
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections import Counter

import grpc

from cable.v1 import body_pb2, content_pb2, content_pb2_grpc

SECONDS = 20
SECTIONS = 1 + 16  # of an article: its own and the additional ones
CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
NOT_ITEMS = {"author", "category", "tag", "term"}  # of the importer's report: elements of the channel


def main() -> None:
    path, address, *reports = sys.argv[1:]
    items = [Item(element) for element in ElementTree.parse(path).getroot().iter("item")]
    first, first_status, second, second_status = reports
    check_counts(items, first)
    check_counts(items, second)
    check_unchanged(first_status, second_status, second)
    with grpc.insecure_channel(address) as channel:
        content = content_pb2_grpc.ContentServiceStub(channel)
        public = [item for item in items if item.is_public()]
        check_public(content, public)
        check_tags(content, public)
        check_hidden(content, [item for item in items if not item.is_public()])


class Item:
    """An `<item>`, as the standard library reads it."""

    def __init__(self, element):
        self.element = element
        self.id = self.wordpress_text("post_id")
        self.kind = self.wordpress_text("post_type")
        self.link = element.findtext("link") or ""
        self.source = element.findtext(CONTENT) or ""

    def wordpress_text(self, name: str) -> str:
        """The text of a WordPress element. The last part of its namespace is the version of the format."""
        for child in self.element:
            if re.fullmatch(r"\{https?://wordpress\.org/export/[0-9.]+/\}" + name, child.tag):
                return child.text or ""
        return ""

    def is_public(self) -> bool:
        return self.is_posted() and not self.is_ahead()

    def is_scheduled(self) -> bool:
        return self.is_posted() and self.is_ahead()

    def is_posted(self) -> bool:
        posted = self.kind in ("post", "page") and self.wordpress_text("status") in ("publish", "future")
        return posted and not self.wordpress_text("post_password")

    def is_ahead(self) -> bool:
        date = self.wordpress_text("post_date_gmt")
        if not date or date.startswith("0000"):
            date = self.wordpress_text("post_date")
        return date > datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")

    def name(self) -> str:
        return f"articles/wp-{self.id}"

    def path(self) -> str:
        """The path of the link; the slug if the link is by number."""
        link = urllib.parse.urlsplit(self.link)
        if link.query and link.path in ("", "/"):
            return f"/{self.wordpress_text('post_name')}/" if self.wordpress_text("post_name") else ""
        return re.sub("^/+", "/", link.path)

    def tags(self) -> set[str]:
        return {tag_name(slug) for slug in self.terms("post_tag")}

    def terms(self, taxonomy: str) -> list[str]:
        """Slugs of its terms, in the order of the file."""
        fields = [c for c in self.element.iter("category") if c.get("domain") == taxonomy and c.get("nicename")]
        return [field.get("nicename") for field in fields]

    def is_in_too_many_categories(self) -> bool:
        """Whether it has more categories than an article has sections; further ones become tags."""
        return len(self.terms("category")) > SECTIONS


def tag_name(slug: str) -> str:
    """The name of a tag. Any other byte than these is written as `~` and two hex digits."""
    escape = lambda byte: chr(byte) if re.match(rb"[A-Za-z0-9._-]", bytes([byte])) else f"~{byte:02x}"
    return "tags/" + "".join(map(escape, urllib.parse.unquote_to_bytes(slug)))


def fail(message: str) -> None:
    sys.exit(f"FAILED: {message}")


def check_counts(items: list[Item], report: str) -> None:
    """For each kind, the items of the file are those that were imported, skipped or failed."""
    found = Counter(item.kind for item in items)
    with open(report, encoding="utf-8") as file:
        rows = re.findall(r"^(\S+) +(\d+) +(\d+) +(\d+)$", file.read().split("on the server")[0], re.MULTILINE)
    reported = {kind: tuple(map(int, counts)) for kind, *counts in rows if kind not in NOT_ITEMS}
    if {kind: sum(counts) for kind, counts in reported.items()} != dict(found):
        fail(f"the file has {dict(found)}, the report has {reported}")
    imported, skipped, failed = (sum(counts) for counts in zip(*reported.values()))
    public = sum(item.is_public() for item in items)
    scheduled = sum(item.is_scheduled() for item in items)
    if failed or imported != public + scheduled:
        fail(f"{public} items are public, {scheduled} scheduled, {imported} were imported, {failed} failed")
    print(f"{len(items)} items = {imported} imported + {skipped} skipped + {failed} failed")


def check_unchanged(before: str, after: str, report: str) -> None:
    with open(before, encoding="utf-8") as one, open(after, encoding="utf-8") as two, open(report) as text:
        one, two, text = json.load(one), json.load(two), text.read()
    for key in ("head", "logDigest", "contentDigest", "counts"):
        if not one[key] or one[key] != two[key]:
            fail(f"the second run changed {key} from {one[key]} to {two[key]}")
    row = r"^\S+ +(\d+) +(\d+) +(\d+) +(\d+)$"
    outcomes = re.findall(row, text.split("on the server")[1], re.MULTILINE)
    if not outcomes or any([written, kept, refused] != ["0"] * 3 for written, _, kept, refused in outcomes):
        fail(f"the second run wrote: {outcomes}")
    print(f"a second run changed nothing: revision {two['head']['revision']}, content {two['contentDigest']}")


def check_public(content, public: list[Item]) -> None:
    paths = Counter(item.path() for item in public)
    by_path, words = 0, 0
    for item in public:
        plain = body_pb2.BODY_FORMAT_PLAIN_TEXT
        request = content_pb2.GetArticleRequest(name=item.name(), body_format=plain)
        article = content.GetArticle(request, timeout=SECONDS).article
        check_tags_of(item, article)
        words += check_words(content, item, article.rendered_body.text)
        if not item.path():
            print(f"  exception: {item.name()} has neither path nor slug in the file")
            continue
        request = content_pb2.ResolvePathRequest(path=item.path(), view=content_pb2.ARTICLE_VIEW_REFERENCE)
        found = content.ResolvePath(request, timeout=SECONDS)
        if paths[item.path()] > 1:
            print(f"  exception: {paths[item.path()]} items claim {item.path()}, {item.name()} among them")
        elif found.article.name != item.name():
            fail(f"{item.path()} leads to {found.article.name}, not {item.name()}")
        else:
            by_path += 1
    print(f"{len(public)} public items are found by id, {by_path} by path, with all {words} words of their texts")


def check_tags_of(item: Item, article) -> None:
    if item.is_in_too_many_categories():
        more = len(set(article.tags) - item.tags())
        beyond = {tag_name(slug) for slug in item.terms("category")[SECTIONS:]}
        if not item.tags() < set(article.tags) or more > len(beyond):
            fail(f"{item.name()} has the tags {article.tags}")
        print(f"  exception: {item.name()} is in {len(item.terms('category'))} categories: {more} of them became tags")
    elif set(article.tags) != item.tags():
        fail(f"{item.name()} has the tags {article.tags}, the file {item.tags()}")


# Those that a quotation (`<q>`) gets, as in a browser.
QUOTATION_MARKS = "\u201c\u201d\u2018\u2019"


def check_words(content, item: Item, text: str) -> int:
    """Each word of the source is in the served text, which may have more (captions, list markers).

    If a caption replaces the address of an embed in the text, the address must be in the body.
    """
    wanted = Counter(word.strip(QUOTATION_MARKS) for word in words_of(item.source))
    missing = wanted - Counter(word.strip(QUOTATION_MARKS) for word in text.split())
    if missing:
        article = content.GetArticle(content_pb2.GetArticleRequest(name=item.name()), timeout=SECONDS).article
        captioned = [block.embed for block in article.body.blocks if block.embed.caption]
        addresses = missing & Counter(embed.url for embed in captioned)
        for address in addresses:
            print(f"  exception: {item.name()} has a caption instead of {address}")
        missing -= addresses
    if missing:
        fail(f"{item.name()} lacks {dict(missing)}")
    return wanted.total()


def check_tags(content, public: list[Item]) -> None:
    """The list of each tag has exactly the public items with the tag (see the exception above)."""
    in_more_lists = {item.name() for item in public if item.is_in_too_many_categories()}
    members: dict[str, set[str]] = {}
    for item in public:
        for tag in item.tags():
            members.setdefault(tag, set()).add(item.name())
    for tag, names in sorted(members.items()):
        listed = list_by_tag(content, tag)
        is_complete = names <= set(listed) <= names | in_more_lists
        if not is_complete or len(set(listed)) != len(listed):
            fail(f"the list of {tag} is {listed}, the file has {names}")
    print(f"{len(members)} lists by tag, {sum(map(len, members.values()))} entries in them")


def list_by_tag(content, tag: str) -> list[str]:
    request = content_pb2.ListArticlesRequest(view=content_pb2.ARTICLE_VIEW_REFERENCE, page_size=3)
    request.filter.all_tags.append(tag)
    names: list[str] = []
    while True:
        response = content.ListArticles(request, timeout=SECONDS)
        names += [article.name for article in response.articles]
        request.page_token = response.next_page_token
        if not request.page_token:
            return names


def check_hidden(content, hidden: list[Item]) -> None:
    """Drafts, scheduled and protected posts, and items that are not posts, cannot be read."""
    for item in hidden:
        try:
            content.GetArticle(content_pb2.GetArticleRequest(name=item.name()), timeout=SECONDS)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                continue
            raise
        fail(f"{item.name()} ({item.kind}, {item.wordpress_text('status')}) can be read")
    print(f"{len(hidden)} other items cannot be read")


# The words of a text: its HTML without tags, comments, scripts, styles and the marks of WordPress's
# own shortcodes, split by white space. A tag of these parts words, and the link of a file block that
# is a button; any other does not.
WORD_BREAKING_TAGS = set(
    "address article aside audio blockquote br button canvas caption center col colgroup dd details div dl dt embed "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr iframe img input li main nav object ol "
    "option p picture pre section select source summary svg table tbody td textarea tfoot th thead tr ul video".split()
)
SHORTCODE = re.compile(r"\[/?(?:caption|wp_caption|gallery|embed|audio|video|playlist)(?:\s[^\]]*)?/?\]")


class Words(html.parser.HTMLParser):
    """The text of HTML."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipped_tag = ""

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "style"):
            self.skipped_tag = tag
        is_button = "wp-block-file__button" in (dict(attributes).get("class") or "")
        if tag in WORD_BREAKING_TAGS or is_button:
            self.parts.append(" ")

    def handle_endtag(self, tag):
        if tag == self.skipped_tag:
            self.skipped_tag = ""
        if tag in WORD_BREAKING_TAGS:
            self.parts.append(" ")

    def handle_data(self, data):
        if not self.skipped_tag:
            self.parts.append(data)


def words_of(source: str) -> list[str]:
    parser = Words()
    parser.feed(SHORTCODE.sub(" ", source))
    parser.close()
    return "".join(parser.parts).split()


if __name__ == "__main__":
    main()
