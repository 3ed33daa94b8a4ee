//! An imported archive, and articles of it whose answers are of much the same size.

use std::path::{Path, PathBuf};

use cable_client::v1;
use prost::Message as _;

use crate::{
    Outcome,
    generate::{self, article_id},
    node::Program,
    wire::Wire,
};

/// So many that a tag has enough for a stream.
const ARTICLES: u64 = 4_000;
pub(crate) const STREAMED: usize = 1_000;
/// The size of the answers to GetArticle that are wanted, nearly.
const SIZE: usize = 6_400;

/// A published archive.
pub(crate) struct Newsroom {
    pub(crate) store: PathBuf,
    /// Names of its articles, those first whose answers are nearest to the size wanted.
    pub(crate) names: Vec<String>,
    /// A tag of enough articles.
    pub(crate) tag: String,
}

impl Newsroom {
    /// Makes and imports it.
    ///
    /// # Errors
    /// It cannot be imported.
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
            sized.push((bytes.abs_diff(SIZE), name));
        }
        node.stop()?;
        sized.sort();
        Ok(Newsroom { store, names: sized.into_iter().map(|(_, name)| name).collect(), tag })
    }
}

/// A request of GetArticle.
pub(crate) fn get(name: &str) -> Vec<u8> {
    let mut request = v1::GetArticleRequest::default();
    name.clone_into(&mut request.name);
    request.encode_to_vec()
}
