//! The role that each method requires.

use super::Role::{self, Admin, Editor, Publisher, Reader};

/// The methods of all services that a node has, with the role that each requires. `None`: anyone may call it.
const METHODS: &[(&str, Option<Role>)] = &[
    ("cable.v1.ContentService/GetArticle", Some(Reader)),
    ("cable.v1.ContentService/BatchGetArticles", Some(Reader)),
    ("cable.v1.ContentService/ListArticles", Some(Reader)),
    ("cable.v1.ContentService/StreamArticles", Some(Reader)),
    ("cable.v1.ContentService/ResolvePath", Some(Reader)),
    ("cable.v1.ContentService/GetAuthor", Some(Reader)),
    ("cable.v1.ContentService/ListAuthors", Some(Reader)),
    ("cable.v1.ContentService/GetSection", Some(Reader)),
    ("cable.v1.ContentService/ListSections", Some(Reader)),
    ("cable.v1.ContentService/GetTag", Some(Reader)),
    ("cable.v1.ContentService/ListTags", Some(Reader)),
    ("cable.v1.ContentService/GetCollection", Some(Reader)),
    ("cable.v1.ContentService/ListCollections", Some(Reader)),
    ("cable.v1.FeedService/Watch", Some(Reader)),
    // The consumers of other callers require an admin.
    ("cable.v1.FeedService/AcknowledgePosition", Some(Reader)),
    ("cable.v1.FeedService/ListConsumers", Some(Reader)),
    ("cable.v1.FeedService/DeleteConsumer", Some(Reader)),
    ("cable.v1.StatusService/GetStatus", Some(Reader)),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(Reader)),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(Reader)),
    // Load balancers have no credentials, and a response holds no content.
    ("grpc.health.v1.Health/Check", None),
    ("grpc.health.v1.Health/Watch", None),
    ("cable.v1.PublishingService/GetPending", Some(Editor)),
    ("cable.v1.PublishingService/ListPending", Some(Editor)),
    ("cable.v1.PublishingService/PutArticle", Some(Publisher)),
    ("cable.v1.PublishingService/PatchArticle", Some(Publisher)),
    ("cable.v1.PublishingService/RemoveArticle", Some(Publisher)),
    ("cable.v1.PublishingService/PutAuthor", Some(Publisher)),
    ("cable.v1.PublishingService/RemoveAuthor", Some(Publisher)),
    ("cable.v1.PublishingService/PutSection", Some(Publisher)),
    ("cable.v1.PublishingService/RemoveSection", Some(Publisher)),
    ("cable.v1.PublishingService/PutTag", Some(Publisher)),
    ("cable.v1.PublishingService/RemoveTag", Some(Publisher)),
    ("cable.v1.PublishingService/PutCollection", Some(Publisher)),
    ("cable.v1.PublishingService/RemoveCollection", Some(Publisher)),
    ("cable.v1.PublishingService/Commit", Some(Publisher)),
    ("cable.v1.PublishingService/RemovePending", Some(Publisher)),
    ("cable.v1.TransferService/Import", Some(Publisher)),
    // An export with pending versions requires an editor.
    ("cable.v1.TransferService/Export", Some(Reader)),
    ("cable.v1.AdminService/Backup", Some(Admin)),
];

/// Returns the role that a method requires, `None` if anyone may call it. A method without an entry is closed to all
/// but operators.
pub(crate) fn required_role(method: &str) -> Option<Role> {
    METHODS.iter().find(|(name, _)| *name == method).map_or(Some(Admin), |(_, role)| *role)
}

/// Whether a method writes.
pub(crate) fn writes(method: &str) -> bool {
    required_role(method) == Some(Publisher)
}

/// Whether a method writes, shows pending versions or operates the node. Such methods can have a listener of their own.
pub(crate) fn publishes(method: &str) -> bool {
    required_role(method).is_some_and(|role| role > Reader)
}

/// Whether the audit log names the caller of a method that succeeds.
pub(crate) fn audited(method: &str) -> bool {
    matches!(required_role(method), Some(Publisher | Admin))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wire::POOL;

    #[test]
    fn every_method_of_the_schema_has_an_entry() {
        let methods = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let described: BTreeSet<String> = methods
            .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        let of_cable = METHODS.iter().map(|(name, _)| (*name).to_owned());
        let listed: BTreeSet<String> = of_cable.filter(|name| name.starts_with("cable.")).collect();
        assert_eq!(described, listed);
        assert_eq!(METHODS.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), METHODS.len());
    }

    #[test]
    fn methods_that_change_content_require_a_publisher() {
        for (name, role) in METHODS {
            let method = name.rsplit('/').next().unwrap();
            let changes =
                ["Put", "Patch", "Remove", "Commit", "Import"].iter().any(|verb| method.starts_with(verb));
            assert_eq!(changes, *role == Some(Publisher), "{name}");
        }
        assert_eq!(required_role("cable.v1.FutureService/Act"), Some(Admin));
    }
}
