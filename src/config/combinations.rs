//! The rules for settings that depend on each other.

use std::net::IpAddr;

use super::{ClientAuth, Config, Error, Origin, Share};

/// Returns the violations of the rules: values that conflict, and values that have no effect or no safe one without
/// another. `origin` returns the origin of a setting's value.
pub(super) fn check(config: &Config, origin: impl Fn(&str) -> Origin) -> Vec<Error> {
    let server = &config.server;
    let mut errors = Vec::new();
    let addresses = [
        ("server.listen", Some(server.listen)),
        ("publish.listen", config.publish.listen),
        ("server.ops_listen", server.ops_listen),
    ];
    for (key, address) in addresses {
        let exposed = address.filter(|address| !may_serve(config, key) && !is_loopback(address.ip()));
        errors.extend(exposed.map(|address| Error::Plaintext { key, address, origin: origin(key) }));
    }
    // Port 0 is a different port each time.
    for (at, (key, address)) in addresses.iter().enumerate() {
        let same = addresses[at + 1..].iter().find(|(_, other)| other.is_some() && other == address);
        if let (Some((other, _)), Some(address)) = (same, address.filter(|address| address.port() != 0)) {
            errors.push(Error::SameAddress { keys: [key, other], address });
        }
    }
    if config.telemetry.otlp_endpoint.is_some() && !cfg!(feature = "otlp") {
        let key = "telemetry.otlp_endpoint";
        errors.push(Error::Feature { key, origin: origin(key), feature: "otlp" });
    }
    let incomplete = find_incomplete(config);
    errors.extend(incomplete.map(|(key, way_out)| Error::Incomplete { key, origin: origin(key), way_out }));
    errors
}

/// Whether an address that other machines can reach may be served.
fn may_serve(config: &Config, key: &str) -> bool {
    config.server.plaintext || key != "server.ops_listen" && config.tls.certificate.is_some()
}

/// Returns the settings that need another one, and which.
fn find_incomplete(config: &Config) -> impl Iterator<Item = (&'static str, &'static str)> {
    let (server, tls, telemetry) = (&config.server, &config.tls, &config.telemetry);
    let site = &config.site;
    let verifies = tls.client_auth != ClientAuth::None;
    let needs = [
        ("tls.certificate", tls.certificate.is_some() && tls.key.is_none(), "set `tls.key` as well"),
        ("tls.key", tls.key.is_some() && tls.certificate.is_none(), "set `tls.certificate` as well"),
        (
            "tls.client_ca",
            tls.client_ca.is_some() && (tls.certificate.is_none() || !verifies),
            "set `tls.certificate` and `tls.key`, and `tls.client_auth` to \"optional\" or \"required\"",
        ),
        (
            "tls.client_auth",
            verifies && tls.client_ca.is_none(),
            "set `tls.client_ca` to the authorities that issue client certificates",
        ),
        (
            "server.proxy_protocol",
            server.proxy_protocol && server.trusted_proxies.is_empty(),
            "set `server.trusted_proxies` to the networks of the proxies",
        ),
        (
            "telemetry.otlp_ratio",
            telemetry.otlp_ratio != Share::NONE && telemetry.otlp_endpoint.is_none(),
            "set `telemetry.otlp_endpoint` to the address of a collector",
        ),
        (
            "site.url",
            site.url.is_some() && (site.name.is_empty() || site.language.is_empty()),
            "set `site.name` and `site.language`, which feeds and sitemaps state",
        ),
    ];
    needs.into_iter().filter(|(_, incomplete, _)| *incomplete).map(|(key, _, way_out)| (key, way_out))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Effective, Layers,
        fixture::{file, flag, load_error},
    };

    #[test]
    fn a_reachable_address_requires_plaintext() {
        for address in ["0.0.0.0:7190", "[::]:7190", "192.0.2.1:7190", "[::ffff:192.0.2.1]:7190"] {
            let flags = vec![flag("--listen", "server.listen", address)];
            let error = Effective::load(Layers { flags: flags.clone(), ..Default::default() }).unwrap_err();
            assert!(matches!(error, Error::Plaintext { key: "server.listen", .. }), "{address}: {error}");
            assert!(error.to_string().contains("set `server.plaintext = true`"), "{error}");
            let flags = [flags, vec![flag("--plaintext", "server.plaintext", "true")]].concat();
            assert!(Effective::load(Layers { flags, ..Default::default() }).is_ok(), "{address}");
        }
        for address in ["127.0.0.1:9", "127.8.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            let flags = vec![flag("--listen", "server.listen", address)];
            assert!(Effective::load(Layers { flags, ..Default::default() }).is_ok(), "{address}");
        }
        let flags = vec![flag("--ops-listen", "server.ops_listen", "0.0.0.0:7191")];
        assert!(Effective::load(Layers { flags, ..Default::default() }).is_err());
    }

    #[test]
    fn a_reachable_address_needs_no_plaintext_with_tls() {
        let with = |text: &str| {
            let (_dir, path) = file(text);
            Effective::load(Layers { file: Some(path), ..Default::default() })
        };
        let tls = "[tls]\ncertificate = 'a'\nkey = 'b'\n[server]\n";
        assert!(with(&format!("{tls}listen = '0.0.0.0:7190'")).is_ok());
        let ops = with(&format!("{tls}ops_listen = '0.0.0.0:7191'")).unwrap_err();
        assert!(matches!(ops, Error::Plaintext { key: "server.ops_listen", .. }), "{ops}");
        assert!(!ops.to_string().contains("tls."), "the operations port has no TLS: {ops}");
        let plain = with("[server]\nlisten = '0.0.0.0:7190'").unwrap_err().to_string();
        assert!(plain.contains("set `tls.certificate` and `tls.key`"), "{plain}");
    }

    #[test]
    fn a_setting_that_needs_another_is_refused_with_its_name() {
        for (text, expected) in [
            ("[tls]\ncertificate = 'a'", "`tls.certificate` needs another setting: set `tls.key`"),
            ("[tls]\nkey = 'a'", "`tls.key` needs another setting: set `tls.certificate`"),
            ("[tls]\ncertificate='a'\nkey='b'\nclient_ca = 'c'", "`tls.client_auth` to \"optional\""),
            ("[tls]\nclient_ca='c'\nclient_auth = 'required'", "set `tls.certificate` and `tls.key`"),
            ("[tls]\ncertificate='a'\nkey='b'\nclient_auth = 'optional'", "set `tls.client_ca`"),
            ("[server]\nproxy_protocol = true", "set `server.trusted_proxies`"),
            ("[telemetry]\notlp_ratio = 0.5", "set `telemetry.otlp_endpoint`"),
            ("[site]\nurl = 'https://a.example'", "`site.url` needs another setting: set `site.name`"),
            ("[site]\nurl = 'https://a.example'\nname = 'A'", "and `site.language`"),
        ] {
            let error = load_error(text);
            assert!(error.starts_with("FILE:") && error.contains(expected), "{text:?}: {error}");
        }
        for (text, expected) in [
            ("[tls]\nclient_auth = 'yes'", "expected none, optional or required"),
            ("[tls]\nreload_interval = '0s'", "expected at least 100ms"),
            ("[server]\ntrusted_proxies = '10.0.0.0/33'", "expected networks such as"),
        ] {
            let error = load_error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_collector_needs_the_feature_that_its_refusal_names() {
        let (_dir, path) = file("[telemetry]\notlp_endpoint = 'http://127.0.0.1:4317'");
        let loaded = Effective::load(Layers { file: Some(path.clone()), ..Default::default() });
        if cfg!(feature = "otlp") {
            let config = loaded.unwrap().into_config();
            assert_eq!(config.telemetry.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4317"));
            return;
        }
        let error = loaded.unwrap_err().to_string();
        for part in [":2: `telemetry.otlp_endpoint`", "the feature `otlp`", "--features otlp`", "remove"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn both_servers_on_one_address_are_refused() {
        let same = |port| {
            let address = format!("127.0.0.1:{port}");
            let flags = vec![
                flag("--listen", "server.listen", &address),
                flag("--ops-listen", "server.ops_listen", &address),
            ];
            Effective::load(Layers { flags, ..Default::default() })
        };
        assert!(matches!(same(7000), Err(Error::SameAddress { .. })));
        assert!(same(0).is_ok());
    }
}
