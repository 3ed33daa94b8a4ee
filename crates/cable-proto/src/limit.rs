//! Every limit that a request can reach, in one place. `GetStatus` reports them under these names.

/// A limit of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// The public name. It ends with the unit, unless the value is a count.
    pub name: &'static str,
    /// The largest value allowed.
    pub maximum: u64,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $ident:ident = $name:literal $maximum:expr;)*) => {
        $(
            #[doc = concat!("The limit `", $name, "`.")]
            ///
            $(#[$doc])*
            pub const $ident: Limit = Limit { name: $name, maximum: $maximum };)*
        /// All limits.
        pub const ALL: &[Limit] = &[$($ident),*];
    };
}

limits! {
    /// Together with everything that an article can include, no response comes near the 4 MiB of a default client.
    ARTICLE = "article_bytes" 1 << 20;
    /// 64 authors fit into 1 MiB of includes.
    AUTHOR = "author_bytes" 16 << 10;
    SECTION = "section_bytes" 8 << 10;
    /// 128 tags fit into 1 MiB of includes.
    TAG = "tag_bytes" 8 << 10;
    COLLECTION = "collection_bytes" 128 << 10;
    /// A body that is put as HTML or Markdown: as large as a rendered one.
    BODY_SOURCE = "body_source_bytes" 1 << 20;
    /// A body as HTML, Markdown or plain text: rendered bodies must fit a response, too.
    RENDERED = "rendered_body_bytes" 1 << 20;
    /// An article with its rendered body. With everything that it can include, 2.2 MiB, it fits the 3.5 MiB of a
    /// response.
    RENDERED_ARTICLE = "rendered_article_bytes" (1 << 20) + (64 << 10);
    /// The HTML of one block.
    RAW_HTML = "raw_html_bytes" 64 << 10;
    /// Start tags in the HTML of one block. A table of 60 rows by 30 columns has 1,861.
    RAW_HTML_TAGS = "raw_html_tags" 2_000;
    /// Steps that a parser takes for the HTML of one block, and for that of a whole body: some 20 ms.
    RAW_HTML_STEPS = "raw_html_steps" 1_000_000;
    /// The HTML of all blocks of a body.
    RAW_HTML_BODY = "raw_html_body_bytes" 256 << 10;
    READ_REQUEST = "read_request_bytes" 128 << 10;
    WRITE_REQUEST = "write_request_bytes" 4 << 20;
    /// Health checks and reflection.
    CHECK_REQUEST = "check_request_bytes" 4 << 10;
    PAGE_SIZE = "page_size" 1_000;
    /// The size at which pages and batches end. One more article may exceed it.
    PAGE = "page_bytes" 2 << 20;
    /// Stored content that is read for one page or batch, which ends there. Content that a view omits or shortens still
    /// has to be read.
    PAGE_READ = "page_read_bytes" 12 << 20;
    /// A response as JSON, which repeats the names of its fields. No real page comes near it.
    JSON_RESPONSE = "json_response_bytes" 16 << 20;
    BATCH = "batch_names" 500;
    COMMIT = "commit_changes" 500;
    COMMIT_BYTES = "commit_bytes" 3 << 20;
    /// Stored articles that a commit replaces or patches, together. Each is read, and a patched one is checked as a
    /// whole.
    COMMIT_READ = "commit_read_bytes" 8 << 20;
    IMPORT = "import_records" 1_000;
    /// Each path of a mask is looked up in the schema. An article has half as many fields.
    MASK = "update_mask_paths" 64;
    FILTER = "filter_names" 64;
    FILTER_TYPES = "filter_types" 16;
    ID = "id_bytes" 128;
    REQUEST_ID = "request_id_bytes" 128;
    TAGS = "tags" 128;
    CREDITS = "credits" 64;
    ADDITIONAL_SECTIONS = "additional_sections" 16;
    /// Elements of all lists of an article, or of the request of another write. An element of two bytes on the wire
    /// takes up to two hundred in memory.
    ELEMENTS = "elements" 50_000;
    BLOCKS = "blocks" 10_000;
    BLOCK_DEPTH = "block_depth" 16;
    ALIAS_PATHS = "alias_paths" 256;
    ALTERNATIVE_HEADLINES = "alternative_headlines" 16;
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

/// The maximum size of one encoded message of a stream, in bytes. A client with the default limit of 4 MiB can read it,
/// including framing and trailers.
pub const MAX_MESSAGE_BYTES: usize = 3_584 << 10;

/// The page size of a request that specifies none.
pub const DEFAULT_PAGE_SIZE: usize = 50;
