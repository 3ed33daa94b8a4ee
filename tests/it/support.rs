//! A node for tests, and small entities to write.

use std::{net::SocketAddr, path::Path, time::Duration};

use cable::{
    clock::Clock,
    config::Config,
    server::{Control, Reload},
};
use cable_client::{Cable, Retry, v1};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// A running node. It drains when it is stopped, and is aborted on drop.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) reload: Reload,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), cable::server::Error>>,
}

impl Node {
    /// Starts a node on a directory, with settings that `change` modifies.
    pub(crate) async fn start_with(dir: &Path, change: impl FnOnce(&mut Config)) -> Node {
        Node::start_on(0, dir, change).await
    }

    /// Does the same as [`start_with`](Node::start_with), on a port that another node had before.
    pub(crate) async fn start_on(port: u16, dir: &Path, change: impl FnOnce(&mut Config)) -> Node {
        Node::run(port, dir, Clock::system(), change).await
    }

    /// Starts a node on a directory, with a clock that the test sets.
    pub(crate) async fn start_at(dir: &Path, clock: Clock) -> Node {
        Node::run(0, dir, clock, |_| {}).await
    }

    /// Does the same, with settings that `change` modifies.
    pub(crate) async fn run(port: u16, dir: &Path, clock: Clock, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = Config::default();
        config.store.dir = dir.to_owned();
        config.store.reserve_bytes = 0;
        config.server.ops_listen = None;
        config.server.drain_timeout = Duration::from_secs(5);
        config.site.url = Some("https://news.example".to_owned());
        (config.site.name, config.site.language) = ("The Packet".to_owned(), "en-GB".to_owned());
        // The tests load the machine, and only those of overload expect a node to refuse calls for it.
        config.overload.max_delay = Duration::from_secs(60);
        change(&mut config);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let reload = Reload::default();
        let stopped = async { drop(stopped.await) };
        let control = Control { reload: reload.clone(), ..stopped.into() };
        let running = tokio::spawn(cable::server::run(config, clock, listener, control));
        Node { address, reload, stop: Some(stop), running }
    }

    pub(crate) async fn start(dir: &Path) -> Node {
        Node::start_with(dir, |_| {}).await
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns a client without retries, so that the test sees the server's own responses.
    pub(crate) fn client(&self) -> Cable {
        Cable::builder(self.endpoint()).retry(Retry::none()).build().unwrap()
    }

    /// Stops the node and waits until it has drained.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.running.await.unwrap().unwrap();
    }
}

/// Returns an article with a headline and tags, by its bare id.
pub(crate) fn article(id: &str, headline: &str, tags: &[&str]) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = format!("articles/{id}");
    article.headline = headline.to_owned();
    article.tags = tags.iter().map(|tag| format!("tags/{tag}")).collect();
    article.body = Some(body(headline));
    article
}

/// Returns a body of one paragraph.
pub(crate) fn body(text: &str) -> v1::Body {
    let mut span = v1::Span::default();
    span.text = text.to_owned();
    let mut paragraph = v1::Paragraph::default();
    paragraph.spans = vec![span];
    let mut block = v1::Block::default();
    block.kind = Some(v1::block::Kind::Paragraph(paragraph));
    let mut body = v1::Body::default();
    body.blocks = vec![block];
    body
}

/// Returns an author, by its bare id.
pub(crate) fn author(id: &str, display_name: &str) -> v1::Author {
    let mut author = v1::Author::default();
    author.name = format!("authors/{id}");
    author.display_name = display_name.to_owned();
    author
}
