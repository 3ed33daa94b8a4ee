//! How a command reaches the service: endpoint, TLS, token and timeout, and where each of them comes from.
//!
//! The layers are, from the highest: the options; the context that `--context` names; the environment; the current
//! context (`CABLE_CONTEXT`, or `cable context use`); the default. The current context is ignored as a whole if a higher
//! layer has an endpoint: its token belongs to its own service.

use std::{env, path::PathBuf, time::Duration};

use cable::config as settings;
use cable_client::{Builder, Cable, Pem, Token};

use super::{
    COMMON_OPTIONS, DEFAULT_ENDPOINT, Error,
    contexts::{Context, Contexts},
};

/// The heading of the options for TLS and tokens.
const SECURITY_OPTIONS: &str = "TLS and token options";

/// The longest timeout of a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// The options of all commands that call a service.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Service {
    /// Endpoint of the service; separate several nodes with commas. If unset, that of the context, else
    /// http://127.0.0.1:7190. [env: CABLE_ENDPOINTS]
    #[arg(long, global = true, value_name = "URL", help_heading = COMMON_OPTIONS)]
    endpoint: Option<String>,
    /// Context for everything that no option sets; see `cable context`. If unset, the current one. [env: CABLE_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", help_heading = COMMON_OPTIONS)]
    context: Option<String>,
    /// Timeout of each call; for a stream, until it opens. If unset, 10s. [env: CABLE_TIMEOUT]
    #[arg(long, global = true, value_name = "TIME", help_heading = COMMON_OPTIONS, value_parser = timeout)]
    timeout: Option<Duration>,
    /// File of the CA certificates to trust. If unset, those of the system. [env: CABLE_CA]
    #[arg(long, global = true, value_name = "FILE", help_heading = SECURITY_OPTIONS)]
    ca: Option<PathBuf>,
    /// File of the client certificate. [env: CABLE_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE", help_heading = SECURITY_OPTIONS)]
    client_cert: Option<PathBuf>,
    /// File of the private key of the client certificate. [env: CABLE_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = SECURITY_OPTIONS)]
    client_key: Option<PathBuf>,
    /// Name for which the certificate of the server must be valid. If unset, the host of the endpoint.
    #[arg(long, global = true, value_name = "NAME", help_heading = SECURITY_OPTIONS)]
    domain_name: Option<String>,
    /// File of the token. [env: CABLE_TOKEN_FILE; CABLE_TOKEN has the token itself]
    #[arg(long, global = true, value_name = "FILE", help_heading = SECURITY_OPTIONS)]
    token_file: Option<PathBuf>,
    /// Send the token over plaintext to other machines too.
    #[arg(long, global = true, help_heading = SECURITY_OPTIONS)]
    allow_plaintext_token: bool,
    #[command(flatten)]
    refused: RefusedToken,
}

/// An option for a token, which is refused with the reason and the alternatives.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RefusedToken {
    /// A token as an argument is refused.
    #[arg(long, global = true, hide = true, num_args = 0..=1, value_parser = |_: &str| Ok::<_, String>(Given))]
    token: Option<Option<Given>>,
}

/// The presence of a value, without the value.
#[derive(Debug, Clone, Copy)]
struct Given;

impl RefusedToken {
    /// Returns the error if the option was given.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let message = "--token: not an option, because other users of this machine can read arguments, and shells \
                       store them; use --token-file FILE, CABLE_TOKEN_FILE or CABLE_TOKEN, and revoke a token that was \
                       given here";
        self.token.map_or(Ok(()), |_| Err(Error::Usage(message.to_owned())))
    }
}

/// One layer of settings.
#[derive(Debug, Clone, Default)]
struct Layer {
    endpoint: Option<String>,
    ca: Option<PathBuf>,
    /// The certificate and its key, which belong together.
    identity: Option<(PathBuf, PathBuf)>,
    domain_name: Option<String>,
    token: Option<Token>,
    allow_plaintext_token: bool,
    timeout: Option<Duration>,
}

impl Service {
    /// Returns the client.
    pub(crate) fn client(&self) -> Result<Cable, Error> {
        Ok(self.builder()?.build()?)
    }

    /// Returns whether an option selects a service.
    pub(crate) fn is_selected(&self) -> bool {
        self.endpoint.is_some() || self.context.is_some()
    }

    /// Returns whether an option for calls to a service is given.
    pub(crate) fn has_options(&self) -> bool {
        let files = [&self.ca, &self.client_cert, &self.client_key, &self.token_file];
        self.is_selected()
            || self.timeout.is_some()
            || self.domain_name.is_some()
            || self.allow_plaintext_token
            || self.refused.token.is_some()
            || files.iter().any(|file| file.is_some())
    }

    /// Returns the settings of the client.
    pub(crate) fn builder(&self) -> Result<Builder, Error> {
        self.refused.check()?;
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Ok(self.layers(variable, Contexts::load)?.builder())
    }

    /// Merges the layers. The file of contexts is read only if it can matter.
    fn layers(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        contexts: impl FnOnce() -> Result<Contexts, Error>,
    ) -> Result<Layer, Error> {
        let options = self.options()?;
        let environment = environment(&variable)?;
        if let Some(name) = &self.context {
            let named = Layer::of(contexts()?.get(name)?)?;
            return Ok(options.or(named).or(environment));
        }
        let given = options.or(environment);
        if given.endpoint.is_some() {
            return Ok(given);
        }
        let contexts = contexts()?;
        match variable("CABLE_CONTEXT").or_else(|| contexts.current.clone()) {
            Some(name) => Ok(given.or(Layer::of(contexts.get(&name)?)?)),
            None => Ok(given),
        }
    }

    fn options(&self) -> Result<Layer, Error> {
        let names = ["--client-cert", "--client-key"];
        Ok(Layer {
            endpoint: self.endpoint.clone(),
            ca: self.ca.clone(),
            identity: pair(names, self.client_cert.clone(), self.client_key.clone())?,
            domain_name: self.domain_name.clone(),
            token: self.token_file.clone().map(Token::file),
            allow_plaintext_token: self.allow_plaintext_token,
            timeout: self.timeout,
        })
    }
}

/// Returns the layer of the environment.
fn environment(variable: impl Fn(&str) -> Option<String>) -> Result<Layer, Error> {
    let path = |name| variable(name).map(PathBuf::from);
    let token = match (variable("CABLE_TOKEN"), path("CABLE_TOKEN_FILE")) {
        (Some(_), Some(_)) => {
            let problem = "CABLE_TOKEN and CABLE_TOKEN_FILE are both set: unset one of them";
            return Err(Error::Usage(problem.to_owned()));
        }
        (Some(token), None) => Some(Token::new(token.trim())),
        (None, file) => file.map(Token::file),
    };
    let timeout = variable("CABLE_TIMEOUT").map(|text| {
        timeout(text.trim())
            .map_err(|problem| Error::Usage(format!("environment variable CABLE_TIMEOUT: {problem}")))
    });
    let names = ["CABLE_CLIENT_CERT", "CABLE_CLIENT_KEY"];
    Ok(Layer {
        endpoint: variable("CABLE_ENDPOINTS"),
        ca: path("CABLE_CA"),
        identity: pair(names, path(names[0]), path(names[1]))?,
        domain_name: None,
        token,
        allow_plaintext_token: false,
        timeout: timeout.transpose()?,
    })
}

fn pair<T>(names: [&str; 2], one: Option<T>, other: Option<T>) -> Result<Option<(T, T)>, Error> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        _ => Err(Error::Usage(format!("{} and {}: set both or neither", names[0], names[1]))),
    }
}

impl Layer {
    fn of(context: &Context) -> Result<Layer, Error> {
        let Context { client_cert, client_key, .. } = context.clone();
        Ok(Layer {
            endpoint: context.endpoint.clone(),
            ca: context.ca.clone(),
            identity: pair(["client_cert", "client_key"], client_cert, client_key)?,
            domain_name: context.domain_name.clone(),
            token: context.token_file.clone().map(Token::file),
            allow_plaintext_token: context.allow_plaintext_token,
            timeout: None,
        })
    }

    /// Returns this layer, with the settings that it lacks from a lower one.
    fn or(self, lower: Layer) -> Layer {
        Layer {
            endpoint: self.endpoint.or(lower.endpoint),
            ca: self.ca.or(lower.ca),
            identity: self.identity.or(lower.identity),
            domain_name: self.domain_name.or(lower.domain_name),
            token: self.token.or(lower.token),
            allow_plaintext_token: self.allow_plaintext_token || lower.allow_plaintext_token,
            timeout: self.timeout.or(lower.timeout),
        }
    }

    fn builder(self) -> Builder {
        let mut builder = Cable::builder(self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT))
            .allow_plaintext_token(self.allow_plaintext_token);
        if let Some(ca) = self.ca {
            builder = builder.ca(Pem::file(ca));
        }
        if let Some((certificate, key)) = self.identity {
            builder = builder.client_certificate(Pem::file(certificate), Pem::file(key));
        }
        if let Some(name) = self.domain_name {
            builder = builder.domain_name(name);
        }
        if let Some(token) = self.token {
            builder = builder.token(token);
        }
        if let Some(timeout) = self.timeout {
            builder = builder.timeout(timeout);
        }
        builder
    }
}

/// Checks that a client can be made with a context.
pub(crate) fn check(context: &Context) -> Result<(), Error> {
    Layer::of(context)?.builder().build()?;
    Ok(())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let duration = settings::duration(text)?;
    if (Duration::from_millis(1)..=MAX_TIMEOUT).contains(&duration) {
        Ok(duration)
    } else {
        Err("must be 1ms to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str) -> Context {
        Context {
            endpoint: Some(format!("http://{name}:1")),
            token_file: Some(format!("/{name}").into()),
            ca: Some(format!("/{name}.ca").into()),
            ..Default::default()
        }
    }

    fn contexts() -> Result<Contexts, Error> {
        let all = ["current", "named", "variable"].map(|name| (name.to_owned(), context(name)));
        Ok(Contexts { current: Some("current".into()), all: all.into() })
    }

    /// The options that the table below gives.
    fn options(names: &[&str]) -> Service {
        let given = |name: &str| names.contains(&name);
        Service {
            endpoint: given("--endpoint").then(|| "http://option:1".into()),
            token_file: given("--token-file").then(|| "/option".into()),
            context: given("--context").then(|| "named".into()),
            ..Default::default()
        }
    }

    #[test]
    fn settings_come_from_the_highest_layer() {
        for (given, variables, endpoint, token, ca) in [
            // Nothing is given: the current context.
            (&[][..], &[][..], "current", "/current", "/current.ca"),
            // One option above the current context.
            (&["--token-file"], &[], "current", "/option", "/current.ca"),
            (&[], &["CABLE_TOKEN_FILE"], "current", "/variable", "/current.ca"),
            (&["--token-file"], &["CABLE_TOKEN_FILE"], "current", "/option", "/current.ca"),
            // An endpoint from above: nothing of the current context.
            (&["--endpoint"], &[], "option", "", ""),
            (&["--endpoint"], &["CABLE_CONTEXT"], "option", "", ""),
            (&[], &["CABLE_ENDPOINTS"], "variable-endpoint", "", ""),
            (&["--endpoint"], &["CABLE_ENDPOINTS"], "option", "", ""),
            (&["--endpoint"], &["CABLE_TOKEN_FILE"], "option", "/variable", ""),
            // The variable selects another current context.
            (&[], &["CABLE_CONTEXT"], "variable", "/variable", "/variable.ca"),
            // A context that an option names is above the environment.
            (&["--context"], &[], "named", "/named", "/named.ca"),
            (&["--context"], &["CABLE_CONTEXT"], "named", "/named", "/named.ca"),
            (&["--context"], &["CABLE_ENDPOINTS", "CABLE_TOKEN_FILE"], "named", "/named", "/named.ca"),
            (&["--context", "--endpoint"], &[], "option", "/named", "/named.ca"),
            (&["--context", "--token-file"], &["CABLE_TOKEN_FILE"], "named", "/option", "/named.ca"),
        ] {
            let variable = |name: &str| {
                let value = match name {
                    "CABLE_ENDPOINTS" => "http://variable-endpoint:1",
                    "CABLE_TOKEN_FILE" => "/variable",
                    "CABLE_CONTEXT" => "variable",
                    _ => return None,
                };
                variables.contains(&name).then(|| value.to_owned())
            };
            let layer = options(given).layers(variable, contexts).unwrap();
            let text = format!("{:?}", layer.token);
            assert_eq!(layer.endpoint, Some(format!("http://{endpoint}:1")), "{given:?} {variables:?}");
            let expected =
                if token.is_empty() { "None".to_owned() } else { format!("Some(Token(file {token}))") };
            assert_eq!(text, expected, "{given:?} {variables:?}");
            assert_eq!(layer.ca.unwrap_or_default(), PathBuf::from(ca), "{given:?} {variables:?}");
        }
    }

    #[test]
    fn the_file_of_contexts_is_read_only_if_it_matters() {
        let broken = || Err(Error::Usage("broken".into()));
        assert!(options(&["--endpoint"]).layers(|_| None, broken).is_ok());
        assert!(options(&["--context", "--endpoint"]).layers(|_| None, broken).is_err());
        assert!(options(&[]).layers(|_| None, broken).is_err());
        let none = options(&[]).layers(|_| None, || Ok(Contexts::default())).unwrap();
        assert_eq!(none.endpoint, None);
    }

    #[test]
    fn variables_that_contradict_each_other_are_refused() {
        let refusal = |variables: &'static [(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
            environment(|name| find(name).map(|(_, value)| (*value).to_owned())).err().map(|e| e.to_string())
        };
        for (variables, problem) in [
            (&[("CABLE_TOKEN", "canary"), ("CABLE_TOKEN_FILE", "b")][..], "both set"),
            (&[("CABLE_CLIENT_CERT", "a")], "CABLE_CLIENT_CERT and CABLE_CLIENT_KEY: set both or neither"),
            (&[("CABLE_CLIENT_KEY", "a")], "set both or neither"),
            (&[("CABLE_TIMEOUT", "soon")], "CABLE_TIMEOUT: expected a whole number"),
            (&[("CABLE_TIMEOUT", "2h")], "CABLE_TIMEOUT: must be 1ms to 1h"),
        ] {
            let refusal = refusal(variables).unwrap();
            assert!(refusal.contains(problem) && !refusal.contains("canary"), "{refusal}");
        }
        assert_eq!(refusal(&[("CABLE_TIMEOUT", " 5s ")]), None);
    }
}
