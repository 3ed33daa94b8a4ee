//! An imported archive, and articles of it with responses of nearly the same size.

use std::path::{Path, PathBuf};

use cable_client::v1;
use prost::Message as _;

use crate::{
    Outcome,
    generate::{self, article_id},
    node::Program,
    wire::Wire,
};

/// The number of articles: enough for a tag to fill a stream.
const ARTICLES: u64 = 4_000;
pub(crate) const STREAMED: usize = 1_000;
/// The approximate size of the responses to GetArticle in bytes.
const RESPONSE_BYTES: usize = 6_400;

/// A published archive.
pub(crate) struct Newsroom {
    pub(crate) store: PathBuf,
    /// The names of its articles, those with responses nearest to the wanted size first.
    pub(crate) names: Vec<String>,
    /// A tag with enough articles.
    pub(crate) tag: String,
}

impl Newsroom {
    /// Generates and imports the archive.
    ///
    /// # Errors
    /// Fails if it cannot be imported.
    pub(crate) fn publish(program: &Program, dir: &Path) -> Outcome<Newsroom> {
        let path = |name: &str| dir.join(name);
        let archive = generate::write(&path("entities.bin"), &path("articles.bin"), ARTICLES)?;
        let (tag, tagged) = archive.tags.into_iter().next().ok_or("no article has a tag")?;
        if (tagged as usize) < STREAMED {
            return Err("no tag has enough articles".into());
        }
        let store = path("store");
        let node = program.serve(&store, &path("node.log"))?;
        program.import(&path("entities.bin"), &node.endpoint)?;
        program.import(&path("articles.bin"), &node.endpoint)?;
        let address = node.endpoint.trim_start_matches("http://").parse()?;
        let mut wire = Wire::connect(address, "GetArticle")?;
        let mut sized = Vec::new();
        for number in 0..ARTICLES {
            let name = format!("articles/{}", article_id(number));
            let bytes = wire.call(&[get(&name)])?[0].len();
            sized.push((bytes.abs_diff(RESPONSE_BYTES), name));
        }
        node.stop()?;
        sized.sort();
        Ok(Newsroom { store, names: sized.into_iter().map(|(_, name)| name).collect(), tag })
    }
}

/// Returns a request of GetArticle.
pub(crate) fn get(name: &str) -> Vec<u8> {
    let mut request = v1::GetArticleRequest::default();
    name.clone_into(&mut request.name);
    request.encode_to_vec()
}
