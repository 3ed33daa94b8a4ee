//! Authors: e-mail addresses that stay out, guest authors by name, and records that are only mentioned.

use super::*;

fn user(number: &str, login: &str, names: &str) -> String {
    format!(
        "<wp:author><wp:author_id>{number}</wp:author_id><wp:author_login>{login}</wp:author_login>{names}</wp:author>"
    )
}

fn named(name: &str) -> String {
    format!("<wp:author_display_name><![CDATA[{name}]]></wp:author_display_name>")
}

fn by(login: &str) -> String {
    format!("<dc:creator><![CDATA[{login}]]></dc:creator>")
}

/// Returns the credits of an article as author and display name.
fn credits(article: &v1::Article) -> Vec<(&str, &str)> {
    let credits = article.byline.iter().flat_map(|byline| &byline.credits);
    credits.map(|credit| (credit.author.as_str(), credit.display_name.as_str())).collect()
}

#[test]
fn no_field_holds_an_email_address() {
    let names =
        "<wp:author_first_name>Bo</wp:author_first_name><wp:author_last_name>Lind</wp:author_last_name>";
    for (number, login, names, expected) in [
        ("3", "ana@a.example", named("Ana Moss"), Some(("authors/wp-user-3", "Ana Moss"))),
        ("3", "ana@a.example", named("ana@a.example"), Some(("authors/wp-user-3", "Author 3"))),
        ("3", "ana@a.example", named("Ana Moss (ana@a.example)"), Some(("authors/wp-user-3", "Ana Moss"))),
        ("3", "ana@a.example", String::new() + names, Some(("authors/wp-user-3", "Bo Lind"))),
        ("3", "ana%40a.example", named("Ana"), Some(("authors/wp-user-3", "Ana"))),
        ("3", "ana", named("ana&#64;a.example"), Some(("authors/ana", "ana"))),
        ("", "ana@a.example", named("Ana Moss"), Some(("authors/ana-moss", "Ana Moss"))),
        ("", "ana@a.example", named("ana@a.example"), None),
        ("", "ana@a.example", String::new(), None),
    ] {
        let export = channel(&format!("{}{}", user(number, login, &names), post(7, &by(login))));
        let all = items(&export);
        let article = article_of(&all[1]);
        assert_eq!(credits(&article), expected.into_iter().collect::<Vec<_>>(), "{login} {names}");
        let text = format!("{all:?}");
        assert!(
            !text.contains("a.example")
                || text.contains("harbour.example") && !text.contains("@a.") && !text.contains("40a."),
            "{text}"
        );
        assert_eq!(matches!(all[0].outcome, ItemOutcome::Converted(_)), expected.is_some());
    }
}

#[test]
fn a_guest_author_who_is_a_user_is_one_author() {
    for (login, slug) in [
        ("j.doe", "cap-j-doe"),
        ("Kim Lee", "cap-kim-lee"),
        ("ana", "cap-ana"),
        ("mo@x.example", "cap-mo-x-example"),
    ] {
        let guest = format!("<category domain='author' nicename='{slug}'>{login}</category>");
        let users = user("3", login, &named("The Name"));
        let all = items(&channel(&format!("{users}{}{}", post(7, &by(login)), post(8, &guest))));
        let (plain, guest) = (article_of(&all[1]), article_of(&all[2]));
        assert_eq!(credits(&plain), credits(&guest), "{login}");
        assert_eq!(credits(&guest)[0].1, "The Name");
    }
}

#[test]
fn an_unlisted_creator_with_an_address_is_omitted() {
    let all = items(&channel(&post(7, &by("bo.lind@a.example"))));
    assert_eq!(credits(&article_of(&all[0])), []);
    assert_eq!(converted(&all[0]).notes, ["author omitted: known by an e-mail address only"]);
    assert!(converted(&all[0]).mentions.is_empty());
    let all = items(&channel(&post(7, &by("Bo Lind <bo.lind@a.example>"))));
    assert_eq!(credits(&article_of(&all[0])), [("authors/Bo~20Lind", "Bo Lind")]);
}

fn guest_term(slug: &str, name: &str, description: &str) -> String {
    format!(
        "<wp:term><wp:term_taxonomy>author</wp:term_taxonomy><wp:term_slug>{slug}</wp:term_slug>\
         <wp:term_name>{name}</wp:term_name><wp:term_description>{description}</wp:term_description></wp:term>"
    )
}

fn guest_item(id: u64, slug: &str, login: &str, name: &str) -> String {
    let fields = [
        format!(
            "<title>{name}</title><wp:post_type>guest-author</wp:post_type><wp:post_name>cap-{slug}</wp:post_name>"
        ),
        meta("cap-display_name", name),
        meta("cap-user_login", login),
        meta("cap-user_email", "guest@a.example"),
        meta("cap-description", "Writes about eels."),
    ];
    post(id, &fields.concat())
}

fn by_guests(slugs: &[(&str, &str)]) -> String {
    let field = |(slug, name): &(&str, &str)| {
        format!("<category domain='author' nicename='cap-{slug}'>{name}</category>")
    };
    by("desk") + &slugs.iter().map(field).collect::<String>()
}

#[test]
fn guest_authors_have_their_names() {
    let marta = ("marta-fenn", "marta-fenn");
    let both = [marta, ("bo", "bo")];
    let term = guest_term("cap-marta-fenn", "marta-fenn", "Marta Fenn marta-fenn 900 marta@a.example");
    let item = guest_item(900, "marta-fenn", "marta-fenn", "Marta Fenn");
    let post_of = |guests: &[(&str, &str)]| post(7, &by_guests(guests));
    let expected = ("authors/marta-fenn", "Marta Fenn");
    for (export, expected) in [
        (post_of(&[marta]) + &item, vec![expected]),
        (item.clone() + &post_of(&[marta]), vec![expected]),
        (term.clone() + &post_of(&[marta]), vec![expected]),
        (term.clone() + &post_of(&both) + &item, vec![expected, ("authors/bo", "bo")]),
        (post_of(&[("marta-fenn", "Marta Fenn")]), vec![expected]),
        (
            user("5", "marta-fenn", &named("T. Moss")) + &post_of(&[marta]),
            vec![("authors/marta-fenn", "T. Moss")],
        ),
        (post_of(&[("martaa-example", "marta@a.example")]), vec![]),
        (
            guest_item(900, "martaa-example", "marta@a.example", "Marta Fenn")
                + &post_of(&[("martaa-example", "marta@a.example")]),
            vec![expected],
        ),
    ] {
        let all = items(&channel(&export));
        let article = &articles(&all)["articles/wp-7"];
        assert_eq!(credits(article), expected, "{export}");
        assert!(!format!("{all:?}").contains("@a.example"), "{all:?}");
    }
    let all = items(&channel(&item));
    let [Kind::Author(author)] = &kinds(&all[0])[..] else { panic!("{all:?}") };
    assert_eq!((author.display_name.as_str(), author.bio.as_str()), ("Marta Fenn", "Writes about eels."));
}

#[test]
fn listed_records_are_told_from_mentions() {
    let terms = "<category domain='category' nicename='sea'>Sea</category><category domain='category' nicename='port'>Port</category>\
                 <category domain='post_tag' nicename='eel'>Eel</category>";
    let listed = "<wp:category><wp:category_nicename>sea</wp:category_nicename><wp:cat_name>Sea</wp:cat_name>\
                  <wp:category_description>All of it</wp:category_description></wp:category>";
    let fields = format!("{}{terms}", by("bo"));
    let all = items(&channel(
        &[listed.into(), user("3", "ana", &named("Ana")), post(7, &fields), post(8, &fields)].concat(),
    ));
    assert!(converted(&all[0]).mentions.is_empty() && converted(&all[1]).mentions.is_empty());
    let mentions: Vec<_> =
        converted(&all[2]).mentions.iter().filter_map(|record| record.record.clone()).collect();
    let [Kind::Section(section), Kind::Tag(tag), Kind::Author(author)] = &mentions[..] else {
        panic!("{mentions:?}")
    };
    assert_eq!((&*section.name, &*tag.name, &*author.name), ("sections/port", "tags/eel", "authors/bo"));
    assert!(matches!(&converted(&all[2]).records[..], [v1::Record { record: Some(Kind::Article(_)), .. }]));
    assert!(converted(&all[3]).mentions.is_empty(), "each is mentioned once");
}
