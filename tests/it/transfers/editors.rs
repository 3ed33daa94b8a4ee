//! Imports that are repeated beside editors: changes, removals and scheduled versions since an import stay.

use serde_json::{Value, json};

use super::{Store, at};

const SITE: &str = "https://harbour.example";
const OTHER_SITE: &str = "https://lantern.example";

/// The kinds of entity: the member of a record, the collection, the put method and the removal method.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("article", "articles", "PutArticle", "RemoveArticle"),
    ("author", "authors", "PutAuthor", "RemoveAuthor"),
    ("section", "sections", "PutSection", "RemoveSection"),
    ("tag", "tags", "PutTag", "RemoveTag"),
    ("collection", "collections", "PutCollection", "RemoveCollection"),
];

fn entity(kind: &str, collection: &str, id: &str, title: &str) -> Value {
    let title_field = match kind {
        "article" => "headline",
        "collection" => "title",
        _ => "display_name",
    };
    json!({"name": format!("{collection}/{id}"), title_field: title})
}

fn article(id: &str, headline: &str, more: Value) -> Value {
    let mut article = entity("article", "articles", id, headline);
    article.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    article
}

impl Store {
    /// Imports records with options. Returns the outcome of each, without its common prefix.
    async fn import_json(&self, records: Value, options: Value) -> Vec<String> {
        let mut request = options;
        request["records"] = records;
        let response = self.call("Import", request).await;
        let outcome = |result: &Value| {
            let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
            let outcome = text("outcome").replace("IMPORT_OUTCOME_", "");
            let reason = text("keep_reason").replace("KEEP_REASON_", " ");
            let error = result["error"]["reason"].as_str().unwrap_or_default();
            let owner = text("path_owner").replace("articles/", " without path of ");
            format!("{outcome}{reason}{}{owner}", error.replace("ERROR_REASON_", " "))
        };
        response["results"].as_array().unwrap().iter().map(outcome).collect()
    }

    /// Imports one record of the site.
    async fn import_one(&self, record: Value, overwrite: bool) -> String {
        let mode = u8::from(overwrite);
        self.import_json(json!([record]), json!({"source": SITE, "mode": mode})).await.remove(0)
    }

    async fn head(&self) -> Value {
        self.call("GetStatus", json!({})).await["head"].clone()
    }

    async fn get(&self, id: &str) -> Value {
        self.call("GetArticle", json!({"name": format!("articles/{id}")})).await["article"].clone()
    }

    async fn put(&self, article: Value) {
        self.call("PutArticle", json!({"article": article})).await;
    }
}

#[tokio::test]
async fn a_repeated_import_replaces_only_unchanged_versions() {
    let store = Store::open(0).await;
    for (kind, collection, put, remove) in KINDS {
        let record = |id: &str, title: &str| json!({kind: entity(kind, collection, id, title)});
        let reasons = ["MOVED", "WITHDRAWN", "DELETED", "KILLED"];
        let ids = ["same", "edited", "reverted"].into_iter().chain(reasons);
        for id in ids.clone() {
            assert_eq!(store.import_one(record(id, "One"), false).await, "WRITTEN", "{kind} {id}");
            assert_eq!(store.import_one(record(id, "One"), false).await, "UNCHANGED", "{kind} {id}");
        }
        store.call(put, json!({kind: entity(kind, collection, "same", "One")})).await;
        for title in ["Corrected", "One"] {
            store.call(put, json!({kind: entity(kind, collection, "reverted", title)})).await;
        }
        store.call(put, json!({kind: entity(kind, collection, "edited", "Corrected")})).await;
        store.call(put, json!({kind: entity(kind, collection, "new", "By hand")})).await;
        for reason in reasons {
            let moved_to = if reason == "MOVED" { format!("{collection}/same") } else { String::new() };
            let name = format!("{collection}/{reason}");
            let reason = format!("REMOVAL_REASON_{reason}");
            store.call(remove, json!({"name": name, "reason": reason, "moved_to": moved_to})).await;
        }
        let head = store.head().await;
        for (id, first, second) in [
            ("edited", "KEPT CHANGED", "KEPT CHANGED"),
            ("reverted", "UNCHANGED", "KEPT CHANGED"),
            ("new", "KEPT CHANGED", "KEPT CHANGED"),
            ("MOVED", "KEPT REMOVED", "KEPT REMOVED"),
            ("WITHDRAWN", "KEPT REMOVED", "KEPT REMOVED"),
            ("DELETED", "KEPT REMOVED", "KEPT REMOVED"),
            ("KILLED", "KEPT REMOVED", "KEPT REMOVED"),
        ] {
            assert_eq!(store.import_one(record(id, "One"), false).await, first, "{kind} {id}");
            assert_eq!(store.import_one(record(id, "Two"), false).await, second, "{kind} {id}");
        }
        assert_eq!(store.head().await, head, "{kind}");
        assert_eq!(store.import_one(record("same", "Two"), false).await, "WRITTEN", "{kind}");
        for id in ids.chain(["new"]).filter(|id| *id != "KILLED") {
            assert_eq!(store.import_one(record(id, "Three"), true).await, "WRITTEN", "{kind} {id}");
            assert_eq!(store.import_one(record(id, "Four"), false).await, "WRITTEN", "{kind} {id}");
        }
        assert_eq!(store.import_one(record("KILLED", "Three"), true).await, "REFUSED NAME_KILLED", "{kind}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_tombstone_removes_only_unchanged_versions() {
    let store = Store::open(0).await;
    let tombstone = |id: &str| json!({"tombstone": {"name": format!("articles/{id}"), "reason": "REMOVAL_REASON_WITHDRAWN"}});
    for id in ["same", "edited"] {
        store.import_one(json!({"article": article(id, "One", json!({}))}), false).await;
    }
    store.put(article("edited", "Corrected", json!({}))).await;
    assert_eq!(store.import_one(tombstone("same"), false).await, "WRITTEN");
    assert_eq!(store.import_one(tombstone("same"), false).await, "UNCHANGED");
    assert_eq!(store.import_one(tombstone("edited"), false).await, "KEPT CHANGED");
    assert_eq!(store.import_one(tombstone("edited"), true).await, "WRITTEN");
    // A name that an import removed may return with the next one.
    let back = |id: &str| json!({"article": article(id, "Back", json!({}))});
    assert_eq!(store.import_one(back("same"), false).await, "WRITTEN");
    store.close().await;
}

#[tokio::test]
async fn a_mention_replaces_nothing() {
    let store = Store::open(0).await;
    for (kind, collection, put, remove) in KINDS {
        let record = |id: &str, title: &str| json!({kind: entity(kind, collection, id, title)});
        let mention = |id: &str| {
            let mut record = record(id, "Mentioned");
            record["mentioned"] = json!(true);
            record
        };
        store.import_one(record("listed", "Listed"), false).await;
        store.call(put, json!({kind: entity(kind, collection, "edited", "Edited")})).await;
        store.call(put, json!({kind: entity(kind, collection, "removed", "Removed")})).await;
        let removal = json!({"name": format!("{collection}/removed"), "reason": "REMOVAL_REASON_DELETED"});
        store.call(remove, removal).await;
        let head = store.head().await;
        for overwrite in [false, true] {
            assert_eq!(store.import_one(mention("listed"), overwrite).await, "KEPT MENTIONED", "{kind}");
            assert_eq!(store.import_one(mention("edited"), overwrite).await, "KEPT MENTIONED", "{kind}");
            assert_eq!(store.import_one(mention("removed"), overwrite).await, "KEPT REMOVED", "{kind}");
        }
        assert_eq!(store.head().await, head, "{kind}");
        assert_eq!(store.import_one(mention("new"), false).await, "WRITTEN", "{kind}");
        assert_eq!(store.import_one(mention("new"), false).await, "UNCHANGED", "{kind}");
        assert_eq!(store.import_one(record("new", "Listed"), false).await, "WRITTEN", "{kind}");
        assert_eq!(store.import_one(mention("new"), false).await, "KEPT MENTIONED", "{kind}");
    }
    store.close().await;
}

#[tokio::test]
async fn versions_of_two_sources_are_not_mixed() {
    let store = Store::open(0).await;
    let other = async |record: Value, mode: u8| {
        store.import_json(json!([record]), json!({"source": OTHER_SITE, "mode": mode})).await.remove(0)
    };
    for (kind, collection, ..) in KINDS {
        let record = |title: &str| json!({kind: entity(kind, collection, "7", title)});
        store.import_one(record("One"), false).await;
        assert_eq!(other(record("One"), 0).await, "UNCHANGED", "{kind}");
        assert_eq!(other(record("Two"), 0).await, "REFUSED SOURCE_CONFLICT", "{kind}");
        let mut mention = record("Two");
        mention["mentioned"] = json!(true);
        assert_eq!(other(mention, 0).await, "REFUSED SOURCE_CONFLICT", "{kind}");
        // Records of no particular source replace those of a site, but not the other way round.
        let none = store.import_json(json!([record("Three")]), json!({})).await;
        assert_eq!(none, ["WRITTEN"], "{kind}");
        assert_eq!(other(record("Two"), 0).await, "KEPT CHANGED", "{kind}");
        assert_eq!(other(record("Two"), 1).await, "WRITTEN", "{kind}");
        assert_eq!(store.import_one(record("One"), false).await, "REFUSED SOURCE_CONFLICT", "{kind}");
    }
    // An article that was edited since still has its ids.
    let with_id = |id: &str, headline: &str, value: &str| {
        article(id, headline, json!({"alt_ids": [{"role": "wordpress", "value": value}]}))
    };
    store.import_one(json!({"article": with_id("8", "One", "https://harbour.example/?p=8")}), false).await;
    store.put(with_id("8", "Corrected", "https://harbour.example/?p=8")).await;
    let clash = json!({"article": with_id("8", "Two", "https://lantern.example/?p=8")});
    assert_eq!(other(clash, 0).await, "REFUSED SOURCE_CONFLICT");
    let same = json!({"article": with_id("8", "Two", "https://harbour.example/?p=8")});
    assert_eq!(store.import_one(same, false).await, "KEPT CHANGED");
    store.close().await;
}

#[tokio::test]
async fn the_source_of_a_version_moves_with_an_export() {
    let (store, copy) = (Store::open(0).await, Store::open(0).await);
    let record = |id: &str, headline: &str| json!({"article": article(id, headline, json!({}))});
    for id in ["same", "edited"] {
        store.import_one(record(id, "One"), false).await;
    }
    store.put(article("edited", "Corrected", json!({}))).await;
    copy.import(&store.export().await, json!({})).await;
    for (id, expected) in [("same", "WRITTEN"), ("edited", "KEPT CHANGED")] {
        assert_eq!(copy.import_one(record(id, "Two"), false).await, expected, "{id}");
    }
    // The next export replaces the records of the first one, but not those that were edited in the copy.
    store.put(article("edited", "Corrected again", json!({}))).await;
    let again = async || super::outcomes(&copy.import(&store.export().await, json!({})).await).len();
    assert_eq!(again().await, 1);
    assert_eq!(copy.get("edited").await["headline"], "Corrected again");
    copy.put(article("edited", "Corrected here", json!({}))).await;
    store.put(article("edited", "Corrected there", json!({}))).await;
    again().await;
    assert_eq!(copy.get("edited").await["headline"], "Corrected here");
    store.close().await;
    copy.close().await;
}

#[tokio::test]
async fn a_path_that_is_taken_costs_the_path_alone() {
    let store = Store::open(0).await;
    let at_path = |id: &str, path: &str| json!({"article": article(id, "Imported", json!({"path": path}))});
    store.put(article("owner", "Owner", json!({"path": "/taken"}))).await;
    let dry = store.import_json(json!([at_path("a", "/%74aken")]), json!({"dry_run": true})).await;
    assert_eq!(dry, ["WRITTEN without path of owner"]);
    let records =
        json!([at_path("a", "/%74aken"), at_path("b", "/two"), at_path("c", "/two"), at_path("d", "/d")]);
    let results = store.import_json(records.clone(), json!({"source": SITE})).await;
    assert_eq!(results, ["WRITTEN without path of owner", "WRITTEN", "WRITTEN without path of b", "WRITTEN"]);
    assert_eq!(
        (&store.get("a").await["path"], &store.get("a").await["headline"]),
        (&json!(null), &json!("Imported"))
    );
    let head = store.head().await;
    let results = store.import_json(records.clone(), json!({"source": SITE})).await;
    assert_eq!(
        results,
        ["UNCHANGED without path of owner", "UNCHANGED", "UNCHANGED without path of b", "UNCHANGED"]
    );
    let results = store.import_json(records.clone(), json!({"source": SITE, "dry_run": true})).await;
    assert_eq!(results[0], "UNCHANGED without path of owner");
    assert_eq!(store.head().await, head);
    // A path that is free again is set by the next import.
    store.call("RemoveArticle", json!({"name": "articles/owner", "reason": "REMOVAL_REASON_DELETED"})).await;
    let results = store.import_json(records, json!({"source": SITE})).await;
    assert_eq!(results, ["WRITTEN", "UNCHANGED", "UNCHANGED without path of b", "UNCHANGED"]);
    assert_eq!(store.get("a").await["path"], "/%74aken");
    // Articles that exchange their paths in one chunk.
    let results =
        store.import_json(json!([at_path("b", "/d"), at_path("d", "/two")]), json!({"source": SITE})).await;
    assert_eq!(results, ["WRITTEN", "WRITTEN"]);
    assert_eq!(store.import_one(at_path("b", "/d"), false).await, "UNCHANGED");
    // A scheduled version takes the path when it is due, as that of a put does.
    let later = json!({"article": article("later", "Later", json!({"path": "/d", "publish_time": at(60)}))});
    assert_eq!(store.import_one(later, false).await, "WRITTEN");
    store.advance(60).await;
    assert_eq!(
        (&store.get("later").await["path"], &store.get("b").await["path"]),
        (&json!("/d"), &json!(null))
    );
    store.close().await;
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let store = Store::open(0).await;
    let record = |id: &str, headline: &str| json!({"article": article(id, headline, json!({}))});
    for id in ["same", "edited", "removed"] {
        store.import_one(record(id, "One"), false).await;
    }
    store.put(article("edited", "Corrected", json!({}))).await;
    store.call("RemoveArticle", json!({"name": "articles/removed", "reason": "REMOVAL_REASON_KILLED"})).await;
    let head = store.head().await;
    let kill = json!({"tombstone": {"name": "articles/same", "reason": "REMOVAL_REASON_KILLED"}});
    let records = json!([
        record("new", "One"),
        record("same", "Two"),
        record("edited", "Two"),
        record("removed", "Two"),
        kill,
        record("bad", "")
    ]);
    for (mode, expected) in [
        (0, ["WRITTEN", "WRITTEN", "KEPT CHANGED", "KEPT REMOVED", "WRITTEN", "REFUSED FIELD_INVALID"]),
        (1, ["WRITTEN", "WRITTEN", "WRITTEN", "REFUSED NAME_KILLED", "WRITTEN", "REFUSED FIELD_INVALID"]),
    ] {
        let options = json!({"source": SITE, "mode": mode, "dry_run": true});
        assert_eq!(store.import_json(records.clone(), options).await, expected, "{mode}");
    }
    assert_eq!(store.head().await, head);
    assert_eq!(store.get("same").await["headline"], "One");
    store.close().await;
}

#[tokio::test]
async fn changes_by_the_server_are_not_those_of_editors() {
    let store = Store::open(0).await;
    let import = async |id: &str, headline: &str, more: Value| {
        store.import_one(json!({"article": article(id, headline, more)}), false).await
    };
    import("scheduled", "One", json!({"publish_time": at(10)})).await;
    import("expiring", "One", json!({"expire_time": at(10)})).await;
    import("losing", "One", json!({"path": "/x"})).await;
    import("taking", "One", json!({"path": "/x", "publish_time": at(10)})).await;
    import("edited", "One", json!({"publish_time": at(90)})).await;
    store.put(article("edited", "Corrected", json!({"publish_time": at(90)}))).await;
    store.advance(10).await;
    assert_eq!(import("scheduled", "Two", json!({"publish_time": at(10)})).await, "WRITTEN");
    assert_eq!(import("expiring", "Two", json!({"expire_time": at(10)})).await, "UNCHANGED");
    assert_eq!(import("expiring", "Two", json!({"expire_time": at(50)})).await, "WRITTEN");
    assert_eq!(import("losing", "Two", json!({"path": "/x"})).await, "WRITTEN without path of taking");
    assert_eq!(import("edited", "Two", json!({"publish_time": at(90)})).await, "KEPT CHANGED");
    assert_eq!(import("gone", "One", json!({"expire_time": at(5), "path": "/gone"})).await, "WRITTEN");
    let gone = store.raw.call("ResolvePath", json!({"path": "/gone"})).await.unwrap_err();
    assert_eq!((&*gone.reason, &*gone.metadata["reason"]), ("ARTICLE_GONE", "EXPIRED"));
    assert_eq!(import("gone", "One", json!({"expire_time": at(5), "path": "/gone"})).await, "UNCHANGED");
    // An editor's scheduled change of an imported article stays, too.
    store.put(article("scheduled", "Later", json!({"publish_time": at(90)}))).await;
    assert_eq!(import("scheduled", "Three", json!({"publish_time": at(10)})).await, "KEPT CHANGED");
    store.close().await;
}

#[tokio::test]
async fn a_store_without_origins_is_kept() {
    let store = Store::open(0).await;
    let record = |headline: &str| json!({"article": article("a", headline, json!({"path": "/a"}))});
    store.put(article("a", "One", json!({"path": "/a"}))).await;
    assert_eq!(store.import_one(record("One"), false).await, "UNCHANGED");
    assert_eq!(store.import_one(record("Two"), false).await, "KEPT CHANGED");
    assert_eq!(store.import_one(record("Two"), true).await, "WRITTEN");
    assert_eq!(store.import_one(record("Three"), false).await, "WRITTEN");
    store.close().await;
}

#[tokio::test]
async fn a_version_that_was_allowed_after_a_kill_is_imported_with_it() {
    let (source, target) = (Store::open(0).await, Store::open(0).await);
    let scheduled = article("a", "Allowed", json!({"publishTime": at(60)}));
    let kill = json!({"name": "articles/a", "reason": "REMOVAL_REASON_KILLED"});
    let is_pending = async || target.raw.call("GetPending", json!({"name": "articles/a"})).await.is_ok();
    source.put(article("a", "Killed", json!({}))).await;
    let before = source.export().await;
    source.call("RemoveArticle", kill.clone()).await;
    source.call("PutArticle", json!({"article": scheduled, "allow_killed": true})).await;
    let after = source.export().await;
    let options = json!({"source": SITE});
    // A store that has the killed version, as well as an empty one.
    for round in [&before, &after, &after] {
        target.import(round, options.clone()).await;
    }
    assert!(is_pending().await, "an import that is repeated changes nothing");
    // The older export has no permission, and a new kill ends the one that was given.
    target.import(&before, options.clone()).await;
    let read = target.raw.call("GetArticle", json!({"name": "articles/a"})).await;
    assert!(read.is_err(), "the killed version stays away");
    target.call("RemoveArticle", kill).await;
    target.import(&after, options).await;
    assert!(!is_pending().await, "killed since");

    let empty = Store::open(0).await;
    empty.import(&after, json!({"source": SITE})).await;
    empty.advance(60).await;
    assert_eq!(empty.get("a").await["headline"], "Allowed");
    for store in [source, target, empty] {
        store.close().await;
    }
}
