"""Requests every feed and sitemap of the sample newsroom, and has each judged by the readers and schemas of others."""

import datetime
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import urllib.request

import feedparser
import jsonschema
from lxml import etree
from usp.tree import sitemap_from_str

SITE = "https://packet.example"
SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
NEWS = "{http://www.google.com/schemas/sitemap-news/0.9}"


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]


class Node:
    """The sample newsroom, with an article that is published now."""

    def __init__(self, program, directory):
        self.address = free_address()
        site = {"URL": SITE, "NAME": "The Averil Packet", "LANGUAGE": "en-GB", "DESCRIPTION": "News of the coast"}
        env = dict(os.environ, **{"CABLE__SITE__" + key: value for key, value in site.items()})
        command = [program, "serve", "--demo", "--listen", self.address, "--ops-listen", "off"]
        self.process = subprocess.Popen(command, cwd=directory, env=env, stdout=subprocess.PIPE, text=True)
        # The demo prints its commands when its content is loaded.
        if not self.process.stdout.readline():
            sys.exit("the demo has ended")
        article = {
            "name": "articles/today",
            "headline": "Today & <tomorrow>: “Ærøskøbing”",
            "path": "/today/ærø's-[1]",
            "language": "da",
            "tags": ["tags/russia"],
        }
        put = [program, "article", "put", "--endpoint", "http://" + self.address, "-"]
        subprocess.run(put, input=json.dumps(article), cwd=directory, env=env, check=True, text=True,
                       stdout=subprocess.DEVNULL)

    def get(self, path):
        with urllib.request.urlopen("http://" + self.address + path, timeout=60) as response:
            return response.read(), response.headers

    def names(self, kind):
        entities = json.loads(self.get(f"/v1/{kind}?page_size=1000")[0])[kind]
        internal = [entity for entity in entities if entity.get("kind") == "TAG_KIND_INTERNAL"]
        return [entity["name"].split("/")[1] for entity in entities if entity not in internal]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def check_xml_feed(node, path):
    text, headers = node.get(path)
    feed = feedparser.parse(text, response_headers={"content-type": headers["content-type"]})
    assert not feed.bozo, (path, feed.get("bozo_exception"))
    assert feed.version == {"rss": "rss20", "atom": "atom10"}[path.rsplit(".")[-1]], (path, feed.version)
    assert feed.feed.title.startswith("The Averil Packet"), path
    assert feed.feed.link.startswith(SITE + "/") and feed.feed.language == "en-GB", path
    own = [link.href for link in feed.feed.links if link.rel == "self"]
    assert own == [SITE + path], (path, own)
    ids = set()
    for entry in feed.entries:
        assert entry.title and entry.link.startswith(SITE + "/"), (path, entry)
        assert entry.published_parsed and entry.updated_parsed, (path, entry)
        assert entry.updated_parsed >= entry.published_parsed, (path, entry)
        for content in entry.get("content", []):
            assert not re.search(r'(href|src)="(?!https?:|mailto:|tel:|#)', content.value), (path, content.value)
        ids.add(entry.id)
    assert len(ids) == len(feed.entries) <= 50, path
    return {identifier.rsplit("/", 1)[1] for identifier in ids}


def check_json_feed(node, path, validator):
    text, headers = node.get(path)
    assert headers["content-type"] == "application/feed+json", path
    feed = json.loads(text)
    validator.validate(feed)
    assert feed["version"] == "https://jsonfeed.org/version/1.1" and feed["feed_url"] == SITE + path, path
    for item in feed["items"]:
        assert ("content_html" in item) != ("content_text" in item), (path, item)
    return {item["id"].rsplit("/", 1)[1] for item in feed["items"]}


def schema(path):
    return etree.XMLSchema(etree.parse(str(path)))


def check_sitemap(node, path, urlsets):
    text, _ = node.get(path)
    document = etree.fromstring(text)
    for urlset in urlsets:
        urlset.assertValid(document)
    assert 0 < len(text) < 50_000_000 and len(document) <= 50_000, path
    pages = list(sitemap_from_str(text.decode()).all_pages())
    locations = [loc.text for loc in document.iter(SITEMAP + "loc")]
    assert sorted(page.url for page in pages) == sorted(locations), path
    assert all(page.last_modified for page in pages), path
    return locations


def check_news(node, urlsets):
    text, _ = node.get("/sitemap-news.xml")
    document = etree.fromstring(text)
    now = datetime.datetime.now(datetime.timezone.utc)
    titles = []
    for story in (page.news_story for page in sitemap_from_str(text.decode()).all_pages()):
        assert story.publication_name == "The Averil Packet", story
        assert re.fullmatch("zh-cn|zh-tw|[a-z]{2,3}", story.publication_language), story
        assert datetime.timedelta() <= now - story.publish_date <= datetime.timedelta(hours=48), story
        titles.append(story.title)
    assert "Today & <tomorrow>: “Ærøskøbing”" in titles and len(titles) <= 1_000, titles
    for url in document:
        # In the order of Google's documentation, and nothing else.
        news = url.find(NEWS + "news")
        assert [child.tag for child in news] == [NEWS + tag for tag in ("publication", "publication_date", "title")]
        assert [child.tag for child in news[0]] == [NEWS + tag for tag in ("name", "language")]
        # The schema of sitemaps knows no elements of others.
        url.remove(news)
    for urlset in urlsets:
        urlset.assertValid(document)
    return len(titles)


def check(node, tools):
    schemas = tools / "sitemapgen4j/com/redfin/sitemapgenerator"
    urlsets = [schema(tools / "node_modules/sitemap/schema/sitemap.xsd"), schema(schemas / "sitemap.xsd")]
    validator = jsonschema.Draft7Validator(
        json.loads((tools / "node_modules/jsonfeed-schema/schema-v1.1.json").read_text()),
        format_checker=jsonschema.FormatChecker(),
    )
    lists = ["all"]
    lists += [f"{kind[:-1]}/{name}" for kind in ("tags", "sections", "authors") for name in node.names(kind)]
    assert len(lists) > 40, lists
    entries = 0
    for name in lists:
        rss, atom = (check_xml_feed(node, f"/feeds/{name}.{extension}") for extension in ("rss", "atom"))
        assert rss == atom == check_json_feed(node, f"/feeds/{name}.json", validator), name
        entries += len(rss)
    assert entries > 100, entries
    index, _ = node.get("/sitemap.xml")
    schema(schemas / "siteindex.xsd").assertValid(etree.fromstring(index))
    sitemaps = [loc.text for loc in etree.fromstring(index).iter(SITEMAP + "loc")]
    pages = []
    for sitemap in sitemaps:
        assert sitemap.startswith(SITE), sitemap
        pages += check_sitemap(node, sitemap.removeprefix(SITE), urlsets)
    assert len(set(pages)) == len(pages) > 30, pages
    assert SITE + "/today/%C3%A6r%C3%B8's-%5B1%5D" in pages, pages
    news = check_news(node, urlsets)
    print(f"{3 * len(lists)} feeds with {entries} entries each way, {len(sitemaps)} sitemaps with {len(pages)} pages, "
          f"{news} in the news sitemap: accepted")


def main(program, tools):
    with tempfile.TemporaryDirectory() as directory:
        node = Node(os.path.abspath(program), directory)
        try:
            check(node, pathlib.Path(tools))
        finally:
            node.stop()


main(*sys.argv[1:])
