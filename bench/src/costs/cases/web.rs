//! GET requests: the resources with the most content, and each parameter of the description in OpenAPI with its worst
//! values. A parameter that the description gains has its requests without a change here.

use serde_json::Value;

use super::{
    Case, Variant, case,
    encoding::x,
    group,
    partners::names,
    stores::{
        MONTH, costly, elements, everything, full_month, large, long_reads, many_articles, newsroom, pages,
    },
};

/// The description of the resources. `cargo xtask gen --check` fails if it is not that of the program.
const DESCRIPTION: &str = include_str!("../../../../docs/reference/openapi.json");

/// The length of a target that the node still accepts: its limit on headers is 16 KiB.
const LONGEST: usize = 15 << 10;

pub(super) fn resources() -> Vec<Case> {
    let get = |label: &str, path: &str, target: fn(usize) -> String| {
        case(format!("GET {path}"), label, move |i| target(i).into())
    };
    let article = "/v1/articles/{id}";
    vec![
        Case {
            prepare: large,
            ..get("1 MiB of text as blocks", article, |i| format!("/v1/articles/l{}", i % 12))
        },
        Case {
            prepare: costly,
            ..get("1 MiB of marks as HTML", article, |i| format!("/v1/articles/l{}?body=html", i % 12))
        },
        Case {
            prepare: costly,
            ..get("1 MiB of marks as blocks", article, |i| format!("/v1/articles/l{}?body=blocks", i % 12))
        },
        Case {
            prepare: everything,
            ..get("everything included, as HTML", article, |_| {
                "/v1/articles/e?body=html&include=authors,sections,tags".to_owned()
            })
        },
        Case {
            prepare: everything,
            ..get("a list of 300 etags, none of them its own", article, |_| {
                let etags: Vec<String> = (0..300).map(|i| format!("W/\"{i:044}\"")).collect();
                format!("/v1/articles/e\nif-none-match: {}", etags.join(", "))
            })
        },
        get("an article that does not exist", article, |i| format!("/v1/articles/x{i}")),
        Case {
            prepare: newsroom,
            ..get("1,000 articles of 9 KB as HTML", "/v1/articles", |i| {
                format!("/v1/articles?page_size={}&view=full&body=html", 1_000 - i % 500)
            })
        },
        Case {
            prepare: newsroom,
            ..get("300 articles with everything included", "/v1/articles", |i| {
                format!("/v1/articles?page_size={}&view=full&include=authors,sections,tags", 300 - i % 200)
            })
        },
        Case {
            prepare: many_articles,
            ..get("64 tags, any tags and authors over 30,000 articles", "/v1/articles", |i| {
                let (tags, authors) = (names("t", 63), names("a", 64));
                format!(
                    "/v1/articles?tag=all,{tags}&any_tag=all,{tags}&author={authors}&page_size={}",
                    1_000 - i % 500
                )
            })
        },
        Case {
            prepare: many_articles,
            ..get("64 any tags over 30,000 articles", "/v1/articles", |i| {
                format!("/v1/articles?tag=all&any_tag={}&page_size={}", names("t", 64), 1_000 - i % 500)
            })
        },
        Case {
            prepare: newsroom,
            ..get("1,000 sections", "/v1/sections", |i| format!("/v1/sections?page_size={}", 1_000 - i % 500))
        },
        get("path of 1 KiB", "/v1/paths/{path}", |i| format!("/v1/paths/{i}{}", x(1_000))),
        get("path of 15 KiB of escapes", "/v1/paths/{path}", |i| {
            format!("/v1/paths/{i}{}", "%7E/../".repeat(LONGEST / 7))
        }),
        Case {
            prepare: newsroom,
            messages: 3,
            ..get("a snapshot of everything, full, as HTML: the first events", "/v1/feed", |_| {
                "/v1/feed?snapshot=true&view=full&body=html".to_owned()
            })
        },
        Case {
            prepare: large,
            messages: 3,
            ..get("a snapshot of 1 MiB each, as Markdown: the first events", "/v1/feed", |_| {
                "/v1/feed?snapshot=true&view=full&body=markdown".to_owned()
            })
        },
        Case {
            messages: 3,
            ..get("64 tags, sections and authors each", "/v1/feed", |i| {
                let (tags, sections, authors) = (names("t", 63), names("s", 64), names("a", 64));
                format!("/v1/feed?tag={tags},u{i}&section={sections}&author={authors}")
            })
        },
        Case {
            prepare: newsroom,
            ..get("50 articles of 9 KB", "/feeds/all.rss", |_| "/feeds/all.rss".to_owned())
        },
        Case {
            prepare: large,
            ..get("articles of 1 MiB of text", "/feeds/all.atom", |_| "/feeds/all.atom".to_owned())
        },
        Case {
            prepare: costly,
            ..get("articles of 1 MiB of marks", "/feeds/all.rss", |_| "/feeds/all.rss".to_owned())
        },
        Case {
            prepare: costly,
            ..get("articles of 1 MiB of marks", "/feeds/all.json", |_| "/feeds/all.json".to_owned())
        },
        Case {
            prepare: elements,
            ..get("50 articles of 40,000 empty spans", "/feeds/all.atom", |_| "/feeds/all.atom".to_owned())
        },
        Case {
            prepare: newsroom,
            ..get("20 of 1,000 articles", "/feeds/tag/{id}.json", |i| format!("/feeds/tag/t{}.json", i % 50))
        },
        Case {
            prepare: pages,
            ..get("5,000 of the longest paths", "/sitemap-{month}.xml", |i| match i % 2 {
                0 => format!("/sitemap-{MONTH}.xml"),
                _ => format!("/sitemap-{MONTH}-2.xml"),
            })
        },
        Case {
            prepare: long_reads,
            ..get("5,000 articles of 100 KB", "/sitemap-{month}.xml", |_| format!("/sitemap-{MONTH}.xml"))
        },
        Case {
            prepare: full_month,
            ..get("the last of 50 parts, and one after it", "/sitemap-{month}.xml", |i| {
                format!("/sitemap-{MONTH}-{}.xml", [50, 9_000][i % 2])
            })
        },
        Case {
            prepare: pages,
            ..get("1,000 of the longest paths", "/sitemap-news.xml", |_| "/sitemap-news.xml".to_owned())
        },
        Case {
            prepare: many_articles,
            ..get("30,000 articles without a page", "/sitemap-news.xml", |_| "/sitemap-news.xml".to_owned())
        },
        Case { prepare: pages, ..get("30,000 articles", "/sitemap.xml", |_| "/sitemap.xml".to_owned()) },
        get("the description", "/v1/openapi.json", |_| "/v1/openapi.json".to_owned()),
        get("the program of the reading room", "/room.js", |_| "/room.js".to_owned()),
        get("the page of the reading room", "/", |_| "/".to_owned()),
        get("a path of 15 KiB where nothing is", "/{path}", |i| format!("/{i}{}", x(LONGEST))),
        get("a target above the limit", "/{path}", |i| format!("/{i}{}", x(20 << 10))),
    ]
}

/// Returns a row for each resource of the description, with requests for each of its parameters.
pub(super) fn parameters() -> Vec<Case> {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap_or_default();
    let paths = description["paths"].as_object().into_iter().flatten();
    let of_path = |(path, operations): (&String, &Value)| {
        let described = operations["get"]["parameters"].as_array().into_iter().flatten();
        let all: Vec<Value> = described.map(|parameter| resolve(&description, parameter)).collect();
        let variants: Vec<Variant> = all.iter().flat_map(|parameter| requests(path, parameter)).collect();
        let label =
            format!("{} requests of {} parameters with their worst values", variants.len(), all.len());
        Case { messages: 2, needs_success: true, ..group(format!("GET {path}"), label, variants) }
    };
    // The description of the resources has no parameters.
    paths.map(of_path).filter(|case| !case.variants.is_empty()).collect()
}

/// Returns a parameter in the place of a reference to it.
fn resolve(description: &Value, parameter: &Value) -> Value {
    let reference = parameter["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| description.pointer(pointer)).unwrap_or(parameter).clone()
}

/// Returns the requests of a resource with the worst values of one parameter.
fn requests(path: &str, parameter: &Value) -> Vec<Variant> {
    let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
    let base = path.replace("{id}", "probe").replace("{path}", "probe").replace("{month}", MONTH);
    let mut values = vec![
        ("a long value", x(LONGEST - 200)),
        ("commas", ",".repeat(LONGEST - 200)),
        ("ids", format!("{}x", "x,".repeat(LONGEST / 2 - 200))),
        ("64 ids", names("t", 64)),
        ("64 long ids", (0..64).map(|i| format!("{i:0128}")).collect::<Vec<_>>().join(",")),
        ("escapes", "%41".repeat(LONGEST / 3 - 100)),
        ("escapes that are not UTF-8", "%ff".repeat(LONGEST / 3 - 100)),
        ("digits", "9".repeat(LONGEST - 200)),
        ("the largest number", i64::MAX.to_string()),
        ("nothing", String::new()),
        ("true", "true".to_owned()),
        ("etags", "\"x\",".repeat(LONGEST / 8 - 100)),
    ];
    let words = parameter["schema"]["enum"].as_array().into_iter().flatten();
    values.extend(words.filter_map(Value::as_str).map(|word| ("a word", word.to_owned())));
    let request = |(label, value): (&str, String)| {
        let (path, base, name) = (path.to_owned(), base.clone(), name.clone());
        let place = place.clone();
        Variant::new(format!("{name}: {label}"), move |_| {
            let target = match &place[..] {
                "path" => path.replace(&format!("{{{name}}}"), &value.replace('"', "%22")),
                "header" => format!("{base}\n{}: {value}", name.to_ascii_lowercase()),
                _ => format!("{base}?{name}={}", value.replace('"', "%22")),
            };
            target.into()
        })
    };
    values.into_iter().map(request).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parameter without a request has a place that this module does not know.
    #[test]
    fn each_parameter_of_the_description_has_requests() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let (cases, mut count) = (parameters(), 0);
        for (path, operations) in description["paths"].as_object().unwrap() {
            assert_eq!(operations.as_object().unwrap().len(), 1, "{path} has more than GET");
            let own = operations["get"]["parameters"].as_array().unwrap();
            let case = cases.iter().find(|case| case.method == format!("GET {path}"));
            assert_eq!(case.is_some(), !own.is_empty(), "{path}");
            for (parameter, case) in own.iter().flat_map(|parameter| case.map(|case| (parameter, case))) {
                let parameter = resolve(&description, parameter);
                let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
                assert!(["path", "query", "header"].contains(&&place[..]), "{path} {name} {place}");
                let own: Vec<_> =
                    case.variants.iter().filter(|one| one.label.starts_with(&format!("{name}: "))).collect();
                assert!(own.len() >= 12, "{path} {name}");
                for variant in own {
                    let request = String::from_utf8((variant.request)(0).to_vec()).unwrap();
                    let in_place = match &place[..] {
                        "query" => request.contains(&format!("?{name}=")),
                        "header" => request.contains(&format!("\n{}: ", name.to_ascii_lowercase())),
                        _ => !request.contains('{'),
                    };
                    assert!(in_place && request.len() < 16 << 10, "{path} {}", variant.label);
                }
                count += 1;
            }
        }
        assert!(count > 60, "{count}");
    }

    #[test]
    fn each_resource_has_a_case_of_its_own() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let cases = resources();
        for path in [
            "/v1/articles",
            "/v1/articles/{id}",
            "/v1/paths/{path}",
            "/v1/sections",
            "/v1/feed",
            "/feeds/all.rss",
            "/sitemap.xml",
            "/sitemap-news.xml",
            "/sitemap-{month}.xml",
        ] {
            assert!(description["paths"][path].is_object(), "{path}");
            assert!(cases.iter().any(|case| case.method == format!("GET {path}")), "{path}");
        }
    }
}
