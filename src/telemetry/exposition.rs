//! The text formats of a scrape: OpenMetrics, and the older one of Prometheus for clients that ask for plain text.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposition {
    OpenMetrics,
    Prometheus,
}

impl Exposition {
    /// Returns the format that a client prefers, by the value of its header `Accept`. A client without a preference
    /// gets OpenMetrics.
    pub(crate) fn preferred(accept: &str) -> Exposition {
        let quality = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let matches = parts.next()?.eq_ignore_ascii_case(wanted);
                let quality = parts.find_map(|part| parse_quality(part.strip_prefix("q=")?));
                matches.then(|| quality.unwrap_or(1.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open = ["application/openmetrics-text", "application/*", "*/*"].map(quality);
        let plain = quality("text/plain").max(quality("text/*"));
        // A wildcard means that a client accepts any format, not that it prefers this one.
        let open = if open[0] > 0.0 { open[0] } else { open[1].max(open[2]).min(plain / 2.0) };
        if plain > open { Exposition::Prometheus } else { Exposition::OpenMetrics }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts metrics in the OpenMetrics format into this one.
    pub(crate) fn convert(self, openmetrics: String) -> String {
        match self {
            Exposition::OpenMetrics => openmetrics,
            Exposition::Prometheus => to_prometheus(&openmetrics),
        }
    }
}

/// Parses a weight of a preference: 0 to 1, in digits (RFC 9110, 12.4.2).
fn parse_quality(text: &str) -> Option<f32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|quality| is_plain && *quality <= 1.0)
}

/// Converts metrics. In the format of Prometheus a family has the name of its samples, there are neither units nor an
/// end, and there is no type `info`.
fn to_prometheus(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            // It precedes the type, which decides the name.
            help = text.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                out += &format!("# HELP {name}{suffix} {help}\n");
            }
            out += &format!("# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with("# ") {
            out += line;
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            ("", Exposition::OpenMetrics),
            ("*/*", Exposition::OpenMetrics),
            (prometheus, Exposition::OpenMetrics),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            ("text/plain", Exposition::Prometheus),
            ("text/plain;version=0.0.4;q=0.3,*/*;q=0.1", Exposition::Prometheus),
            ("TEXT/PLAIN", Exposition::Prometheus),
            ("text/plain, application/openmetrics-text;q=0.1", Exposition::Prometheus),
            ("text/plain;q=0.1, application/openmetrics-text", Exposition::OpenMetrics),
            ("text/html,*/*;q=0.8", Exposition::OpenMetrics),
            ("text/plain;q=0", Exposition::OpenMetrics),
            ("text/plain;q=0.5, application/openmetrics-text;q=inf", Exposition::OpenMetrics),
            ("text/plain;q=+2, application/openmetrics-text", Exposition::OpenMetrics),
            ("text/plain;q=1e9, application/openmetrics-text", Exposition::OpenMetrics),
            ("\u{0};;,,q=,;q=x", Exposition::OpenMetrics),
        ] {
            assert_eq!(Exposition::preferred(accept), expected, "{accept}");
        }
    }

    #[test]
    fn families_have_the_names_of_their_samples() {
        let openmetrics = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                           a_seconds_bucket{le=\"+Inf\"} 1\n# HELP b Count.\n# TYPE b counter\nb_total 2\n\
                           # HELP c Build.\n# TYPE c info\nc_info{v=\"# HELP\"} 1\n# EOF\n";
        let expected = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP b_total Count.\n# TYPE b_total counter\nb_total 2\n\
                        # HELP c_info Build.\n# TYPE c_info gauge\nc_info{v=\"# HELP\"} 1\n";
        assert_eq!(Exposition::Prometheus.convert(openmetrics.to_owned()), expected);
        assert_eq!(Exposition::OpenMetrics.convert(openmetrics.to_owned()), openmetrics);
    }
}
