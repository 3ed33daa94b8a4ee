//! Makes foreign HTML safe.

/// The HTML without scripts, styles, handlers and whatever else is not on the list of what is safe.
pub(crate) fn sanitise(html: &str) -> String {
    ammonia::clean(html)
}
