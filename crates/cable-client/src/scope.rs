//! The options of the calls of one clone of a client: metadata and a timeout.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use tonic::metadata::{Ascii, AsciiMetadataKey, MetadataMap, MetadataValue};

use crate::{Cable, Error, ErrorKind, Result};

/// The largest number of metadata entries of a clone: a server limits the size of all headers of a call.
const MAX_ENTRIES: usize = 32;
/// The names that the transport and the client set.
const RESERVED: [&str; 6] = ["authorization", "connection", "content-type", "host", "te", "user-agent"];

/// The options of the calls of one clone.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) metadata: MetadataMap,
    pub(crate) timeout: Duration,
}

impl Cable {
    /// Returns a client whose calls carry this metadata too, such as a request id. It shares the connections of this
    /// client, whose own calls are unchanged.
    ///
    /// ```
    /// use cable_client::Cable;
    ///
    /// let cable = Cable::builder("http://127.0.0.1:7190").build()?;
    /// let traced = cable.with_metadata("x-request-id", "4711")?;
    /// // traced.article("storm").await?;
    /// # assert!(cable.with_metadata("authorization", "Bearer x").is_err());
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the name is not one of a header, ends with `-bin` (binary metadata) or is reserved
    /// (`authorization`, `grpc-...`); the value is not visible ASCII; or there are more than 32 entries.
    pub fn with_metadata(&self, name: &str, value: &str) -> Result<Cable> {
        let invalid = |problem: &str| {
            Error::new(ErrorKind::Config, format!("metadata `{}`: {problem}", name.escape_debug()))
        };
        let key = AsciiMetadataKey::from_str(name).map_err(|_| invalid("not the name of a text header"))?;
        if RESERVED.contains(&key.as_str()) || key.as_str().starts_with("grpc-") {
            return Err(invalid("reserved"));
        }
        // The message does not repeat the value, which can be a secret.
        let is_text = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let value: MetadataValue<Ascii> = match value.parse() {
            Ok(value) if is_text => value,
            _ => return Err(invalid("value is not visible ASCII")),
        };
        let mut scope = Scope::clone(&self.scope);
        scope.metadata.insert(key, value);
        if scope.metadata.len() > MAX_ENTRIES {
            return Err(invalid("more than 32 entries"));
        }
        Ok(Cable { shared: Arc::clone(&self.shared), scope: Arc::new(scope) })
    }

    /// Returns a client with another timeout for its calls. It shares the connections of this client, whose own calls are
    /// unchanged. A timeout of the call itself, such as [`GetArticle::timeout`](crate::GetArticle::timeout), takes
    /// precedence.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cable_client::Cable;
    ///
    /// let cable = Cable::builder("http://127.0.0.1:7190").build()?;
    /// let patient = cable.with_timeout(Duration::from_secs(60));
    /// // patient.status().await?;
    /// # Ok::<_, cable_client::Error>(())
    /// ```
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Cable {
        let scope = Scope { timeout, metadata: self.scope.metadata.clone() };
        Cable { shared: Arc::clone(&self.shared), scope: Arc::new(scope) }
    }

    /// Returns the timeout of the calls of this client.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.scope.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_metadata_is_refused_without_its_value() {
        let cable = Cable::builder("http://127.0.0.1:1").build().unwrap();
        let reserved = RESERVED.map(|name| (name, "x"));
        let invalid = [
            ("", "x"),
            ("a b", "x"),
            ("x-\u{1b}", "x"),
            ("x-data-bin", "x"),
            ("Authorization", "x"),
            ("grpc-timeout", "1S"),
            ("x-id", "canary\n"),
            ("x-id", "canary\u{e9}"),
            ("x-id", "canary\t"),
        ];
        for (name, value) in reserved.into_iter().chain(invalid) {
            let error = cable.with_metadata(name, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }

    #[test]
    fn metadata_is_added_up_to_a_limit_and_replaced_by_name() {
        let mut cable = Cable::builder("http://127.0.0.1:1").build().unwrap();
        for entry in 0..MAX_ENTRIES {
            cable = cable.with_metadata(&format!("x-{entry}"), "one").unwrap();
        }
        cable = cable.with_metadata("x-0", "two").unwrap();
        assert_eq!(cable.scope.metadata.get("x-0").unwrap(), "two");
        assert!(cable.with_metadata("x-more", "one").is_err());
    }
}
