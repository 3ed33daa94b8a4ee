//! `cable import feed`: from files, and from a server on loopback, with and without TLS.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Output,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
};

use crate::support::{Demo, cable, code, stderr, stdout};

const RSS: &str = "<?xml version='1.0'?>
<rss version='2.0'><channel><title>Lantern</title><link>https://lantern.example/</link>
<item><guid isPermaLink='false'>rss-1</guid><title>Nets</title><link>https://lantern.example/nets/</link>
  <pubDate>Sat, 02 May 2026 08:00:00 +0000</pubDate><author>Marta Fenn</author><category>Eel</category>
  <description>&lt;p&gt;The fleet waits.&lt;/p&gt;</description></item>
<item><title>Without a time</title><link>https://lantern.example/timeless/</link></item>
<item><title>Nothing names this</title></item>
<item><guid>rss-1</guid><title>Nets, earlier</title><pubDate>Fri, 01 May 2026 08:00:00 +0000</pubDate></item>
<item><guid>rss-2</guid><title>Damaged<br></title></item>
</channel></rss>";

const ATOM: &str = "<feed xmlns='http://www.w3.org/2005/Atom'><id>tag:harbour.example,2026:feed</id><title>Harbour</title>
<link href='https://harbour.example/'/><author><name>Jo Reed</name></author>
<entry><id>tag:harbour.example,2026:1</id><title>Tides</title><link href='https://harbour.example/tides'/>
  <updated>2026-05-02T08:00:00Z</updated><content type='html'>&lt;p&gt;High at &lt;b&gt;noon&lt;/b&gt;.&lt;/p&gt;</content></entry>
<entry><title>Nothing names this</title></entry></feed>";

const JSON: &str = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "Gulls", "home_page_url": "https://gulls.example/",
 "items": [{"id": "1", "url": "https://gulls.example/one", "title": "One gull", "content_text": "It flew.",
 "date_published": "2026-05-02T08:00:00Z", "tags": ["Gull"]}, {"content_text": "Nothing names this."}, 7]}"#;

/// Runs `cable import feed` with a report. Returns the output and the lines of the report.
fn import(demo: &Demo, dir: &Path, line: &str) -> (Output, Vec<Value>) {
    let output = demo.run(dir, &format!("import feed {line} --report report.jsonl"));
    let report = fs::read_to_string(dir.join("report.jsonl")).unwrap();
    (output, report.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Returns the outcomes in a report, in order.
fn outcomes(report: &[Value]) -> Vec<&str> {
    report.iter().map(|line| line["outcome"].as_str().unwrap()).collect()
}

/// Returns the parts of the status that each write changes.
fn state(demo: &Demo, dir: &Path) -> [Value; 3] {
    let status: Value = serde_json::from_str(&stdout(&demo.run(dir, "status -o json"))).unwrap();
    ["head", "contentDigest", "logDigest"].map(|key| {
        assert!(!status[key].is_null(), "{key} in {status}");
        status[key].clone()
    })
}

/// Returns the article with a headline.
fn article(demo: &Demo, dir: &Path, headline: &str) -> Value {
    let output = demo.run(dir, "export --to all.jsonl");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let all = fs::read_to_string(dir.join("all.jsonl")).unwrap();
    let articles = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["article"].clone());
    let mut found = articles.filter(|article| article["headline"] == headline);
    found.next().unwrap_or_else(|| panic!("no article {headline:?} in {all}"))
}

/// Returns the numbers of a row of the table, such as `articles`, in the order of the columns.
fn row(output: &Output, name: &str) -> Vec<u64> {
    let table = stdout(output);
    let row = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let row = row.unwrap_or_else(|| panic!("no {name} in {table}{}", stderr(output)));
    row.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn every_item_has_its_line_and_a_second_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    for (file, content, expected, written) in [
        ("rss.xml", RSS, &["converted", "converted", "failed", "skipped", "failed"][..], 2),
        ("atom.xml", ATOM, &["converted", "failed"], 1),
        ("feed.json", JSON, &["converted", "failed", "failed"], 1),
    ] {
        fs::write(dir.path().join(file), content).unwrap();
        let (output, report) = import(&demo, dir.path(), file);
        assert_eq!(outcomes(&report), expected, "{file}: {report:#?}");
        // An item that fails is reported, and the exit code is 1, as in the reference.
        assert_eq!(code(&output), 1, "{file}");
        let failed = expected.iter().filter(|outcome| **outcome == "failed").count();
        assert_eq!(stderr(&output), format!("cable: {failed} items failed or were refused\n"), "{file}");
        let nameless = report.iter().find(|line| line["outcome"] == "failed").unwrap();
        let message = nameless["message"].as_str().unwrap();
        assert!(message.contains("nothing identifies it in a later import"), "{file}: {message}");
        assert_eq!(row(&output, "articles"), [written, 0, 0, 0], "{file}");
        let before = state(&demo, dir.path());
        let (output, again) = import(&demo, dir.path(), file);
        assert_eq!(again, report, "{file}");
        assert_eq!(row(&output, "articles"), [0, written, 0, 0], "{file}");
        assert_eq!(state(&demo, dir.path()), before, "{file}");
    }
    let nets = article(&demo, dir.path(), "Nets");
    assert_eq!(nets["path"], "/nets/");
    assert_eq!(nets["publishTime"], "2026-05-02T08:00:00Z");
    assert_eq!(nets["tags"], serde_json::json!(["tags/eel"]));
    assert_eq!(nets["body"]["blocks"][0]["paragraph"]["spans"][0]["text"], "The fleet waits.");
    let timeless = article(&demo, dir.path(), "Without a time");
    assert!(timeless["firstPublishTime"].as_str() > Some("2026"), "{timeless}");
    assert_eq!(article(&demo, dir.path(), "Tides")["byline"]["credits"][0]["displayName"], "Jo Reed");
    assert_eq!(article(&demo, dir.path(), "One gull")["altIds"][0]["value"], "1");
}

#[test]
fn a_changed_item_is_updated_and_an_edited_article_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let feed = |nets: &str, tides: &str| {
        let item = |id: &str, title: &str| {
            format!(
                "<item><guid>{id}</guid><title>{title}</title><pubDate>Sat, 02 May 2026 08:00:00 GMT</pubDate></item>"
            )
        };
        let items = item("nets", nets) + &item("tides", tides);
        fs::write(dir.path().join("rss.xml"), format!("<rss><channel>{items}</channel></rss>")).unwrap();
    };
    feed("Nets", "Tides");
    let (output, _) = import(&demo, dir.path(), "rss.xml");
    assert_eq!((code(&output), row(&output, "articles")), (0, vec![2, 0, 0, 0]), "{}", stderr(&output));

    let mut nets = article(&demo, dir.path(), "Nets");
    nets["headline"] = "Nets, edited".into();
    let edited = serde_json::json!({"name": nets["name"], "headline": "Nets, edited"});
    fs::write(dir.path().join("edited.json"), edited.to_string()).unwrap();
    let output = demo.run(dir.path(), "article put edited.json");
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    feed("Nets, changed", "Tides, changed");
    let before = state(&demo, dir.path());
    let (output, report) = import(&demo, dir.path(), "rss.xml --dry-run");
    assert_eq!((code(&output), row(&output, "articles")), (0, vec![1, 0, 1, 0]), "{}", stderr(&output));
    assert_eq!(stderr(&output), "dry run: nothing was written\n");
    assert_eq!(state(&demo, dir.path()), before);

    let (output, again) = import(&demo, dir.path(), "rss.xml");
    assert_eq!((code(&output), row(&output, "articles")), (0, vec![1, 0, 1, 0]), "{}", stderr(&output));
    assert_eq!(again, report, "a dry run reports what an import does");
    assert_eq!(outcomes(&report), ["converted", "converted", "kept"]);
    assert_eq!(report[2]["label"], nets["name"]);
    article(&demo, dir.path(), "Nets, edited");
    article(&demo, dir.path(), "Tides, changed");

    let (output, _) = import(&demo, dir.path(), "rss.xml --overwrite");
    assert_eq!(row(&output, "articles"), [1, 1, 0, 0], "{}", stderr(&output));
    article(&demo, dir.path(), "Nets, changed");
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    fs::write(dir.path().join("atom.xml"), ATOM).unwrap();
    let before = state(&demo, dir.path());
    let (output, report) = import(&demo, dir.path(), "atom.xml --dry-run");
    assert_eq!((code(&output), outcomes(&report)), (1, vec!["converted", "failed"]));
    assert_eq!(row(&output, "articles"), [1, 0, 0, 0]);
    assert_eq!(state(&demo, dir.path()), before);
}

#[test]
fn two_feeds_have_prefixes_and_links_can_be_canonical() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    fs::write(dir.path().join("feed.json"), JSON).unwrap();
    import(&demo, dir.path(), "feed.json --prefix gulls --canonical");
    let gull = article(&demo, dir.path(), "One gull");
    assert!(gull["name"].as_str().unwrap().starts_with("articles/gulls-feed-1-"), "{gull}");
    assert_eq!((&gull["path"], &gull["canonicalUrl"]), (&Value::Null, &"https://gulls.example/one".into()));
    assert_eq!(gull["tags"], serde_json::json!(["tags/gulls-gull"]));
}

#[test]
fn what_is_no_feed_is_an_error_and_what_was_cut_off_is_imported_so_far() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let before = state(&demo, dir.path());
    fs::write(dir.path().join("page.html"), "<!DOCTYPE html><html><body>").unwrap();
    for (from, exit_code, problem) in [
        ("page.html", 1, "page.html: not a feed: a page of HTML: give the address of its feed"),
        ("missing.xml", 1, "read missing.xml: No such file or directory"),
        ("http://127.0.0.1:1/feed", 1, "http://127.0.0.1:1/feed: Connection refused"),
        ("ftp://lantern.example/feed", 1, "ftp://lantern.example/feed: not an address of http or https"),
        ("https://ana:secret@lantern.example/feed", 1, "the address has a user name or a password"),
        ("page.html --utc-offset soon", 2, "must be an offset"),
    ] {
        let output = demo.run(dir.path(), &format!("import feed {from}"));
        assert_eq!(code(&output), exit_code, "{from}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{from}: {}", stderr(&output));
        assert!(!stderr(&output).contains("secret"), "{from}: {}", stderr(&output));
    }
    assert_eq!(state(&demo, dir.path()), before);
    let cut = &RSS[..RSS.find("<title>Nothing").unwrap()];
    fs::write(dir.path().join("cut.xml"), cut).unwrap();
    let (output, report) = import(&demo, dir.path(), "cut.xml");
    assert_eq!((code(&output), outcomes(&report)), (1, vec!["converted", "converted", "failed"]));
    assert!(stderr(&output).contains("cut.xml: the feed cannot be read to its end"), "{}", stderr(&output));
    article(&demo, dir.path(), "Nets");
}

/// Responses by the target of their request. They are whole, with their heads.
type Site = HashMap<&'static str, Vec<u8>>;

fn response(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Responds to one request.
fn answer(site: &Site, mut stream: impl Read + Write) -> std::io::Result<()> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).unwrap_or_default();
    match site.get(target) {
        Some(response) => stream.write_all(response),
        None => stream.write_all(&response("404 Not Found", b"")),
    }?;
    stream.flush()
}

/// Serves a site on loopback until the test ends. Returns its port.
fn serve(site: Site, tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { break };
            // A client that does not accept the certificate closes the connection.
            let _closed_early = match &tls {
                Some(tls) => {
                    let connection = ServerConnection::new(tls.clone()).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    answer(&site, &mut stream).and_then(|()| {
                        stream.conn.send_close_notify();
                        stream.flush()
                    })
                }
                None => answer(&site, stream),
            };
        }
    });
    port
}

fn json_page(id: &str, next: &str) -> Vec<u8> {
    let items = serde_json::json!([{"id": id, "title": id, "date_published": "2026-05-02T08:00:00Z"}]);
    let page =
        serde_json::json!({"version": "https://jsonfeed.org/version/1.1", "next_url": next, "items": items});
    response("200 OK\r\nContent-Type: application/feed+json", page.to_string().as_bytes())
}

#[test]
fn all_pages_of_an_address_are_imported() {
    let first = "<rss xmlns:a='http://www.w3.org/2005/Atom'><channel><a:link rel='next' href='?page=2'/>\
                 <item><guid>first</guid><title>K\u{fc}ste</title><link>a/</link>\
                 <pubDate>Sat, 02 May 2026 08:00:00 GMT</pubDate></item></channel></rss>";
    let first: Vec<u8> = first.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let second = "<rss><channel><item><guid>second</guid><title>Second</title>\
                  <pubDate>Sat, 02 May 2026 08:00:00 GMT</pubDate></item></channel></rss>";
    let xml = "200 OK\r\nContent-Type: application/rss+xml; charset=ISO-8859-1";
    let site = Site::from([
        ("/old", response("301 Moved\r\nLocation: /news/feed", b"")),
        ("/news/feed", response(xml, &first)),
        ("/news/feed?page=2", response("200 OK\r\nContent-Type: text/xml", second.as_bytes())),
        ("/missing", json_page("before the missing page", "/none")),
        ("/abroad", json_page("at home", "http://127.0.0.9/feed")),
        ("/astray", json_page("before the redirect", "/moved")),
        ("/moved", response("302 Found\r\nLocation: http://localhost:1/feed", b"")),
        ("/loop", json_page("once", "/loop#again")),
        ("/page", response("200 OK\r\nContent-Type: text/html; charset=utf-8", b"<p>")),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    let host = format!("http://127.0.0.1:{}", serve(site, None));
    let (output, report) = import(&demo, dir.path(), &format!("{host}/old"));
    assert_eq!((code(&output), outcomes(&report)), (0, vec!["converted"; 2]), "{}", stderr(&output));
    assert_eq!(article(&demo, dir.path(), "K\u{fc}ste")["path"], "/news/a/");
    article(&demo, dir.path(), "Second");
    let before = state(&demo, dir.path());
    let (output, _) = import(&demo, dir.path(), &format!("{host}/old"));
    assert_eq!((row(&output, "articles"), state(&demo, dir.path())), (vec![0, 2, 0, 0], before));

    for (path, exit_code, lines, problem) in [
        ("/missing", 1, 1, "/none: the server answered 404 Not Found"),
        ("/abroad", 0, 1, "the next page, http://127.0.0.9/feed, is not imported: it is on another host"),
        ("/astray", 1, 1, "http://localhost:1/feed: "),
        ("/loop", 0, 1, "is not imported: it was read already"),
        ("/page", 1, 0, "not a feed: its content type is text/html"),
    ] {
        let (output, report) = import(&demo, dir.path(), &format!("{host}{path}"));
        assert_eq!((code(&output), report.len()), (exit_code, lines), "{path}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{path}: {}", stderr(&output));
    }
    article(&demo, dir.path(), "before the missing page");
}

#[test]
fn https_takes_the_certificates_of_the_system_alone() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let node = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = node.signed_by(&key, &authority).unwrap().der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let site = Site::from([
        ("/feed", json_page("encrypted", "")),
        ("/plain", response("302 Found\r\nLocation: http://localhost/feed", b"")),
    ]);
    let host = format!("https://localhost:{}", serve(site, Some(Arc::new(config))));
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::serve(dir.path(), "store");
    fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    let stranger = CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate().unwrap());
    fs::write(dir.path().join("stranger.pem"), stranger.unwrap().pem()).unwrap();
    let import = |path: &str, roots: &str| {
        let mut command = cable(dir.path());
        command.args(["import", "feed", &format!("{host}{path}")]).env("CABLE_ENDPOINTS", &demo.endpoint);
        command.env("SSL_CERT_FILE", dir.path().join(roots)).output().unwrap()
    };
    for (path, roots, problem) in [
        ("/feed", "stranger.pem", "invalid peer certificate"),
        ("/plain", "ca.pem", "redirects to http://localhost/feed, which is not encrypted"),
    ] {
        let output = import(path, roots);
        assert_eq!(code(&output), 1, "{path}");
        assert!(stderr(&output).contains(problem), "{path}: {}", stderr(&output));
    }
    let output = import("/feed", "ca.pem");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    article(&demo, dir.path(), "encrypted");
}
