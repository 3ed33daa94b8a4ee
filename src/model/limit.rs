//! Every bound that a request can meet, in one place. `GetStatus` reports them under these names.

/// A bound: the largest value allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Its public name; it ends with its unit, if it is not a count.
    pub(crate) name: &'static str,
    pub(crate) maximum: u64,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $ident:ident = $name:literal $maximum:expr;)*) => {
        $($(#[$doc])* pub(crate) const $ident: Limit = Limit { name: $name, maximum: $maximum };)*
        /// All of them.
        pub(crate) const ALL: &[Limit] = &[$($ident),*];
    };
}

limits! {
    /// With it and all that an article can include, no answer comes near the 4 MiB of a default client.
    ARTICLE = "article_bytes" 1 << 20;
    /// 64 authors fit into 1 MiB of includes.
    AUTHOR = "author_bytes" 16 << 10;
    SECTION = "section_bytes" 8 << 10;
    /// 128 tags fit into 1 MiB of includes.
    TAG = "tag_bytes" 8 << 10;
    COLLECTION = "collection_bytes" 128 << 10;
    /// A body as HTML, Markdown or plain text: what the server renders must fit an answer too.
    RENDERED = "rendered_body_bytes" 1 << 20;
    /// An article with its body rendered: beside all that it can include, 2.2 MiB, it fits the 3.5 MiB of a response.
    RENDERED_ARTICLE = "rendered_article_bytes" (1 << 20) + (64 << 10);
    /// The HTML of one block.
    RAW_HTML = "raw_html_bytes" 64 << 10;
    /// Start tags in the HTML of one block: a table of 60 rows by 30 columns has 1,861.
    RAW_HTML_TAGS = "raw_html_tags" 2_000;
    /// Steps that a parser takes for the HTML of one block, and of a whole body: some 20 ms.
    RAW_HTML_STEPS = "raw_html_steps" 1_000_000;
    /// The HTML of all blocks of a body.
    RAW_HTML_BODY = "raw_html_body_bytes" 256 << 10;
    READ_REQUEST = "read_request_bytes" 128 << 10;
    WRITE_REQUEST = "write_request_bytes" 4 << 20;
    /// Health checks and reflection.
    CHECK_REQUEST = "check_request_bytes" 4 << 10;
    PAGE_SIZE = "page_size" 1_000;
    /// Pages and batches end here; one article more may go over it.
    PAGE = "page_bytes" 2 << 20;
    /// Stored content that is read for one page or batch: what a view leaves out or renders short costs its reading all
    /// the same. The page ends there.
    PAGE_READ = "page_read_bytes" 12 << 20;
    BATCH = "batch_names" 500;
    COMMIT = "commit_changes" 500;
    COMMIT_BYTES = "commit_bytes" 3 << 20;
    /// Stored articles that a commit replaces or patches, together: each is read, and a patched one is checked whole.
    COMMIT_READ = "commit_read_bytes" 12 << 20;
    IMPORT = "import_records" 1_000;
    /// Each path of a mask is looked up in the schema; an article has half as many fields.
    MASK = "update_mask_paths" 64;
    FILTER = "filter_names" 64;
    FILTER_TYPES = "filter_types" 16;
    ID = "id_bytes" 128;
    REQUEST_ID = "request_id_bytes" 128;
    TAGS = "tags" 128;
    CREDITS = "credits" 64;
    ADDITIONAL_SECTIONS = "additional_sections" 16;
    /// Elements of all lists of an article, or of another write's request: what takes two bytes on the wire takes up to
    /// two hundred in memory.
    ELEMENTS = "elements" 80_000;
    BLOCKS = "blocks" 10_000;
    BLOCK_DEPTH = "block_depth" 16;
    ALIAS_PATHS = "alias_paths" 256;
    NOTICES = "notices" 256;
    RELATED = "related" 256;
    ALT_IDS = "alt_ids" 64;
    ANNOTATIONS = "annotations" 64;
    ANNOTATIONS_BYTES = "annotations_bytes" 16 << 10;
    COLLECTION_ARTICLES = "collection_articles" 500;
    SOCIAL_PROFILES = "social_profiles" 32;
    EXTERNAL_IDS = "external_ids" 64;
    AUTHOR_ALT_IDS_BYTES = "author_alt_ids_bytes" 8 << 10;
    SPAN = "cell_span" 1_000;
    /// Names of platforms, kinds, roles and the like.
    TOKEN = "token_bytes" 128;
    /// Headline, kicker, display names, titles.
    LINE = "line_bytes" 1 << 10;
    PATH = "path_bytes" 1 << 10;
    URL = "url_bytes" 2_048;
    /// Dek, summary, taglines, descriptions.
    PARAGRAPH = "paragraph_bytes" 4 << 10;
    /// Bios and notices.
    BIO = "bio_bytes" 8 << 10;
    MAX_WAIT_MS = "max_wait_ms" 10_000;
}

/// Bytes of one message of a stream, encoded: a client with the default limit of 4 MiB can read it, its framing and its
/// trailers included.
pub(crate) const MESSAGE: usize = 3_584 << 10;

/// The page size of a request that names none.
pub(crate) const DEFAULT_PAGE_SIZE: usize = 50;
