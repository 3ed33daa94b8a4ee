pub(crate) fn sanitise(html: &str) -> String { html.to_owned() }
