//! The token of a client: where it comes from, and the copy that calls send.
//!
//! The copy is replaced while the client runs: a file or a callback is read again when the copy is older than
//! [`MAX_AGE`], or when a server has refused it. A token never appears in an error or in `Debug` output.

use std::{
    error::Error as StdError,
    fmt,
    fs::File,
    future::Future,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{BoxFuture, Error, ErrorKind, Result};

/// The age at which the copy of a token is replaced. A server learns of a new token within five seconds, and a rotation
/// leaves both valid for longer than this.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The longest time for which a source is read. Calls that wait for it must not hang with it.
const MAX_READ_TIME: Duration = Duration::from_secs(5);

/// The longest token. Cable's own have less than 100 bytes; those of other issuers, such as JWTs, have more.
const MAX_BYTES: usize = 4096;

/// A source of the token that authenticates a client.
///
/// Each call sends the token as `authorization: Bearer ...`. Over plaintext, only an endpoint on this machine receives
/// it, unless [`Builder::allow_plaintext_token`](crate::Builder::allow_plaintext_token) is set.
///
/// ```
/// use cable_client::{Cable, Token};
///
/// # std::fs::write(std::env::temp_dir().join("cable-token-doc"), "cable_1_abc").unwrap();
/// # let path = std::env::temp_dir().join("cable-token-doc");
/// let cable = Cable::builder("http://127.0.0.1:7190").token(Token::file(path)).build()?;
/// # Ok::<_, cable_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Text(String),
    Env(String),
    File(PathBuf),
    Callback(Callback),
}

type Cause = Box<dyn StdError + Send + Sync>;
type Callback = Arc<dyn Fn() -> BoxFuture<Result<String, Cause>> + Send + Sync>;

impl Token {
    /// Returns a token that does not change. A program should not contain it: see [`file`](Token::file) and
    /// [`env`](Token::env).
    ///
    /// ```
    /// let token = cable_client::Token::new("cable_7f3a_example");
    /// assert_eq!(format!("{token:?}"), "Token(\"...\")");
    /// ```
    #[must_use]
    pub fn new(token: impl Into<String>) -> Token {
        Token(Source::Text(token.into()))
    }

    /// Returns the token in an environment variable, which is read when the client is built.
    ///
    /// ```
    /// use cable_client::{Cable, ErrorKind, Token};
    ///
    /// let unset = Cable::builder("http://127.0.0.1:7190").token(Token::env("NO_SUCH_VARIABLE")).build();
    /// assert_eq!(unset.unwrap_err().kind(), ErrorKind::Config);
    /// ```
    #[must_use]
    pub fn env(variable: impl Into<String>) -> Token {
        Token(Source::Env(variable.into()))
    }

    /// Returns the token in a file, without white space around it.
    ///
    /// The file is read when the client is built. After that, a call reads it again if 10 s have passed, or if a server
    /// has refused the token, so a rotation needs no restart. If the file cannot be read then, the last token is used.
    ///
    /// ```no_run
    /// use cable_client::{Cable, Token};
    ///
    /// let token = Token::file("/run/secrets/cable-token");
    /// let cable = Cable::builder("https://cable.internal:7190").token(token).build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Token {
        Token(Source::File(path.into()))
    }

    /// Returns the tokens of a function, such as a request to a secret store.
    ///
    /// The first call of the client runs it. After that, a call runs it again if 10 s have passed, or if a server has
    /// refused the token. If it fails then, the last token is used. Before the first token, calls fail with
    /// [`ErrorKind::Credentials`].
    ///
    /// ```
    /// use cable_client::{Cable, Token};
    ///
    /// async fn fetch() -> Result<String, std::io::Error> {
    ///     Ok("cable_7f3a_example".to_owned()) // from a secret store
    /// }
    /// let cable = Cable::builder("http://127.0.0.1:7190").token(Token::from_fn(fetch)).build()?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    pub fn from_fn<F, R, E>(function: F) -> Token
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Cause>,
    {
        Token(Source::Callback(Arc::new(move || {
            let token = function();
            Box::pin(async move { token.await.map_err(Into::into) })
        })))
    }
}

impl fmt::Debug for Token {
    /// Formats the origin of the token, without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Text(_) => f.write_str("Token(\"...\")"),
            Source::Env(variable) => write!(f, "Token(env {variable})"),
            Source::File(path) => write!(f, "Token(file {})", path.display()),
            Source::Callback(_) => f.write_str("Token(callback)"),
        }
    }
}

impl From<&str> for Token {
    /// Converts as [`Token::new`].
    fn from(token: &str) -> Token {
        Token::new(token)
    }
}

impl From<String> for Token {
    /// Converts as [`Token::new`].
    fn from(token: String) -> Token {
        Token::new(token)
    }
}

/// The token of a client in the form in which calls send it.
pub(crate) struct Credentials {
    source: Source,
    copy: RwLock<Option<CachedToken>>,
    /// Held while the source is read.
    reading: Mutex<()>,
}

/// A copy of the token. Its number changes with the token.
#[derive(Clone)]
struct CachedToken {
    header: MetadataValue<Ascii>,
    number: u64,
    read_at: Instant,
}

impl Credentials {
    /// Reads a token that is text, a variable or a file, so that a wrong one is an error of the settings.
    pub(crate) fn new(Token(source): Token) -> Result<Credentials> {
        let header = match &source {
            Source::Text(text) => Some(header(text, "token")?),
            Source::Env(variable) => Some(read_env(variable)?),
            Source::File(path) => Some(read_file(path)?),
            Source::Callback(_) => None,
        };
        let copy = header.map(|header| CachedToken { header, number: 1, read_at: Instant::now() });
        Ok(Credentials { source, copy: RwLock::new(copy), reading: Mutex::default() })
    }

    /// Returns the value of the header `authorization`, and the number of the token. Of several calls that find the copy
    /// too old, one replaces it.
    pub(crate) async fn current(&self) -> Result<(MetadataValue<Ascii>, u64)> {
        let copy = match self.copy() {
            None => {
                let _reading = self.reading.lock().await;
                match self.copy() {
                    Some(copy) => copy,
                    None => self.read().await?,
                }
            }
            Some(copy) if self.can_change() && copy.read_at.elapsed() >= MAX_AGE => {
                match self.reading.try_lock() {
                    Ok(_reading) => self.read().await.unwrap_or(copy),
                    Err(_) => copy,
                }
            }
            Some(copy) => copy,
        };
        Ok((copy.header, copy.number))
    }

    /// Reads the source again because a server has refused the token with this number. Returns whether there is another
    /// token now.
    pub(crate) async fn replace(&self, refused: u64) -> bool {
        if !self.can_change() {
            return false;
        }
        let _reading = self.reading.lock().await;
        match self.copy() {
            Some(copy) if copy.number == refused => {
                self.read().await.is_ok_and(|copy| copy.number != refused)
            }
            _ => true,
        }
    }

    fn can_change(&self) -> bool {
        matches!(self.source, Source::File(_) | Source::Callback(_))
    }

    fn copy(&self) -> Option<CachedToken> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the source and stores the copy. After a failure, the last token counts as read: the next call must not
    /// repeat the failure at once.
    async fn read(&self) -> Result<CachedToken> {
        let read = timeout(MAX_READ_TIME, self.read_source()).await.unwrap_or_else(|_| {
            let message =
                format!("cannot get a token: its source takes more than {} s", MAX_READ_TIME.as_secs());
            Err(Error::new(ErrorKind::Credentials, message))
        });
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        let (last, number) = match &mut *copy {
            Some(last) => {
                last.read_at = Instant::now();
                (Some(&last.header), last.number)
            }
            None => (None, 0),
        };
        let header = read?;
        let number = if last == Some(&header) { number } else { number + 1 };
        Ok(copy.insert(CachedToken { header, number, read_at: Instant::now() }).clone())
    }

    async fn read_source(&self) -> Result<MetadataValue<Ascii>> {
        match &self.source {
            Source::Text(text) => header(text, "token"),
            Source::Env(variable) => read_env(variable),
            Source::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.unwrap_or_else(|error| Err(Error::new(ErrorKind::Credentials, error.to_string())))
            }
            Source::Callback(callback) => match callback().await {
                Ok(text) => header(text.trim(), "token of the callback"),
                Err(error) => {
                    let message = format!("cannot get a token: {error}");
                    Err(Error::new(ErrorKind::Credentials, message).with_source(error))
                }
            },
        }
    }
}

fn read_env(variable: &str) -> Result<MetadataValue<Ascii>> {
    let origin = format!("environment variable {variable}");
    match std::env::var(variable) {
        Ok(text) => header(text.trim(), &origin),
        Err(std::env::VarError::NotPresent) => {
            Err(Error::new(ErrorKind::Config, format!("{origin}: not set")))
        }
        // The error of the standard library has the value.
        Err(_) => Err(Error::new(ErrorKind::Config, format!("{origin}: not visible ASCII characters"))),
    }
}

/// Reads a file. It is a `Config` error if that fails, although the file may have been there before: callers use the
/// last token then.
fn read_file(path: &Path) -> Result<MetadataValue<Ascii>> {
    let origin = format!("token file {}", path.display());
    let mut bytes = Vec::new();
    // One byte more shows that a file is too long, and a line feed may follow the token.
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 2).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(Error::new(ErrorKind::Config, format!("{origin}: {error}")).with_source(error));
    }
    header(String::from_utf8_lossy(&bytes).trim(), &origin)
}

/// Returns the value of the header. The error names the origin of the token, not the token.
fn header(token: &str, origin: &str) -> Result<MetadataValue<Ascii>> {
    let problem = if token.is_empty() {
        "empty".to_owned()
    } else if token.len() > MAX_BYTES {
        format!("longer than {MAX_BYTES} bytes")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "not visible ASCII characters".to_owned()
    } else {
        let value = MetadataValue::try_from(format!("Bearer {token}"));
        let mut value = value.expect("visible ASCII characters are a valid value");
        value.set_sensitive(true);
        return Ok(value);
    };
    Err(Error::new(ErrorKind::Config, format!("{origin}: {problem}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    const CANARY: &str = "cable_1_canary-of-the-token";

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_fails_the_first_call_and_later_leaves_the_last_token() {
        let reads = Arc::new(AtomicUsize::new(0));
        for first_hangs in [true, false] {
            reads.store(usize::from(!first_hangs), SeqCst);
            let reads = reads.clone();
            let source = Token::from_fn(move || {
                let hangs = reads.fetch_sub(1, SeqCst) != 1;
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, std::io::Error>(CANARY.to_owned())
                }
            });
            let credentials = Credentials::new(source).unwrap();
            let start = Instant::now();
            assert_eq!(credentials.current().await.is_err(), first_hangs);
            if first_hangs {
                assert_eq!(start.elapsed(), MAX_READ_TIME);
                continue;
            }
            tokio::time::advance(MAX_AGE).await;
            assert!(credentials.current().await.is_ok(), "the last token is sent");
            assert!(!credentials.replace(1).await);
        }
    }

    #[test]
    fn an_invalid_token_is_refused_without_its_text() {
        let dir = tempfile::tempdir().unwrap();
        for (text, problem) in [
            ("", "empty"),
            (" \n", "empty"),
            (&"x".repeat(MAX_BYTES + 1), "longer than 4096 bytes"),
            (&format!("{CANARY} two"), "not visible ASCII characters"),
            (&format!("{CANARY}\r\nx: y"), "not visible ASCII characters"),
            (&format!("{CANARY}é"), "not visible ASCII characters"),
        ] {
            let path = dir.path().join("token");
            std::fs::write(&path, text).unwrap();
            let fixed = Credentials::new(Token::new(text.trim())).err().unwrap();
            let file = Credentials::new(Token::file(&path)).err().unwrap();
            assert_eq!(fixed.to_string(), format!("token: {problem}"));
            assert_eq!(file.to_string(), format!("token file {}: {problem}", path.display()));
            for error in [fixed, file] {
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            }
        }
        let missing = Credentials::new(Token::file(dir.path().join("none"))).err().unwrap();
        assert!(missing.to_string().ends_with("none: No such file or directory (os error 2)"), "{missing}");
        assert!(Credentials::new(Token::env("CABLE_NO_SUCH_VARIABLE")).is_err());
    }

    #[tokio::test]
    async fn the_longest_token_is_accepted_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, format!("{}\n", "x".repeat(MAX_BYTES))).unwrap();
        let credentials = Credentials::new(Token::file(&path)).unwrap();
        assert_eq!(credentials.current().await.unwrap().0.len(), "Bearer ".len() + MAX_BYTES);
    }

    #[test]
    fn debug_output_has_the_origin_of_a_token_alone() {
        for (token, text) in [
            (Token::from(CANARY), "Token(\"...\")"),
            (Token::from(CANARY.to_owned()), "Token(\"...\")"),
            (Token::env("CABLE_TOKEN"), "Token(env CABLE_TOKEN)"),
            (Token::file("/run/token"), "Token(file /run/token)"),
            (Token::from_fn(|| async { Ok::<_, Error>(CANARY.to_owned()) }), "Token(callback)"),
        ] {
            assert_eq!(format!("{token:?}"), text);
        }
        assert!(!format!("{:?}", header(CANARY, "token").unwrap()).contains("canary"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_the_copy_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let credentials = Credentials::new(Token::file(&path)).unwrap();
        let sent = async || credentials.current().await.unwrap();
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(sent().await, ("Bearer first".parse().unwrap(), 1));
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(sent().await, ("Bearer second".parse().unwrap(), 2));
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(MAX_AGE).await;
        assert_eq!(sent().await, ("Bearer second".parse().unwrap(), 2));
        assert!(!credentials.replace(2).await);
        std::fs::write(&path, "third").unwrap();
        assert!(credentials.replace(1).await, "the second token was not refused");
        assert_eq!(sent().await.1, 2);
        assert!(credentials.replace(2).await);
        assert_eq!(sent().await, ("Bearer third".parse().unwrap(), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_callback_runs_once_for_many_calls() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let callback = move || {
            let run = counted.fetch_add(1, SeqCst);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if run == 0 { Err("secret store is sealed".to_owned()) } else { Ok(format!("{CANARY}{run}")) }
            }
        };
        let credentials = Credentials::new(Token::from_fn(callback)).unwrap();
        let error = credentials.current().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "cannot get a token: secret store is sealed");
        let calls = futures_util::future::join_all((0..20).map(|_| credentials.current())).await;
        assert!(calls.into_iter().all(|call| call.unwrap().1 == 1));
        assert_eq!(runs.load(SeqCst), 2);
    }
}
