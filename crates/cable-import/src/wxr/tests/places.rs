//! Paths, former paths, sections and times.

use super::*;

fn at(id: u64, link: &str, slug: &str, more: &str) -> String {
    post(id, &format!("<link>{}</link><wp:post_name>{slug}</wp:post_name>{more}", link.replace('&', "&amp;")))
}

fn paths(items: &[Item]) -> Vec<String> {
    articles(items).into_values().map(|article| article.path).collect()
}

#[test]
fn links_by_number_have_paths_by_slug() {
    let blog = "<wp:base_blog_url>https://a.example/news/</wp:base_blog_url>";
    for (link, expected) in [
        ("https://a.example/?p=7", "/storm/"),
        ("https://a.example?p=7", "/storm/"),
        ("https://a.example/news/?p=7", "/news/storm/"),
        ("https://a.example/news/index.php?p=7", "/news/storm/"),
        ("https://a.example/news?page_id=7", "/storm/"),
        ("https://a.example/news/?post_type=film&p=7", "/news/storm/"),
        ("https://a.example/news/?lang=de", "/news/storm/"),
        ("https://a.example/2024/storm/?lang=de", "/2024/storm/"),
        ("https://a.example/index.php/2024/storm/", "/index.php/2024/storm/"),
        ("https://a.example/old/?name=storm", "/old/storm/"),
    ] {
        let all = items(&channel(&format!("{blog}{}", at(7, link, "storm", ""))));
        assert_eq!(paths(&all), [expected], "{link}");
    }
}

#[test]
fn a_section_has_the_path_that_wordpress_gives_it() {
    let category = |slug: &str, parent: &str| {
        format!(
            "<wp:category><wp:category_nicename>{slug}</wp:category_nicename><wp:category_parent>{parent}\
             </wp:category_parent><wp:cat_name>{slug}</wp:cat_name></wp:category>"
        )
    };
    let categories = [("a", ""), ("b", "a"), ("c", "b"), ("x", "y"), ("y", "x")];
    let categories: String = categories.iter().map(|(slug, parent)| category(slug, parent)).collect();
    let export =
        "<wp:wxr_version>1.2</wp:wxr_version><wp:base_blog_url>https://a.example/news</wp:base_blog_url>";
    let all = items(&channel(&format!("{export}{categories}{}", post(7, ""))));
    let paths = all[..4].iter().map(|item| match &kinds(item)[..] {
        [Kind::Section(section)] => section.path.clone(),
        other => panic!("{other:?}"),
    });
    let paths: Vec<_> = paths.collect();
    assert_eq!(paths[..3], ["/news/category/a/", "/news/category/a/b/", "/news/category/a/b/c/"]);
    assert!(paths[3].starts_with("/news/category/") && paths[3].ends_with("/x/"), "{paths:?}");
}

#[test]
fn links_that_differ_by_their_query_are_by_number() {
    let all = items(&channel(
        &[
            at(1, "https://a.example/story.php?article=1", "one", ""),
            at(2, "https://a.example/story.php?article=2", "two", ""),
            at(3, "https://a.example/story.php", "three", ""),
        ]
        .concat(),
    ));
    assert_eq!(paths(&all), ["/one/", "/two/", "/story.php"]);
}

#[test]
fn a_taken_path_costs_only_the_path() {
    let page = "<wp:post_type>page</wp:post_type>";
    let later = "<wp:post_date_gmt>2030-01-01 00:00:00</wp:post_date_gmt>";
    let all = items(&channel(
        &[
            at(1, "https://a.example/later/", "later", later),
            at(2, "https://a.example/quay/", "quay", ""),
            at(3, "https://a.example/QU%41Y/../", "quay", ""),
            at(4, "https://a.example/%71uay/", "quay", page),
            at(5, "https://a.example/later/", "later", ""),
        ]
        .concat(),
    ));
    assert_eq!(paths(&all), ["", "/quay/", "", "", "/later/"]);
    assert!(
        converted(&all[3])
            .notes
            .iter()
            .any(|note| note == "without its path: /%71uay/ is the path of post 2"),
        "{:?}",
        all[3]
    );
    assert!(converted(&all[0]).notes.iter().any(|note| note.contains("post 5")), "{:?}", all[0]);
}

#[test]
fn former_slugs_and_dates_are_aliases() {
    let old = [
        meta("_wp_old_slug", "for-sale"),
        meta("_wp_old_slug", "%d0%b3"),
        meta("_wp_old_date", "2023-12-01"),
    ]
    .concat();
    let dated = format!("<wp:post_date>2024-03-08 08:00:00</wp:post_date>{old}");
    let all = items(&channel(
        &[
            at(1, "https://a.example/2024/03/sold/", "sold", &dated),
            at(2, "https://a.example/2023/12/for-sale/", "for-sale", ""),
            at(3, "https://a.example/archives/3", "sold", &old),
        ]
        .concat(),
    ));
    let found = articles(&all);
    assert_eq!(
        found["articles/wp-1"].alias_paths,
        ["/2023/12/sold/", "/2024/03/for-sale/", "/2024/03/г/", "/2023/12/г/"]
    );
    assert_eq!(found["articles/wp-2"].path, "/2023/12/for-sale/");
    assert!(found["articles/wp-3"].alias_paths.is_empty());
    assert!(
        converted(&all[0]).notes.iter().any(|note| note.contains("/2023/12/for-sale/: it is one of post 2")),
        "{:?}",
        all[0]
    );
    assert!(converted(&all[0]).not_imported.is_empty());
}

#[test]
fn former_paths_above_the_limit_are_counted() {
    let old: String = (0..700).map(|n| meta("_wp_old_slug", &format!("old-{n}"))).collect();
    let all = items(&channel(&at(1, "https://a.example/sold/", "sold", &old)));
    assert_eq!(articles(&all)["articles/wp-1"].alias_paths.len(), 256);
    let notes = &converted(&all[0]).notes;
    assert!(notes.iter().any(|note| note.ends_with("former paths above the limit omitted")), "{notes:?}");
}

fn category(slug: &str, name: &str, parent: &str) -> String {
    format!(
        "<wp:category><wp:category_nicename>{slug}</wp:category_nicename><wp:category_parent>{parent}</wp:category_parent>\
         <wp:cat_name><![CDATA[{name}]]></wp:cat_name></wp:category>"
    )
}

#[test]
fn parents_are_slugs_before_they_are_names() {
    let tree = [
        category("ports", "ports", ""),
        category("ferries", "ferries", "ports"),
        category("ports-2", "ports", "inland"),
        category("y24", "2024", ""),
        category("spring", "Spring", "2024"),
        category("locks", "Locks", "Ports &amp; Locks"),
        category("pl", "Ports &amp; Locks", ""),
    ]
    .concat();
    for (version, spring, locks) in [
        ("1.2", "sections/2024", "sections/Ports~20~26~20Locks"),
        ("1.1", "sections/2024", "sections/Ports~20~26~20Locks"),
        ("1.0", "sections/y24", "sections/pl"),
    ] {
        let export = channel(&format!("<wp:wxr_version>{version}</wp:wxr_version>{tree}{}", post(1, "")));
        let all = items(&export);
        let parent = |at: usize| match &kinds(&all[at])[..] {
            [Kind::Section(section)] => section.parent.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((parent(1), parent(4)), ("sections/ports".into(), spring.into()), "{version}");
        assert_eq!(parent(5), locks, "{version}");
    }
}

#[test]
fn scheduled_posts_become_pending_versions() {
    for status in ["future", "publish"] {
        let fields = format!(
            "<wp:status>{status}</wp:status><wp:post_date_gmt>2099-03-03 08:00:00</wp:post_date_gmt>\
             <wp:post_modified_gmt>2025-03-03 08:00:00</wp:post_modified_gmt>"
        );
        let article = article(&fields);
        assert_eq!(article.publish_time.map(|time| time.seconds), Some(4_076_208_000));
        assert_eq!(article.modified_time, article.publish_time);
        assert_eq!((article.create_time, article.first_publish_time), (None, None));
    }
    let due =
        article("<wp:status>future</wp:status><wp:post_date_gmt>2025-03-03 08:00:00</wp:post_date_gmt>");
    assert!(due.create_time.is_some() && due.first_publish_time == due.publish_time);
}

#[test]
fn the_time_of_the_last_change_is_imported() {
    let seconds = |fields: &str| article(fields).modified_time.map(|time| time.seconds);
    let published = "<wp:post_date>2024-01-01 01:00:00</wp:post_date><wp:post_date_gmt>2024-01-01 00:00:00</wp:post_date_gmt>";
    assert_eq!(
        seconds(&format!("{published}<wp:post_modified_gmt>2024-01-02 00:00:00</wp:post_modified_gmt>")),
        Some(1_704_153_600)
    );
    let local = "<wp:post_modified>2024-01-02 01:00:00</wp:post_modified><wp:post_modified_gmt>0000-00-00 00:00:00</wp:post_modified_gmt>";
    assert_eq!(
        seconds(&format!("{published}{local}")),
        Some(1_704_153_600),
        "with the offset of the publication"
    );
    assert_eq!(seconds(published), None);
}
