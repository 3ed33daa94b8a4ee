// The checks of the reading room. They run in order, in one browser, and stop at the first that fails.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import axe from "axe-core";
import puppeteer from "puppeteer-core";
import { finished, Node, POLICY, proxy, until } from "./node.js";

const [root, program, chromium, ...options] = process.argv.slice(2);
const usesProxy = options.includes("--proxy");
const takesPictures = options.includes("--pictures");
const unknown = options.find((option) => !["--proxy", "--pictures"].includes(option));
if (unknown) {
  console.error(`unknown option ${unknown}: use --proxy or --pictures`);
  process.exit(2);
}

/** A generous limit on everything that the page waits for. The measurements have their own. */
const WAIT_MILLIS = 20_000;
/** The limit on the time from commit to screen. The target is 200 ms; a busy machine may need more. */
const LIVE_LIMIT_MILLIS = 5_000;
const TARGET_MILLIS = 200;
const LIVE_CHANGES = 11;
const MAX_ROWS = 200;
const PICTURE_BYTES = 200_000;
/** Pictures of the sample newsroom, which no machine serves. */
const SAMPLE_PICTURES = "https://media.example.org/";

const DESKTOP = { width: 1200, height: 900 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };

const home = fs.mkdtempSync(path.join(os.tmpdir(), "cable-web-"));
const ends = [];
let browser;

async function main() {
  const demo = new Node(program, path.join(home, "demo"), ["--demo"]);
  ends.push(() => demo.stop());
  await demo.start();
  const origin = await serve(demo);
  browser = await puppeteer.launch({
    executablePath: chromium,
    args: [
      "--no-sandbox",
      // Nothing but the node can be reached.
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      "--font-render-hinting=none",
    ],
  });
  ends.unshift(() => browser.close());
  console.log(`${await browser.version()}, ${usesProxy ? "through the proxy" : "the node's own page"}`);

  await headers(origin);
  await pages(origin, demo);
  await everyArticle(origin, demo);
  await content(origin, demo);
  await oddities(origin, demo);
  await directions(origin, demo);
  await history(origin);
  await commands(origin, demo);
  await keyboard(origin);
  await live(origin, demo);
  await changes(origin, demo);
  await appearance(origin);
  await failures(origin, demo);
  await operations(demo);
  await tokens();
  await restart();
  if (!usesProxy) await feeds();
}

/** Returns the origin of the page of a node. */
async function serve(node) {
  if (!usesProxy) return `http://${node.host}`;
  const server = await proxy(node, path.join(root, "web/dist"));
  ends.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Runs a check and prints its name. */
async function check(name, run) {
  const start = Date.now();
  const note = await run();
  console.log(`ok: ${name}${note ? `: ${note}` : ""} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
}

/** A page in the browser that records what is wrong: console errors, exceptions, violations of the policy. */
async function open(url, { viewport = DESKTOP, features = [], wait = settled, script = true, prepare = null } = {}) {
  const page = await browser.newPage();
  page.wrongs = [];
  page.on("console", (message) => {
    const from = message.location().url ?? "";
    const isMissingPicture = from.startsWith(SAMPLE_PICTURES) && message.text().includes("ERR_NAME_NOT_RESOLVED");
    if (["error", "warn", "warning"].includes(message.type()) && !isMissingPicture) {
      page.wrongs.push(`${message.type()}: ${message.text()} ${from}`);
    }
  });
  page.on("pageerror", (error) => page.wrongs.push(`exception: ${error}`));
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
    // When each row of the wire was inserted, to check the page's own measurement.
    window.inserted = {};
    // All that a screen reader was given to say.
    window.announced = [];
    new MutationObserver((records) => {
      if (records.some((record) => record.target.id === "announcer")) window.announced.push(document.getElementById("announcer").textContent);
      for (const node of records.flatMap((record) => [...record.addedNodes])) {
        if (node instanceof HTMLElement && node.dataset.revision) window.inserted[node.dataset.revision] ??= Date.now();
      }
    }).observe(document, { subtree: true, childList: true });
  });
  if (prepare) await page.evaluateOnNewDocument(prepare);
  await page.setViewport(viewport);
  await page.emulateMediaFeatures(features);
  await page.setJavaScriptEnabled(script);
  await page.goto(url);
  await wait(page);
  return page;
}

/** Waits until the page shows a view. */
async function settled(page) {
  await page.waitForFunction(
    () => document.querySelector("main h1") && !document.querySelector("main").hasAttribute("aria-busy")
      && document.querySelector(".masthead nav"),
    { timeout: WAIT_MILLIS },
  );
}

async function go(page, hash) {
  await page.evaluate((hash) => {
    // The old view must not be taken for the new one.
    document.querySelector("main").setAttribute("aria-busy", "true");
    location.hash = hash;
  }, hash);
  await settled(page);
}

async function clean(page) {
  assert.deepEqual(page.wrongs, [], "the console is clean");
  assert.deepEqual(await page.evaluate(() => window.violations), [], "nothing violates the policy");
}

const text = (page, selector) => page.$eval(selector, (element) => element.textContent.trim());
const texts = (page, selector) => page.$$eval(selector, (all) => all.map((each) => each.textContent.trim()));

/** Fails if axe finds anything serious. Every animation is held at its start, where a flash is brightest: a page judged at any
 *  moment of an animation is judged by chance. */
async function accessible(page, where) {
  await page.evaluate(() => {
    for (const animation of document.getAnimations()) {
      animation.pause();
      animation.currentTime = 0;
    }
  });
  await page.evaluate(axe.source);
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const shown = (each) => `${each.impact}: ${each.id}: ${each.help}: ${each.nodes.slice(0, 3).map((node) => node.html).join(" ")}`;
  const serious = result.violations.filter((each) => ["serious", "critical"].includes(each.impact));
  assert.deepEqual(serious.map(shown), [], `axe on ${where}`);
  for (const each of result.violations) console.log(`    axe on ${where}: ${shown(each)}`);
  await page.evaluate(() => document.getAnimations().forEach((animation) => animation.play()));
}

/** The directives of a content security policy. */
function directives(policy) {
  const parts = (policy ?? "").split(";").map((part) => part.trim()).filter(Boolean);
  return Object.fromEntries(parts.map((part) => [part.split(" ")[0], part.split(" ").slice(1).join(" ")]));
}

async function headers(origin) {
  await check("the page comes with its policy", async () => {
    const response = await fetch(`${origin}/`);
    assert.equal(response.status, 200, `GET / responds with ${response.status}: this program does not serve the page (use --proxy)`);
    const policy = directives(response.headers.get("content-security-policy"));
    for (const [name, value] of Object.entries(directives(POLICY))) {
      if (name !== "img-src") assert.equal(policy[name], value, name);
    }
    for (const [name, value] of Object.entries(policy)) assert.ok(!/unsafe|\*/.test(value), `${name} ${value}`);
    assert.match(response.headers.get("content-type"), /^text\/html/);
    const html = await response.text();
    assert.equal(html, fs.readFileSync(path.join(root, "web/dist/index.html"), "utf8"), "the program contains web/dist");
    for (const file of ["room.js", "room.css"]) {
      const part = await fetch(`${origin}/${file}`);
      assert.equal(part.status, 200, file);
      assert.equal(await part.text(), fs.readFileSync(path.join(root, "web/dist", file), "utf8"), file);
    }
  });
}

async function pages(origin, node) {
  const page = await open(`${origin}/`);
  await check("the title names the view and the newspaper", async () => {
    await page.waitForFunction(() => document.title === "The Averil Packet", { timeout: WAIT_MILLIS });
    await go(page, "#/tag/russia");
    await page.waitForFunction(() => document.title === "Russia · The Averil Packet", { timeout: WAIT_MILLIS });
    await go(page, "#/");
  });
  await check("the front has the articles of its collection, and the sections", async () => {
    const front = JSON.parse(await node.cable(["collection", "get", "front", "-o", "json"]));
    const expected = [];
    for (const name of front.articles) expected.push((await node.article(name.slice("articles/".length))).headline);
    assert.deepEqual(await texts(page, ".lead h2, .front-grid h2"), expected);
    assert.equal(await text(page, ".paper"), "The Averil Packet");
    assert.deepEqual(await texts(page, ".front-section > h2"), ["World", "City & Coast", "Life & Culture"]);
    await accessible(page, "the front");
    await picture(page, "front");
    await clean(page);
  });
  const views = [
    ["#/section/region", "City & Coast", ["article", "ls", "--section", "region", "--children", "--limit", "24"]],
    ["#/tag/russia", "Russia", ["article", "ls", "--tag", "russia", "--limit", "24"]],
    ["#/author/padraig-solli", "Padraig Solli", ["article", "ls", "--author", "padraig-solli", "--limit", "24"]],
  ];
  for (const [hash, title, words] of views) {
    await check(`${hash} lists what the command line lists`, async () => {
      await go(page, hash);
      assert.equal(await text(page, "main h1"), title);
      const expected = (await node.cable([...words, "-o", "id"])).trim().split("\n");
      const shown = await page.$$eval(".list h2 a", (all) => all.map((each) => each.getAttribute("href").split("/").pop()));
      assert.deepEqual(shown, expected);
      assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "the heading has the focus");
      await accessible(page, hash);
      await clean(page);
    });
  }
  for (const [hash, title] of [["#/tags", "Tags"], ["#/collection/hedda", "Hedda: the storm and after"], ["#/token", "Token"]]) {
    await check(`${hash} renders`, async () => {
      await go(page, hash);
      assert.equal(await text(page, "main h1"), title);
      await accessible(page, hash);
      await clean(page);
    });
  }
  await check("a tag that is for filters only is not shown", async () => {
    const internal = (await node.cable(["tag", "ls", "-o", "jsonl"])).trim().split("\n").map((line) => JSON.parse(line))
      .filter((tag) => tag.kind === "TAG_KIND_INTERNAL");
    assert.ok(internal.length > 0, "the sample has one");
    await go(page, "#/tags");
    const shown = await texts(page, ".index li a:first-child");
    for (const tag of internal) assert.ok(!shown.includes(tag.displayName), tag.name);
  });
  await page.close();
}

async function everyArticle(origin, node) {
  const page = await open(`${origin}/#/tags`);
  await check("every article of the sample renders all its blocks", async () => {
    const ids = (await node.cable(["article", "ls", "--limit", "1000", "-o", "id"])).trim().split("\n");
    const kinds = new Set();
    for (const id of ids) {
      const article = await node.article(id);
      await go(page, `#/article/${id}`);
      assert.equal(await text(page, "main h1"), article.headline);
      const blocks = article.body?.blocks ?? [];
      for (const block of blocks) Object.keys(block).filter((key) => key !== "id").forEach((key) => kinds.add(key));
      const shown = await page.$$eval(".prose > *:not(.dateline)", (all) => all.length);
      assert.equal(shown, blocks.length, id);
    }
    await clean(page);
    return `${ids.length} articles, ${kinds.size} kinds of blocks`;
  });
  await check("an article with many kinds of blocks is accessible", async () => {
    for (const id of ["storm-hedda-live", "storm-hedda-pictures", "station-lamp-23", "grain-freight-table"]) {
      await go(page, `#/article/${id}`);
      await accessible(page, id);
    }
    await go(page, "#/article/tram-hill-wards");
    await picture(page, "article");
    await clean(page);
  });
  await page.close();
}

/** An article with every kind of block, and with text that would be harmful as HTML. */
const HARMFUL = `<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>`;
const span = (text, rest = {}) => ({ text, ...rest });
const paragraph = (text) => ({ paragraph: { spans: [span(text)] } });
const media = (kind, file, type) => ({
  kind,
  altText: `A description of the ${file}.`,
  renditions: [{ href: `${SAMPLE_PICTURES}${file}`, type, width: 640, height: 480 }],
  caption: [span("A caption.")],
  credit: "A. Photographer",
});
const ALL_BLOCKS = {
  name: "articles/all-blocks",
  headline: `Every block ${HARMFUL}`,
  dek: HARMFUL,
  path: "/world/all-blocks",
  tags: ["tags/russia"],
  section: "sections/world",
  editorialNote: "For the desk alone.",
  notices: [{ kind: "NOTICE_KIND_CORRECTION", text: "A name was wrong." }],
  related: [{ article: "articles/station-lamp-23", kind: "background" }],
  body: {
    blocks: [
      { paragraph: { spans: [
        span("Plain, "), span("strong", { marks: ["MARK_STRONG"] }), span(" and both", { marks: ["MARK_STRONG", "MARK_EMPHASIS"] }),
        span("; an article", { link: { article: "articles/station-lamp-23" } }),
        span("; a path", { link: { href: "/world/2026/09/silent-weather-stations" } }),
        span("; elsewhere", { link: { href: "https://example.org/a?b=c" } }),
        span("; mail", { link: { href: "mailto:desk@example.org" } }),
        span("; below", { link: { href: "#the-end" } }),
        span("\nsecond line"),
      ] } },
      { heading: { level: 3, spans: [span("A heading")] } },
      { list: { ordered: true, start: 3, items: [{ blocks: [paragraph("Three")] }, { blocks: [paragraph("Four")] }] } },
      { quote: { blocks: [paragraph("Quoted")], attribution: [span("A speaker")] } },
      { pullQuote: { spans: [span("Pulled")] } },
      { image: { media: media("MEDIA_KIND_PICTURE", "picture.jpg", "image/jpeg") } },
      { gallery: { images: [{ media: media("MEDIA_KIND_PICTURE", "one.jpg", "image/jpeg") }], caption: [span("All")] } },
      { embed: { provider: "youtube", url: "https://video.example.org/1", title: "A film", fallbackText: "It rains." } },
      { code: { text: HARMFUL, language: "html" } },
      { table: { caption: [span("A table")], rows: [
        { cells: [{ header: true, spans: [span("Head")], columnSpan: 2 }] },
        { cells: [{ spans: [span("a")] }, { blocks: [paragraph("b")] }] },
      ] } },
      { divider: {} },
      { rawHtml: { html: "<p>Raw <em>text</em><br>in two lines</p>", reason: "verse" } },
      { livePost: { title: "A post", publishTime: "2026-11-18T08:00:00Z", keyEvent: true, blocks: [paragraph("Posted")] } },
      { video: { media: media("MEDIA_KIND_VIDEO", "film.mp4", "video/mp4") } },
      { audio: { media: media("MEDIA_KIND_AUDIO", "sound.mp3", "audio/mpeg") } },
      { id: "the-end", ...paragraph("The end.") },
    ],
  },
};

async function content(origin, node) {
  const page = await open(`${origin}/#/tags`);
  await check("every kind of block becomes its element, and no content becomes HTML", async () => {
    await node.put(ALL_BLOCKS);
    await go(page, "#/article/all-blocks");
    assert.equal(await text(page, "main h1"), ALL_BLOCKS.headline);
    await page.waitForFunction(() => document.querySelectorAll(".missing").length >= 2, { timeout: WAIT_MILLIS });
    const found = await page.evaluate(() => {
      const prose = document.querySelector(".prose");
      const one = (selector) => prose.querySelectorAll(selector).length;
      return {
        kinds: [...prose.children].map((each) => each.tagName.toLowerCase()),
        marks: one("strong > em"),
        lines: one("p:first-child br"),
        start: prose.querySelector("ol").start,
        header: prose.querySelector("th").colSpan,
        key: one(".post[data-key]"),
        raw: prose.querySelector(".raw-text").textContent,
        source: prose.querySelector(".raw code").textContent,
        links: [...prose.querySelectorAll("p:first-child a")].map((each) => each.getAttribute("href")),
        scripts: document.querySelectorAll("main script, main [onerror], main iframe").length,
        harmed: window.harmed ?? null,
        all: document.body.textContent,
      };
    });
    assert.deepEqual(found.kinds, [
      "p", "h3", "ol", "figure", "figure", "figure", "figure", "figure", "pre", "div", "hr", "div", "section", "figure", "figure", "p",
    ]);
    assert.deepEqual(found.links, [
      "#/article/station-lamp-23", "#/path/world/2026/09/silent-weather-stations", "https://example.org/a?b=c",
      "mailto:desk@example.org", "#/article/all-blocks@the-end",
    ]);
    assert.deepEqual(
      [found.marks, found.lines, found.start, found.header, found.key, found.raw, found.scripts, found.harmed],
      [1, 1, 3, 2, 1, "Raw text\nin two lines", 0, null],
    );
    assert.equal(found.source, "<p>Raw <em>text</em><br>in two lines</p>");
    assert.ok(!found.all.includes("For the desk alone"), "the note for the desk is not shown");
    assert.ok(found.all.includes("A name was wrong."), "the correction is shown");
    await accessible(page, "all blocks");
  });
  await check("links lead on: to a path of the site, and to a block", async () => {
    await page.click('.prose a[href="#/path/world/2026/09/silent-weather-stations"]');
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "The silence at eighty degrees north", { timeout: WAIT_MILLIS });
    await go(page, "#/article/all-blocks@the-end");
    await page.waitForFunction(() => {
      const box = document.getElementById("block-the-end")?.getBoundingClientRect();
      return box && box.top >= 0 && box.bottom <= innerHeight;
    }, { timeout: WAIT_MILLIS });
    await clean(page);
  });
  await page.close();
  await node.cable(["article", "rm", "all-blocks"]);
}

/** Articles that are valid and odd: long words, names within names, media without files, tables and notes. */
const LONG = "Donaudampfschifffahrtsgesellschaftskapitaen".repeat(4);
const film = (fields) => ({ renditions: [{ href: "/media/film.webm", type: "video/webm" }], ...fields });
const ODD = {
  name: "articles/odd",
  headline: `Odd ${LONG}`,
  path: "/world/odd",
  tags: ["tags/long"],
  byline: { credits: [{ displayName: "Anna Bell" }, { author: "authors/ann", displayName: "Ann" }] },
  leadMedia: { kind: "MEDIA_KIND_VIDEO", altText: "The harbour." },
  body: { blocks: [
    { paragraph: { spans: [span("A note", { link: { href: "#gr%C3%B6%C3%9Fe" } }), span(", a block", { link: { href: "/world/odd#größe" } }),
      span(", a page", { link: { href: "/world/odd?page=2" } })] } },
    { table: { caption: [span("Figures")], rows: [{ cells: [{ spans: [span("1")] }] }] } },
    { table: { rows: [{ cells: [{ spans: [span("1")] }] }] } },
    { table: { rows: [{ cells: [{ spans: [span("2")] }] }] } },
    { livePost: { title: "A post", credits: [{ author: "authors/ann" }, { author: "authors/post" }], blocks: [paragraph("Posted")] } },
    { video: { media: film({ renditions: [{ href: "/media/film.webm", type: "video/webm" }, { href: `${SAMPLE_PICTURES}film.mp4`, type: "video/mp4" }] }) } },
    { video: { media: film({ credit: LONG }) } },
    ...Array.from({ length: 30 }, () => paragraph("A paragraph that makes the article long.")),
    { id: "größe", ...paragraph("The note.") },
  ] },
};

async function oddities(origin, node) {
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/long", displayName: LONG }));
  for (const [id, displayName] of [["ann", "Ann Other"], ["post", "Paul Post"]]) {
    await node.cable(["author", "put", "-"], JSON.stringify({ name: `authors/${id}`, displayName }));
  }
  await node.put(ODD, { name: "articles/odd-2", headline: "Odd too", tags: ["tags/long"],
    byline: { text: "Words by Ann, pictures by Anna Bell", credits: [{ displayName: "Anna Bell" }, { author: "authors/ann", displayName: "Ann" }] } });
  const page = await open(`${origin}/#/article/odd`);
  const links = (selector) => page.$eval(selector, (element) =>
    [element.textContent, ...[...element.querySelectorAll("a")].map((link) => `${link.textContent} ${link.getAttribute("href")}`)]);
  await check("names are linked whole, and each to its person", async () => {
    assert.deepEqual(await links(".byline"), ["By Anna Bell and Ann", "Ann #/author/ann"]);
    assert.deepEqual(await links(".post > .quiet"), ["Ann Other and Paul Post", "Ann Other #/author/ann", "Paul Post #/author/post"]);
    await go(page, "#/article/odd-2");
    assert.deepEqual(await links(".byline"), ["Words by Ann, pictures by Anna Bell", "Ann #/author/ann"]);
  });
  await check("media have the files that can be reached, and landmarks a label each", async () => {
    await go(page, "#/article/odd");
    assert.deepEqual(await texts(page, ".files"), ["Watch the video"]);
    assert.deepEqual(await texts(page, ".missing"), ["The harbour.", "A video that cannot be played."]);
    assert.deepEqual(await page.$$eval(".table", (all) => all.map((each) => each.ariaLabel)), ["Figures", "Table 1", "Table 2"]);
    await page.evaluate(axe.source);
    const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["landmark-unique"] }));
    assert.deepEqual(found.violations, []);
  });
  await check("a link to a block leads there each time, and a return to the reader's place", async () => {
    const isThere = () => page.waitForFunction(() => {
      const note = document.getElementById("block-größe");
      const box = note?.getBoundingClientRect();
      return box && document.activeElement === note && box.top >= 0 && box.bottom <= innerHeight;
    }, { timeout: WAIT_MILLIS });
    await page.click(".prose a");
    await isThere();
    await page.evaluate(() => scrollTo(0, 0));
    await page.click(".prose a");
    await isThere();
    await page.evaluate(() => scrollTo(0, 150));
    await go(page, "#/tags");
    await page.evaluate(() => {
      document.querySelector("main").setAttribute("aria-busy", "true");
      window.history.back();
    });
    await settled(page);
    assert.equal(await page.evaluate(() => scrollY), 150);
    await page.evaluate(() => scrollTo(0, 0));
    await page.click(".prose a:nth-of-type(2)");
    await isThere();
    assert.match(page.url(), /#\/path\/world\/odd#/);
    await go(page, "#/path/world/odd?x=1");
    assert.equal(await text(page, "main h1"), ODD.headline);
    assert.equal(await page.$eval(".prose a:nth-of-type(3)", (link) => link.getAttribute("href")), "#/path/world/odd");
  });
  await check("long words fit a screen of 320 pixels", async () => {
    await page.setViewport({ ...PHONE, width: 320 });
    for (const hash of ["#/article/odd", "#/tag/long", "#/live/tag/long", "#/tags", "#/"]) {
      await go(page, hash);
      const [wide, view] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(wide <= view, `${hash} is ${wide} px wide on a screen of ${view} px`);
    }
    await clean(page);
  });
  await page.close();
  for (const id of ["odd", "odd-2"]) await node.cable(["article", "rm", id]);
}

/** Articles in scripts of either direction, and the direction that each must have. */
const DIRECTIONS = [
  [{ name: "articles/arabic", headline: "عنوان طويل", language: "ar", body: { blocks: [paragraph("هذا نص عربي.")] } }, "rtl"],
  [{ name: "articles/hebrew", headline: "שלום עולם", body: { blocks: [paragraph("שלום.")] } }, "rtl"],
  [{ name: "articles/quoted", headline: "BBC: خبر", language: "fa-IR", body: { blocks: [paragraph("خبر.")] } }, "rtl"],
  [{ name: "articles/romanised", headline: "Khabar", language: "fa-Latn", body: { blocks: [paragraph("Khabar.")] } }, "ltr"],
  [{ name: "articles/swedish", headline: "Nyheter", language: "sv", dateline: "Malmö", body: { blocks: [paragraph("Nytt.")] } }, "ltr"],
];

async function directions(origin, node) {
  const page = await open(`${origin}/#/tags`);
  await node.put(...DIRECTIONS.map(([article]) => ({ ...article, dek: article.headline, tags: ["tags/arctic"] })));
  await check("an article runs in the direction of its script", async () => {
    const at = (selector) => page.$$eval(selector, (all) => all.map((each) => {
      const { direction, textAlign } = getComputedStyle(each);
      return [direction, textAlign, getComputedStyle(each, "::first-letter").float];
    }));
    for (const [article, direction] of DIRECTIONS) {
      await go(page, `#/${article.name.replace("articles", "article")}`);
      const opening = direction === "ltr" ? "left" : "none";
      assert.deepEqual(await at(".article-head .dek, .prose > p:not(.dateline)"), [
        [direction, "start", "none"], [direction, "start", opening],
      ], article.name);
      assert.deepEqual((await at(".dateline")).map((each) => each[2]), article.dateline ? ["none"] : [], article.name);
    }
    for (const [hash, item] of [["#/tag/arctic", ".teaser"], ["#/live/tag/arctic", ".live-article"]]) {
      await go(page, hash);
      for (const [article, direction] of DIRECTIONS) {
        const found = await page.$$eval(item, (all, headline) => all
          .filter((each) => each.textContent.includes(headline)).map((each) => getComputedStyle(each).direction), article.headline);
        assert.deepEqual(found, [direction], `${article.name} of ${hash}`);
      }
    }
    await clean(page);
  });
  await page.close();
  for (const [article] of DIRECTIONS) await node.cable(["article", "rm", article.name.split("/")[1]]);
}

async function history(origin) {
  const page = await open(`${origin}/#/tag/russia`, { viewport: PHONE });
  const place = () => page.evaluate(() => Math.round(scrollY));
  const move = async (step) => {
    await page.evaluate((step) => {
      document.querySelector("main").setAttribute("aria-busy", "true");
      window.history.go(step);
    }, step);
    await settled(page);
  };
  await check("back and forward lead to the place that the reader left", async () => {
    await page.evaluate(() => scrollTo(0, 900));
    await go(page, "#/article/silent-weather-stations");
    assert.equal(await place(), 0, "a new view starts at its top");
    await page.evaluate(() => scrollTo(0, 400));
    await go(page, "#/tag/russia");
    assert.equal(await place(), 0, "and so does one that was shown before");
    await move(-1);
    assert.equal(await place(), 400);
    await move(-1);
    assert.equal(await place(), 900);
    await move(1);
    assert.equal(await place(), 400);
    await clean(page);
  });
  await page.close();
}

async function commands(origin, node) {
  const page = await open(`${origin}/#/tags`);
  const bin = path.join(home, "bin");
  fs.mkdirSync(bin);
  fs.symlinkSync(program, path.join(bin, "cable"));
  const serves = async (path) => {
    const response = await fetch(origin + path);
    await response.body.cancel();
    assert.ok(response.ok || usesProxy, `the node serves ${path}`);
    return response.ok;
  };
  const hasJson = await serves("/v1/articles");
  const hasEvents = await serves("/v1/feed?tag=russia");
  await node.cable(["section", "put", "-"], JSON.stringify({ name: "sections/-s", displayName: "S" }));
  await node.cable(["author", "put", "-"], JSON.stringify({ name: "authors/-u", displayName: "U" }));
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/-t", displayName: "T" }));
  await node.put({ name: "articles/-a", headline: "An odd id", path: "/world/[odd]{path}", tags: ["tags/-t"], section: "sections/-s",
    byline: { credits: [{ author: "authors/-u" }] } });
  await node.cable(["collection", "put", "-"], JSON.stringify({ name: "collections/-c", title: "C", articles: ["articles/-a"] }));
  await check("the lines beside the views work as they are", async () => {
    const environment = { PATH: `${bin}:/usr/local/bin:/usr/bin:/bin`, HOME: home };
    // The proxy does not speak HTTP/2, which gRPC needs.
    const run = (line) => finished("bash", ["-c", line.replaceAll(new URL(origin).host, node.host)], "", { cwd: home, env: environment });
    let lines = 0;
    const succeeds = async (line) => {
      const done = await run(line);
      assert.equal(done.status, 0, `${line}: ${done.output}${done.errors}`);
      assert.notEqual(done.output, "", line);
      lines += 1;
      return done.output;
    };
    for (const hash of ["#/", "#/section/region", "#/article/station-lamp-23", "#/author/padraig-solli", "#/tag/russia", "#/tags",
      "#/collection/hedda", "#/path/world/2026/09/silent-weather-stations", "#/section/-s", "#/article/-a", "#/author/-u", "#/tag/-t",
      "#/collection/-c", "#/path/world/[odd]{path}"]) {
      await go(page, hash);
      assert.match((await texts(page, ".command h3")).join(), /^Command line,curl(, without the sections within)?,grpcurl$/, hash);
      const [cable, curl, grpcurl] = await texts(page, ".command code");
      assert.ok(`${cable} `.includes(` --endpoint ${origin} `), cable);
      await succeeds(cable);
      if (hasJson) JSON.parse(await succeeds(`${curl} -fsS`));
      if (process.env.GRPCURL) JSON.parse(await succeeds(grpcurl.replace(/^grpcurl/, process.env.GRPCURL)));
    }
    await go(page, "#/live/tag/-t");
    const odd = await texts(page, ".command code");
    await succeeds(`${odd[0]} --until-caught-up`);
    await succeeds(odd[3]);
    await go(page, "#/live/tag/shipping");
    const [follow, events, watch, change] = await texts(page, ".command code");
    const until = (line) => run(`timeout 3 ${line}`);
    await succeeds(`${follow} --until-caught-up`);
    if (hasEvents) assert.match((await until(events)).output, /event: checkpoint/);
    if (process.env.GRPCURL) assert.match((await until(watch.replace(/^grpcurl/, process.env.GRPCURL))).output, /"checkpoint"/);
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    const headline = await text(page, ".live-article h3");
    await succeeds(change);
    await page.waitForFunction((headline) => document.querySelector(".wire-text a")?.textContent === headline,
      { timeout: LIVE_LIMIT_MILLIS }, `Now: ${headline}`);
    await clean(page);
    return `${lines} lines run${hasJson ? "" : ", without curl: no /v1/articles"}${hasEvents ? "" : ", without curl: no /v1/feed"}${process.env.GRPCURL ? "" : ", without grpcurl"}`;
  });
  await check("a command is copied", async () => {
    await browser.defaultBrowserContext().overridePermissions(origin, ["clipboard-read", "clipboard-write", "clipboard-sanitized-write"]);
    await go(page, "#/tag/russia");
    await page.bringToFront();
    const line = (await texts(page, ".command code"))[1];
    assert.equal(line, `curl '${origin}/v1/articles?tag=russia'`);
    await page.click(".command:nth-of-type(2) .copy");
    await page.waitForFunction(() => document.querySelector(".command:nth-of-type(2) .copy").textContent === "Copied", { timeout: WAIT_MILLIS });
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), line);
    await clean(page);
  });
  await page.close();
}

async function keyboard(origin) {
  const page = await open(`${origin}/`);
  const focused = () => page.evaluate(() => ({
    id: document.activeElement.id, tag: document.activeElement.tagName, text: document.activeElement.textContent.trim(),
  }));
  await check("the keyboard alone reads an article and cuts a connection", async () => {
    await page.bringToFront();
    await page.keyboard.press("Tab");
    assert.equal((await focused()).id, "skip");
    await page.keyboard.press("Enter");
    assert.equal((await focused()).id, "main");
    await page.keyboard.press("Tab");
    const first = await focused();
    assert.equal(first.text, await text(page, ".lead h2"));
    await page.keyboard.press("Enter");
    await page.waitForFunction((title) => document.activeElement.tagName === "H1" && document.activeElement.textContent === title,
      { timeout: WAIT_MILLIS }, first.text);
    await go(page, "#/live/tag/russia");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await page.keyboard.press("Tab");
    assert.equal((await focused()).text, "Cut connection");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid", "the focus is visible");
    await page.keyboard.press("Enter");
    await page.waitForSelector('.live[data-state="cut"]', { timeout: WAIT_MILLIS });
    await page.keyboard.press("Enter");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await clean(page);
  });
  await page.close();
}

const rows = (page) => page.$$eval(".wire-row", (all) => all.map((row) => ({
  revision: row.dataset.revision,
  name: row.dataset.name,
  mark: row.querySelector(".badge").textContent,
  millis: row.dataset.millis === undefined ? null : Number(row.dataset.millis),
  text: row.querySelector(".wire-text").textContent,
})));

async function live(origin, node) {
  const page = await open(`${origin}/#/live/tag/russia`);
  await page.bringToFront();
  await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
  await check("a headline changed by the command line appears on the live page", async () => {
    const taken = [];
    for (let index = 0; index < LIVE_CHANGES; index += 1) {
      const headline = `Lamp at Station 23 burns again, reading ${index + 1}`;
      await node.change("station-lamp-23", { headline });
      await page.waitForFunction((headline) => document.querySelector(".wire-row .wire-text a")?.textContent === headline,
        { timeout: LIVE_LIMIT_MILLIS }, headline);
      const row = await page.waitForSelector(".wire-row:first-child[data-millis]", { timeout: LIVE_LIMIT_MILLIS });
      const [millis, inserted] = await row.evaluate((row) =>
        [Number(row.dataset.millis), window.inserted[row.dataset.revision] - Date.parse(row.querySelector("time").dateTime)]);
      assert.ok(millis >= inserted - 1 && millis < inserted + 1000, `the page shows ${millis} ms, the insertion was after ${inserted} ms`);
      assert.ok(millis < LIVE_LIMIT_MILLIS, `${millis} ms`);
      taken.push(millis);
    }
    const shown = await rows(page);
    assert.equal(shown.length, LIVE_CHANGES);
    assert.ok(shown.every((row) => row.name === "articles/station-lamp-23" && row.mark === "Changed"), JSON.stringify(shown));
    assert.match(shown[0].text, /reading 10 .*reading 11/, "the old headline is struck out beside the new one");
    assert.equal(await text(page, ".live-article:first-child h3"), `Lamp at Station 23 burns again, reading ${LIVE_CHANGES}`);
    taken.sort((a, b) => a - b);
    return `commit to screen: median ${taken[taken.length >> 1]} ms, least ${taken[0]} ms, most ${taken.at(-1)} ms ` +
      `of ${taken.length} (target ${TARGET_MILLIS} ms)`;
  });

  await check("a cut connection loses nothing", async () => {
    // The node counts its feeds now and then.
    await until("the node has one feed", WAIT_MILLIS, async () => (await node.metric("cable_feeds")) === 1);
    const position = (await text(page, ".position")).match(/[0-9a-f]{8}:\d+/)[0];
    const before = await rows(page);
    await page.click(".cut");
    await page.waitForSelector('.live[data-state="cut"]', { timeout: WAIT_MILLIS });
    // The stream is really gone: the node has no follower.
    await until("the node has no feed", WAIT_MILLIS, async () => (await node.metric("cable_feeds")) === 0);
    const ids = (await node.cable(["article", "ls", "--tag", "russia", "-o", "id"])).trim().split("\n");
    const [removed, left, changed] = ids.slice(-3);
    await node.put({ name: "articles/while-cut", headline: "Published while the page was cut off", tags: ["tags/russia"] });
    await node.change(changed, { headline: "Changed once while cut off" });
    await node.change(changed, { headline: "Changed twice while cut off" });
    await node.cable(["article", "rm", removed, "--reason", "withdrawn"]);
    await node.change(left, { tags: ["tags/shipping"] });
    assert.deepEqual(await rows(page), before, "nothing reaches the page");
    await page.click(".cut");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    const fresh = (await rows(page)).slice(0, -before.length);
    // The command line follows the same feed from the same position.
    const followed = await node.cable(["feed", "watch", "--any-tag", "russia", "--after", position, "--until-caught-up", "-o", "jsonl"]);
    const oracle = followed.trim().split("\n").map((line) => JSON.parse(line).change?.revision).filter(Boolean).reverse();
    assert.ok(oracle.length >= 4, `the command line follows the feed: ${JSON.stringify(oracle)}`);
    assert.deepEqual(fresh.map((row) => row.revision), oracle, "every change came exactly once, and in order");
    const marks = Object.fromEntries(fresh.map((row) => [row.name, row.mark]));
    assert.deepEqual(marks, {
      "articles/while-cut": "New",
      [`articles/${changed}`]: "Changed",
      [`articles/${removed}`]: "Removed",
      [`articles/${left}`]: "Left",
    });
    assert.match(fresh.find((row) => row.mark === "Changed").text, /Changed twice/);
    assert.match(fresh.find((row) => row.mark === "Removed").text, /withdrawn/);
    assert.match(await text(page, ".wire-note"), /^Resumed\. 4 changes made meanwhile, nothing lost\.$/);
    await node.change("station-lamp-23", { headline: "And the feed continues" });
    await page.waitForFunction(() => document.querySelector(".wire-row .wire-text a")?.textContent === "And the feed continues",
      { timeout: LIVE_LIMIT_MILLIS });
    const revisions = (await rows(page)).map((row) => row.revision);
    assert.equal(new Set(revisions).size, revisions.length, "no change twice");
    await accessible(page, "the live page");
    await page.evaluate(() => scrollTo(0, 0));
    await picture(page, "live");
    await clean(page);
    return `${fresh.length} changes`;
  });

  await check("the page stays bounded, whatever comes", async () => {
    const articles = Array.from({ length: MAX_ROWS + 10 }, (_, index) =>
      ({ name: `articles/burst-${index}`, headline: `Burst ${index}`, tags: ["tags/russia"] }));
    await node.put(...articles);
    await page.waitForFunction((last) => document.querySelector(".wire-row .wire-text")?.textContent === last,
      { timeout: WAIT_MILLIS }, `Burst ${articles.length - 1}`);
    const [wire, list] = await page.evaluate(() =>
      [document.querySelector(".wire").childElementCount, document.querySelector(".live-articles").childElementCount]);
    assert.equal(wire, MAX_ROWS);
    assert.ok(list <= 40, `${list} articles`);
    await clean(page);
  });

  await check("a long list is extended page by page, up to its bound", async () => {
    await go(page, "#/tag/russia");
    for (let pages = 1; await page.$(".more button"); pages += 1) {
      assert.ok(pages < 20, "the list ends");
      const before = (await page.$$(".list h2")).length;
      await page.click(".more button");
      await page.waitForFunction((before) => document.querySelectorAll(".list h2").length > before, { timeout: WAIT_MILLIS }, before);
    }
    const shown = await page.$$eval(".list h2 a", (all) => all.map((each) => each.getAttribute("href")));
    assert.equal(shown.length, MAX_ROWS);
    const expected = (await node.cable(["article", "ls", "--tag", "russia", "--limit", String(MAX_ROWS), "-o", "id"])).trim().split("\n");
    assert.deepEqual(shown, expected.map((id) => `#/article/${id}`));
    assert.match(await text(page, ".more"), new RegExp(`^The page shows the newest ${shown.length}`));
    await clean(page);
    return `${shown.length} articles`;
  });
  await check("a list that was extended is as long on a return and after a reload", async () => {
    const place = () => page.evaluate(() => [document.querySelectorAll(".list h2").length, Math.round(scrollY)]);
    await page.evaluate(() => document.querySelector(".list").children[150].scrollIntoView());
    const before = await place();
    await go(page, "#/article/station-lamp-23");
    await page.evaluate(() => {
      document.querySelector("main").setAttribute("aria-busy", "true");
      window.history.back();
    });
    await settled(page);
    assert.deepEqual(await place(), before);
    await page.reload();
    await settled(page);
    await page.waitForFunction((top) => Math.abs(scrollY - top) < 2, { timeout: WAIT_MILLIS }, before[1]);
    assert.deepEqual((await place())[0], before[0]);
    await clean(page);
  });

  await check("leaving the page ends its feed", async () => {
    await go(page, "#/live/tag/russia");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await go(page, "#/");
    await until("the node has no feed", WAIT_MILLIS, async () => (await node.metric("cable_feeds")) === 0);
    await clean(page);
  });
  await page.close();
}

/** What becomes of an article on the live page, and what a screen reader is given of it. */
async function changes(origin, node) {
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/desk", displayName: "Desk" }));
  const at = (id, headline, fields = {}) => node.put({ name: `articles/${id}`, headline, tags: ["tags/desk"], ...fields });
  await at("subject", "Alpha secret");
  await at("other", "Another article");
  const page = await open(`${origin}/#/live/tag/desk`);
  await page.bringToFront();
  await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
  const arrived = (number) => page.waitForFunction((number) => document.querySelector(".numbers dd").textContent === String(number),
    { timeout: WAIT_MILLIS }, number);
  const row = '.live-article[data-name="articles/subject"]';
  await check("an article has one row on the live page, and keeps the focus", async () => {
    await page.focus(`${row} a`);
    await at("subject", "Alpha secret", { tags: [] });
    await arrived(1);
    assert.equal(await page.evaluate((row) => document.activeElement === document.querySelector(row), row), true, "a row that is struck has the focus");
    await at("subject", "Beta secret");
    await arrived(2);
    await page.focus(`${row} a`);
    await at("other", "Another article, changed");
    await at("subject", "Gamma secret");
    await arrived(4);
    assert.equal(await page.evaluate((row) => document.activeElement === document.querySelector(`${row} a`), row), true);
    assert.deepEqual(await texts(page, ".live-article h3"), ["Gamma secret", "Another article, changed"]);
    await clean(page);
  });
  await check("a section that is new has its name on the live page", async () => {
    await node.cable(["section", "put", "-"], JSON.stringify({ name: "sections/annex", displayName: "The Annex" }));
    await at("other", "Another article, moved", { section: "sections/annex" });
    await page.waitForFunction(() => document.querySelector(".live-article .kicker")?.textContent.endsWith("The Annex"), { timeout: WAIT_MILLIS });
    await clean(page);
  });
  await check("a kill erases an article from the live page", async () => {
    await at("subject", "Delta secret");
    await page.waitForFunction(() => document.getElementById("announcer").textContent.includes("Delta secret"), { timeout: WAIT_MILLIS });
    await at("subject", "Epsilon secret");
    await node.cable(["article", "rm", "subject", "--reason", "killed"]);
    await arrived(8);
    assert.equal(await page.evaluate(() => document.documentElement.outerHTML.includes("secret")), false);
    assert.equal(await text(page, `${row} h3`), "subject");
    assert.ok((await rows(page)).filter(({ name }) => name === "articles/subject").every(({ text }) => text.startsWith("subject")));
    const before = await page.evaluate(() => window.announced.length);
    await page.waitForFunction(() => window.announced.at(-1).includes("Removed: subject"), { timeout: WAIT_MILLIS });
    assert.ok(!(await page.evaluate((before) => window.announced.slice(before).join(), before)).includes("secret"));
    await clean(page);
  });
  await check("many changes at once are announced with their number", async () => {
    const number = MAX_ROWS + 100;
    await page.click(".cut");
    await page.waitForFunction(() => window.announced.at(-1).includes("Connection cut"), { timeout: WAIT_MILLIS });
    const first = await page.evaluate(() => window.announced.length);
    await node.put(...Array.from({ length: number }, (_, index) => ({ name: `articles/many-${index}`, headline: `Many ${index}`, tags: ["tags/desk"] })));
    await page.click(".cut");
    const resumed = `Resumed. ${number} changes made meanwhile, nothing lost.`;
    await page.waitForFunction((resumed) => window.announced.at(-1).endsWith(resumed), { timeout: WAIT_MILLIS }, resumed);
    const announced = await page.evaluate((first) => window.announced.slice(first), first);
    const counted = announced.map((text) => Number(/^(\d+) changes\. /.exec(text)?.[1] ?? text.match(/New: /g)?.length ?? 0));
    assert.equal(counted.reduce((sum, each) => sum + each), number, JSON.stringify(announced));
    assert.match(announced.join(), new RegExp(`The last: New: Many ${number - 1}\\.`));
    await clean(page);
  });
  await check("the live page of a section has the sections within it", async () => {
    await go(page, "#/live/section/region");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    const expected = (await node.cable(["article", "ls", "--section", "region", "--children", "--limit", "40", "-o", "id"])).trim().split("\n");
    assert.deepEqual(await page.$$eval(".live-article", (all) => all.map((each) => each.dataset.name.replace("articles/", ""))), expected);
    const sections = (await node.cable(["section", "ls", "-o", "jsonl"])).trim().split("\n").map((line) => JSON.parse(line));
    const child = sections.find((section) => section.parent === "sections/region").name;
    await node.put({ name: "articles/within", headline: "From a section within", section: child });
    await page.waitForFunction(() => document.querySelector(".wire-row")?.dataset.name === "articles/within", { timeout: WAIT_MILLIS });
    await clean(page);
  });
  await page.close();
}

async function appearance(origin) {
  const dark = [{ name: "prefers-color-scheme", value: "dark" }];
  const hashes = ["#/", "#/article/storm-hedda-live", "#/article/grain-freight-table", "#/tag/russia", "#/live/tag/russia", "#/tags", "#/token"];
  await check("dark mode is dark, and as accessible", async () => {
    const page = await open(`${origin}/`, { features: dark });
    for (const hash of hashes) {
      await go(page, hash);
      const [red, green, blue] = await page.evaluate(() =>
        getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
      assert.ok(red + green + blue < 150, "the background is dark");
      await accessible(page, `${hash}, dark`);
    }
    await clean(page);
    await page.close();
  });
  await check("a phone shows every page without scrolling sideways", async () => {
    const page = await open(`${origin}/`, { viewport: PHONE, features: dark });
    for (const hash of hashes) {
      await go(page, hash);
      const [wide, view] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(wide <= view, `${hash} is ${wide} px wide on a screen of ${view} px`);
      await accessible(page, `${hash}, phone`);
    }
    await go(page, "#/article/tram-hill-wards");
    await picture(page, "phone");
    await clean(page);
    await page.close();
  });
  await check("on paper, an article has the whole width", async () => {
    const page = await open(`${origin}/#/article/tram-hill-wards`);
    await page.emulateMediaType("print");
    const [view, column] = await page.evaluate(() => [".view", ".view-main"].map((each) => document.querySelector(each).clientWidth));
    assert.equal(column, view);
    await page.close();
  });
  await check("a reader who prefers no motion sees none", async () => {
    for (const [value, moves] of [["no-preference", true], ["reduce", false]]) {
      const page = await open(`${origin}/#/live/tag/russia`, { features: [{ name: "prefers-reduced-motion", value }] });
      await page.bringToFront();
      await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
      assert.equal(await page.evaluate(() => document.getAnimations().length > 0), moves, value);
      await page.close();
    }
  });
}

async function failures(origin, node) {
  await check("failures are in plain words, with a way out", async () => {
    const page = await open(`${origin}/#/article/no-such-article`);
    assert.equal(await text(page, "main h1"), "Nothing here");
    assert.match(await page.$eval(".failure", (each) => each.dataset.failure), /^NOT_FOUND, ARTICLE_NOT_FOUND$/);
    await accessible(page, "not found");
    await go(page, "#/article/all-blocks");
    assert.equal(await text(page, "main h1"), "This is no longer here");
    await node.put({ name: "articles/moving", headline: "Moving" });
    await node.cable(["article", "rm", "moving", "--moved-to", "station-lamp-23"]);
    await go(page, "#/article/moving");
    assert.equal(await text(page, "main h1"), "This has moved");
    await page.click(".failure .button");
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "And the feed continues", { timeout: WAIT_MILLIS });
    for (const [kind, fields] of [["tag", { displayName: "Old" }], ["author", { displayName: "Old" }], ["section", { displayName: "Old" }],
      ["collection", { title: "Old" }]]) {
      await node.cable([kind, "put", "-"], JSON.stringify({ name: `${kind}s/old`, ...fields }));
      await node.cable([kind, "rm", "old", "--moved-to", "new"]);
      await go(page, `#/${kind}/old`);
      assert.equal(await text(page, "main h1"), "This has moved", kind);
      assert.equal(await page.$eval(".failure .button", (link) => link.getAttribute("href")), `#/${kind}/new`);
    }
    await go(page, "#/no/such/page");
    assert.equal(await text(page, "main h1"), "Nothing here");
    await go(page, "#/tag/a%20b");
    assert.equal(await text(page, "main h1"), "The node does not accept this address");
    await clean(page);
    // From here on the browser reports refused calls and the lost network in its console.
    await page.setRequestInterception(true);
    const refuse = (request) => (request.method() === "POST"
      ? request.respond({ status: 403, contentType: "text/plain", body: "origin not allowed: not listed in `web.origins`\n" })
      : request.continue());
    page.on("request", refuse);
    await go(page, "#/tag/shipping");
    assert.equal(await text(page, "main h1"), "The node does not know this address");
    page.off("request", refuse);
    await page.setRequestInterception(false);
    await page.setOfflineMode(true);
    await go(page, "#/tag/climate");
    assert.equal(await text(page, "main h1"), "The node cannot be reached");
    await page.setOfflineMode(false);
    await page.click(".ways button");
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "Climate", { timeout: WAIT_MILLIS });
    await page.close();
  });
  await check("a node that does not respond is waited for in sight", async () => {
    const page = await open(`${origin}/`);
    node.process.kill("SIGSTOP");
    try {
      await page.evaluate(() => { location.hash = "#/tags"; });
      await page.waitForFunction(() => document.title === "Loading…" && window.announced.includes("Loading"), { timeout: WAIT_MILLIS });
      assert.equal(await page.$eval("main", (main) => getComputedStyle(main, "::before").position), "fixed");
    } finally {
      node.process.kill("SIGCONT");
    }
    await page.waitForFunction(() => document.title.startsWith("Tags"), { timeout: WAIT_MILLIS });
    assert.equal(await page.$eval("main", (main) => getComputedStyle(main, "::before").content), "none");
    await clean(page);
    await page.close();
  });
}

async function operations(node) {
  const url = `http://127.0.0.1:${node.operations}/`;
  const dark = [{ name: "prefers-color-scheme", value: "dark" }];
  const wait = (page) => page.waitForSelector("main .tile", { timeout: WAIT_MILLIS });
  const tile = (page, title) => page.evaluate((title) => {
    const found = [...document.querySelectorAll(".tile")].find((tile) => tile.querySelector("h3").textContent === title);
    return { now: found.querySelector(".now").textContent, path: found.querySelector(".plot .line.solid").getAttribute("d") };
  }, title);
  const time = (page) => page.$eval("main time", (time) => time.dateTime);
  /** Reads and changes articles, 400 times and 4 times. */
  const load = async () => {
    const list = `http://${node.host}/v1/articles?page_size=1`;
    for (let i = 0; i < 40; i += 1) {
      await Promise.all(Array.from({ length: 10 }, () => fetch(list).then((response) => response.arrayBuffer())));
      if (i % 10 === 0) await node.change("station-lamp-23", { headline: `Lamp at Station 23, reading ${i}` });
    }
  };
  const page = await open(url, { wait });

  await check("the operations page comes with its policy", async () => {
    const response = await fetch(url);
    const policy = directives(response.headers.get("content-security-policy"));
    assert.equal(policy["default-src"], "'none'");
    for (const name of ["script-src", "style-src"]) assert.match(policy[name], /^'sha256-[\w+/=]+'$/, name);
    assert.equal(await page.title(), "Serving · Cable");
    assert.equal(await text(page, "h1"), "Serving");
    assert.equal(await text(page, ".state p"), "Reads, writes and feeds are served.");
    await clean(page);
  });

  await check("its plots move, and its figures are those of the node", async () => {
    const before = await tile(page, "Calls");
    await load();
    await until("the plot of the calls moves", WAIT_MILLIS, async () => (await tile(page, "Calls")).path !== before.path);
    await until("the table has the calls", WAIT_MILLIS, () => page.evaluate(() =>
      [...document.querySelectorAll("tbody tr")].some((row) => /ContentService\/ListArticles.*OK [\d,]+/.test(row.textContent))));
    const head = String(await node.metric("cable_head_revision"));
    const shown = await until("the page shows the head", WAIT_MILLIS, () => page.evaluate((head) =>
      [...document.querySelectorAll(".facts div")].map((fact) => fact.textContent.replaceAll(",", ""))
        .find((fact) => fact === `Head revision${head}`), head));
    await clean(page);
    return shown;
  });

  await check("a refresh keeps focus, scroll position and selection", async () => {
    await page.bringToFront();
    await page.focus('[aria-label="Calls by method"]');
    await page.evaluate(() => {
      window.kept = document.activeElement;
      scrollTo(0, document.activeElement.getBoundingClientRect().top + scrollY - 200);
      getSelection().selectAllChildren(document.querySelector("h2"));
      window.kept.focus({ preventScroll: true });
    });
    const [place, start] = [await page.evaluate(() => scrollY), await time(page)];
    assert.ok(place > 100, `the page scrolls: ${place}`);
    await until("the page refreshes", WAIT_MILLIS, async () => (await time(page)) !== start);
    const kept = await page.evaluate(() => [document.activeElement === window.kept, scrollY, getSelection().toString()]);
    assert.deepEqual(kept, [true, place, "Head"]);
    await page.evaluate(() => scrollTo(0, 0));
  });

  await check("a keyboard reaches everything, and pauses the page", async () => {
    await page.evaluate(() => document.activeElement.blur());
    await page.reload();
    await wait(page);
    const reached = [];
    for (let i = 0; i < 6; i += 1) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent));
    }
    assert.deepEqual(reached, ["Pause", "Calls by method", "Refusals by reason", "/metrics", "/readyz", "/livez"]);
    await page.focus("#pause");
    await page.keyboard.press("Enter");
    assert.equal(await text(page, "#pause"), "Continue");
    assert.match(await text(page, "#mode"), /^Paused at \d\d:\d\d:\d\d UTC$/);
    const start = await time(page);
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    assert.equal(await time(page), start, "a paused page does not change");
    await page.keyboard.press("Enter");
    await until("the page continues", WAIT_MILLIS, async () => (await time(page)) !== start);
    assert.equal(await page.evaluate(() => document.activeElement.id), "pause", "the focus stays");
    await clean(page);
  });

  await check("it is accessible in light and dark, and fits a phone", async () => {
    await until("the page shows a load", WAIT_MILLIS * 2, async () => {
      await load();
      return (await tile(page, "Calls")).now !== "0/s";
    });
    await accessible(page, "the operations page");
    await page.setViewport({ ...DESKTOP, height: 1500 });
    await page.evaluate(() => {
      document.activeElement.blur();
      scrollTo(0, 0);
    });
    await shoot(page, "operations-page.png");
    await page.setViewport(DESKTOP);
    for (const options of [{ features: dark }, { viewport: PHONE }, { viewport: PHONE, features: dark }]) {
      const other = await open(url, { wait, ...options });
      if (options.features) {
        const paper = await other.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
        assert.ok(paper.reduce((sum, part) => sum + part) < 150, "the background is dark");
      }
      const [wide, view] = await other.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(wide <= view, `the page is ${wide} px wide on a screen of ${view} px`);
      await accessible(other, `the operations page, ${JSON.stringify(options)}`);
      await clean(other);
      await other.close();
    }
  });

  await check("without scripts it has the same figures, and a link that loads it again", async () => {
    const plain = await open(url, { wait, script: false });
    const html = await plain.content();
    assert.match(html, /<h1>Serving<\/h1>/);
    assert.match(html, /<a href="\/">Load again<\/a>/);
    await plain.close();
  });

  await check("a page that receives nothing says since when, until it does", async () => {
    await page.setOfflineMode(true);
    await page.waitForFunction(() => document.getElementById("stale").textContent, { timeout: WAIT_MILLIS });
    assert.match(await text(page, "#stale"), /^No response from the node since \d\d:\d\d:\d\d UTC\. The figures are from then\.$/);
    assert.equal(await page.title(), "No response · Cable");
    await page.setOfflineMode(false);
    await page.waitForFunction(() => !document.getElementById("stale").textContent, { timeout: WAIT_MILLIS });
    assert.equal(await page.title(), "Serving · Cable");
  });
  await page.close();
}

async function tokens() {
  const node = new Node(program, path.join(home, "tokens"), ["--data", "data"]);
  ends.push(() => node.stop());
  const token = (await node.cable(["token", "new", "room", "--role", "editor", "--data", "data"])).trim();
  const publisher = (await node.cable(["token", "new", "cms", "--role", "publisher", "--data", "data"])).trim();
  await node.start();
  await node.cable(["article", "put", "-"], JSON.stringify({ name: "articles/guarded", headline: "A guarded article" }), { CABLE_TOKEN: publisher });
  const origin = await serve(node);
  await check("a node that needs a token asks for it, and the tab alone keeps it", async () => {
    const page = await open(`${origin}/#/article/guarded`);
    assert.equal(await text(page, "main h1"), "This node needs a token");
    await accessible(page, "the token form");
    await page.type("#token", "not-a-token");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector(".failure .dek")?.textContent.includes("does not accept"), { timeout: WAIT_MILLIS });
    const reason = await page.$eval("#token", (input) => [input.ariaInvalid, document.getElementById(input.getAttribute("aria-describedby").split(" ")[0]).textContent]);
    assert.match(reason.join(), /^true,The node does not accept/);
    assert.match(await text(page, "#announcer"), /^This token is not accepted\. The node does not accept/);
    await accessible(page, "a token that is not accepted");
    await page.type("#token", token);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "A guarded article", { timeout: WAIT_MILLIS });
    const stores = await page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length, location.href]);
    assert.deepEqual(stores.slice(0, 3), ["", 0, 1]);
    assert.ok(!(await page.evaluate(() => document.documentElement.outerHTML)).includes(token), "the page does not show the token");
    assert.match((await texts(page, ".command code"))[1], /authorization: Bearer \$CABLE_TOKEN/);
    await go(page, "#/token");
    await page.click(".token-line button[type=button]");
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "This node needs a token", { timeout: WAIT_MILLIS });
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await clean(page);
    await page.close();
  });
  await slips(origin, token);
  await check("a live page whose token is revoked says so, and takes another one", async () => {
    await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/quay", displayName: "Quay" }), { CABLE_TOKEN: publisher });
    const page = await open(`${origin}/#/token`);
    await page.type("#token", token);
    await page.keyboard.press("Enter");
    await page.waitForSelector(".front", { timeout: WAIT_MILLIS });
    await go(page, "#/live/tag/quay");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await node.cable(["token", "revoke", "room", "--data", "data"]);
    await page.waitForSelector('.live[data-state="ended"] #token[aria-invalid]', { timeout: WAIT_MILLIS });
    await page.waitForFunction(() => window.announced.at(-1).includes("Connection ended: This token is not accepted."), { timeout: WAIT_MILLIS });
    await page.type("#token", publisher);
    await page.keyboard.press("Enter");
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await page.close();
  });
}

async function slips(origin, token) {
  await check("what no header can hold is not accepted as a token", async () => {
    const page = await open(`${origin}/`);
    for (const slip of ["ключ", "a b", "x".repeat(20_000)]) {
      await go(page, "#/token");
      await page.$eval("#token", (input, slip) => { input.value = slip; }, slip);
      await page.click(".token-line button[type=submit]");
      await page.waitForFunction(() => document.querySelector(".failure .dek")?.textContent.includes("does not accept"), { timeout: WAIT_MILLIS });
    }
    await clean(page);
    await page.close();
  });
  await check("the room works in a browser that blocks storage", async () => {
    const page = await open(`${origin}/#/article/guarded`, { prepare: () => Object.defineProperty(window, "sessionStorage", {
      get() { throw new DOMException("blocked", "SecurityError"); },
    }) });
    assert.equal(await text(page, "main h1"), "This node needs a token");
    await page.type("#token", token);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("main h1")?.textContent === "A guarded article", { timeout: WAIT_MILLIS });
    await clean(page);
    await page.close();
  });
}

async function restart() {
  const node = new Node(program, path.join(home, "restart"), ["--data", "data"]);
  ends.push(() => node.stop());
  await node.start();
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/quay", displayName: "Quay" }));
  await node.put({ name: "articles/boat", headline: "A boat", tags: ["tags/quay"] });
  const origin = await serve(node);
  await check("the live page survives a restart of the node by itself", async () => {
    const page = await open(`${origin}/#/live/tag/quay`);
    await page.bringToFront();
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await node.change("boat", { headline: "A boat, before" });
    await page.waitForFunction(() => document.querySelectorAll(".wire-row").length === 1, { timeout: WAIT_MILLIS });
    await node.stop();
    await page.waitForSelector('.live[data-state="waiting"]', { timeout: WAIT_MILLIS });
    await page.waitForFunction(() => window.announced.some((text) => text.includes("Connection lost.")), { timeout: WAIT_MILLIS });
    await node.start();
    await node.change("boat", { headline: "A boat, after" });
    await page.waitForFunction(() => document.querySelector('.live[data-state="live"] .wire-row .wire-text a')?.textContent === "A boat, after",
      { timeout: WAIT_MILLIS * 2 });
    assert.deepEqual((await rows(page)).map((row) => row.text), ["A boat, before A boat, after", "A boat A boat, before"]);
    await page.close();
  });
  await check("a live page whose node has another history is read again, as often as that takes", async () => {
    const page = await open(`${origin}/#/live/tag/quay`);
    await page.waitForSelector('.live[data-state="live"]', { timeout: WAIT_MILLIS });
    await node.change("boat", { headline: "A boat of the first history" });
    await page.waitForSelector(".wire-row", { timeout: WAIT_MILLIS });
    let refused = 0;
    await page.setRequestInterception(true);
    page.on("request", (request) => {
      const isFirst = request.url().endsWith("/ListArticles") && refused === 0;
      refused += isFirst ? 1 : 0;
      return isFirst ? request.abort() : request.continue();
    });
    await node.stop();
    fs.rmSync(path.join(node.home, "data"), { recursive: true });
    await node.start();
    await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/quay", displayName: "Quay" }));
    await node.put({ name: "articles/barge", headline: "A barge of the second", tags: ["tags/quay"] });
    await page.waitForFunction(() => document.querySelector('.live[data-state="live"] .live-article')?.textContent.includes("A barge"),
      { timeout: WAIT_MILLIS * 2 });
    assert.equal(refused, 1);
    assert.deepEqual(await texts(page, ".wire > li"), ["The history of the node has changed. The page was read again."]);
    assert.deepEqual(await texts(page, ".numbers dd"), ["0", "–", "–"]);
    await page.waitForFunction(() => window.announced.at(-1).includes("The history of the node has changed."), { timeout: WAIT_MILLIS });
    assert.equal(await page.evaluate(() => window.announced.join().includes("Resumed")), false);
    await page.close();
  });
}

/** The page in web/dist has no links to feeds: a node that has a site adds them. */
async function feeds() {
  const node = new Node(program, path.join(home, "feeds"), ["--data", "data"]);
  ends.push(() => node.stop());
  fs.writeFileSync(path.join(node.home, "cable.toml"), '[site]\nurl = "https://news.example"\nname = "News"\nlanguage = "en"\n');
  await node.start();
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/quay", displayName: "Quay & <shore>" }));
  await node.cable(["tag", "put", "-"], JSON.stringify({ name: "tags/desk", displayName: "Desk", kind: "TAG_KIND_INTERNAL" }));
  await node.cable(["section", "put", "-"], JSON.stringify({ name: "sections/port", displayName: "Port" }));
  await node.cable(["author", "put", "-"], JSON.stringify({ name: "authors/ida", displayName: "Ida" }));
  await node.put({ name: "articles/boat", headline: "A boat", tags: ["tags/quay"] });
  await check("the head of each page leads to the feeds of its list", async () => {
    const page = await open(`http://${node.host}/`);
    const links = () => page.$$eval('head link[rel="alternate"]', (all) => all.map(({ type, title, href }) => ({ type, title, href })));
    const everything = await links();
    assert.deepEqual(everything.map((link) => link.title), ["RSS", "Atom", "JSON Feed"].map((format) => `All articles, ${format}`));
    const cases = [
      ["#/tag/quay", "Quay & <shore>", "tag/quay"], ["#/section/port", "Port", "section/port"], ["#/author/ida", "Ida", "author/ida"],
      ["#/tag/desk", "", ""], ["#/article/boat", "", ""], ["#/tags", "", ""], ["#/tag/quay", "Quay & <shore>", "tag/quay"], ["#/", "", ""],
    ];
    for (const [hash, title, list] of cases) {
      await go(page, hash);
      const shown = await links();
      assert.deepEqual(shown.slice(-3), everything, hash);
      const titles = list ? ["RSS", "Atom", "JSON Feed"].map((format) => `${title}, ${format}`) : [];
      assert.deepEqual(shown.slice(0, -3).map((link) => link.title), titles, hash);
      for (const { type, href } of shown) {
        assert.ok(href.startsWith(`http://${node.host}/feeds/`), href);
        const feed = await fetch(href);
        assert.deepEqual([feed.status, feed.headers.get("content-type")], [200, type], href);
      }
      if (list) assert.deepEqual(shown.slice(0, 3).map((link) => new URL(link.href).pathname), ["rss", "atom", "json"].map((end) => `/feeds/${list}.${end}`));
    }
    await clean(page);
    await page.close();
  });
}

async function picture(page, name) {
  await shoot(page, `reading-room-${name}.png`);
}

/** Writes a picture of the screen to docs/images. */
async function shoot(page, name) {
  if (!takesPictures) return;
  const folder = path.join(root, "docs/images");
  fs.mkdirSync(folder, { recursive: true });
  const file = path.join(folder, name);
  // Pictures that cannot be loaded have given way to their descriptions, and no animation runs.
  await page.waitForFunction(() => [...document.images].every((image) => image.complete || image.loading === "lazy")
    && document.getAnimations().every((each) => each.playState !== "running" || each.effect.getTiming().iterations === Infinity),
    { timeout: WAIT_MILLIS });
  await page.screenshot({ path: file, optimizeForSpeed: false });
  const bytes = fs.statSync(file).size;
  assert.ok(bytes < PICTURE_BYTES, `${file} has ${bytes} bytes`);
  console.log(`    docs/images/${name}: ${Math.round(bytes / 1000)} KB`);
}

let status = 0;
try {
  await main();
} catch (error) {
  status = 1;
  console.error(`FAILED: ${error.stack ?? error}`);
  if (browser) {
    for (const page of await browser.pages().catch(() => [])) {
      if (!page.url().startsWith("http")) continue;
      const shown = await page.$eval("main", (main) => main.innerText.slice(0, 1500)).catch(() => "");
      console.error(`--- ${page.url()}\n${shown}\n${(page.wrongs ?? []).join("\n")}`);
    }
  }
}
for (const end of ends) await Promise.resolve(end()).catch((error) => console.error(error));
fs.rmSync(home, { recursive: true, force: true });
process.exit(status);
