//! Documents from the web: HTTP and HTTPS, with bounds on their size, on redirects and on time.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cable_import::feed::Url;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// The maximum number of redirects of one document.
const MAX_REDIRECTS: usize = 5;

/// The maximum time for one document, with its redirects.
const MAX_TIME: Duration = Duration::from_secs(60);

/// The maximum time for all documents of one command together.
pub(super) const MAX_TOTAL_TIME: Duration = Duration::from_secs(30 * 60);

const USER_AGENT: &str = concat!("cable/", env!("CARGO_PKG_VERSION"));

/// The media types of feeds, the preferred ones first.
const ACCEPT: &str = "application/feed+json, application/atom+xml, application/rss+xml, application/rdf+xml, \
                      application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.9, */*;q=0.1";

/// A document, with its address and its encoding.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// The address of the document, after redirects.
    pub(super) address: Url,
    pub(super) charset: Option<String>,
}

/// Checks that an address is one of HTTP or HTTPS without credentials.
pub(super) fn check(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{url}: not an address of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the address has a user name or a password: download the file, and import that".to_owned()
        );
    }
    Ok(())
}

/// Fetches a document of at most `max_bytes` bytes before `end`, the end of [`MAX_TOTAL_TIME`]. The error states the
/// problem and the address.
pub(super) async fn fetch(url: Url, max_bytes: u64, end: Instant) -> Result<Fetched, String> {
    let shown = url.clone();
    let left = end.saturating_duration_since(Instant::now());
    let fetched = tokio::time::timeout(left.min(MAX_TIME), follow(url, max_bytes)).await;
    fetched.unwrap_or_else(|_| {
        Err(if left < MAX_TIME {
            let minutes = MAX_TOTAL_TIME.as_secs() / 60;
            format!("{shown}: all pages together took more than {minutes} minutes: import the rest by this address")
        } else {
            format!("{shown}: no complete response within {} s", MAX_TIME.as_secs())
        })
    })
}

async fn follow(mut url: Url, max_bytes: u64) -> Result<Fetched, String> {
    for _ in 0..=MAX_REDIRECTS {
        check(&url)?;
        let response = get(&url).await.map_err(|error| format!("{url}: {error}"))?;
        match redirect(&url, &response)? {
            Some(next) => url = next,
            None => return read(url, response, max_bytes).await,
        }
    }
    Err(format!("{url}: more than {MAX_REDIRECTS} redirects"))
}

/// Returns the address to which a response redirects, if it does.
fn redirect<B>(url: &Url, response: &Response<B>) -> Result<Option<Url>, String> {
    let statuses = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !statuses.contains(&response.status()) {
        return Ok(None);
    }
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    let next = next.ok_or_else(|| format!("{url}: a redirect without an address"))?;
    if url.scheme() == "https" && next.scheme() != "https" {
        return Err(format!("{url}: redirects to {next}, which is not encrypted"));
    }
    Ok(Some(next))
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn get(url: &Url) -> Result<Response<Incoming>, Failure> {
    let host = url.host_str().unwrap_or_default();
    // A connection takes the address of IPv6 without brackets.
    let bare = host.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    let tcp = TcpStream::connect((bare, port)).await?;
    if url.scheme() == "http" {
        return send(url, host, tcp).await;
    }
    let name = ServerName::try_from(bare.to_owned())?;
    let tls = connector()?.connect(name, tcp).await?;
    send(url, host, tls).await
}

fn connector() -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other("no CA certificates on this system: install them"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn send<S>(url: &Url, host: &str, stream: S) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response, whose body reports its errors.
    tokio::spawn(connection);
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::get(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, ACCEPT)
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

async fn read(url: Url, response: Response<Incoming>, max_bytes: u64) -> Result<Fetched, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("{url}: the server answered {}", response.status()));
    }
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = text(header::CONTENT_ENCODING);
    if !matches!(encoding, "" | "identity") {
        return Err(format!("{url}: the server compresses with {encoding}, though it was asked not to"));
    }
    let charset = charset(text(header::CONTENT_TYPE)).map_err(|problem| format!("{url}: {problem}"))?;
    let too_large = || format!("{url}: more than {max_bytes} bytes");
    let stated: u64 = text(header::CONTENT_LENGTH).parse().unwrap_or_default();
    if stated > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("{url}: the response was cut off: {error}"))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() as u64 + data.len() as u64 > max_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Fetched { bytes, address: url, charset })
}

/// Returns the encoding that a content type states. The error states that the type is none of a feed.
fn charset(content_type: &str) -> Result<Option<String>, String> {
    let mut parts = content_type.split(';').map(str::trim);
    let r#type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_feed = r#type.ends_with("xml")
        || r#type.ends_with("json")
        || matches!(&*r#type, "" | "text/plain" | "application/octet-stream" | "binary/octet-stream");
    if !is_feed {
        return Err(format!(
            "not a feed: its content type is {}; a page names its feed in <link rel=\"alternate\">",
            r#type.escape_debug()
        ));
    }
    let named = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    // JSON is always UTF-8.
    Ok(named.filter(|name| !name.is_empty() && !r#type.ends_with("json")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// Sends bytes to each connection in turn, and returns the address.
    fn server(answers: Vec<String>) -> Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    request.push(byte[0]);
                }
                let _closed_early = stream.write_all(answer.as_bytes());
            }
        });
        format!("http://{address}/feed").parse().unwrap()
    }

    fn end() -> Instant {
        Instant::now() + MAX_TOTAL_TIME
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_document_has_its_address_and_charset() {
        let url = server(vec![
            answer("302 Found\r\nLocation: /moved?x=1#top", ""),
            answer("200 OK\r\nContent-Type: text/xml; charset=\"ISO-8859-1\"", "<rss/>"),
        ]);
        let fetched = fetch(url, 100, end()).await.unwrap();
        assert_eq!(fetched.bytes, b"<rss/>");
        assert!(fetched.address.as_str().ends_with("/moved?x=1#top"), "{}", fetched.address);
        assert_eq!(fetched.charset.as_deref(), Some("ISO-8859-1"));
    }

    #[tokio::test]
    async fn what_is_no_feed_or_too_much_is_an_error() {
        let redirects = vec![answer("301 Moved\r\nLocation: /again", ""); MAX_REDIRECTS + 1];
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (answers, expected) in [
            (vec![answer("404 Not Found", "")], "the server answered 404 Not Found"),
            (vec![answer("200 OK\r\nContent-Type: text/html", "<p>")], "its content type is text/html"),
            (vec![answer("200 OK\r\nContent-Encoding: br", "x")], "compresses with br"),
            (vec![answer("200 OK", &"x".repeat(101))], "more than 100 bytes"),
            (vec![format!("{chunked}65\r\n{}\r\n0\r\n\r\n", "x".repeat(101))], "more than 100 bytes"),
            (vec![format!("{chunked}5\r\nab")], "the response was cut off"),
            (
                vec![answer("302 Found\r\nLocation: file:///etc/passwd", "")],
                "not an address of http or https",
            ),
            (vec![answer("302 Found", "")], "a redirect without an address"),
            (redirects, "more than 5 redirects"),
        ] {
            let error = fetch(server(answers), 100, end()).await.unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[tokio::test]
    async fn all_pages_have_one_end() {
        // The system accepts the connection, and no response follows.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Url = format!("http://{}/feed", listener.local_addr().unwrap()).parse().unwrap();
        for left in [Duration::ZERO, Duration::from_millis(50)] {
            let error = fetch(url.clone(), 100, Instant::now() + left).await.unwrap_err();
            assert!(error.contains("/feed: all pages together took more than 30 minutes"), "{error}");
        }
    }

    #[test]
    fn the_charset_is_that_of_xml_alone() {
        for (content_type, expected) in [
            ("", None),
            ("text/xml", None),
            ("application/rss+xml; Charset=windows-1252", Some("windows-1252")),
            ("text/plain;a=b; charset = \"utf-16le\"", Some("utf-16le")),
            ("application/xml; charset=", None),
            ("application/feed+json; charset=iso-8859-1", None),
        ] {
            assert_eq!(charset(content_type).unwrap().as_deref(), expected, "{content_type}");
        }
    }

    #[test]
    fn an_encrypted_address_is_never_left() {
        let response = |location: &str| {
            Response::builder().status(301).header(header::LOCATION, location).body(()).unwrap()
        };
        let url = "https://lantern.example/feed".parse().unwrap();
        let next = redirect(&url, &response("/other")).unwrap().unwrap();
        assert_eq!(next.as_str(), "https://lantern.example/other");
        let error = redirect(&url, &response("http://lantern.example/feed")).unwrap_err();
        assert!(error.contains("not encrypted"), "{error}");
        assert!(check(&"https://ana:secret@lantern.example/".parse().unwrap()).is_err());
        assert!(check(&"file:///etc/passwd".parse().unwrap()).is_err());
    }
}
