//! Secrets appear in no printed setting, no command line, no crash and no backup.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cable::auth::{CredentialFile, Role};
use serde_json::json;
use tempfile::TempDir;

use super::create;
use crate::{connections::program::Program, raw::Raw, tls::authority::Authority};

const TEXT: &str = "canary-of-the-body-7340";

/// A store with a credential, a key of TLS and settings that name both.
struct Place {
    dir: TempDir,
    token: String,
    key: String,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        let token = create(&dir.path().join("store"), "desk", Role::Admin).expose().to_owned();
        let pair = Authority::new("Averil CA").node();
        let place = Place { dir, token, key: pair.key_pem() };
        place.write("node.pem", &pair.certificate_pem());
        place.write("node.key", &place.key);
        place.write("token", &place.token);
        let settings = format!(
            "[server]\nplaintext = true\n[tls]\ncertificate = {:?}\nkey = {:?}\n[auth]\ncredentials = {:?}\n",
            place.path("node.pem"),
            place.path("node.key"),
            place.path("store/credentials.toml"),
        );
        place.write("cable.toml", &settings);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start(&self, before: &str) -> Program {
        Program::start(&self.path("store"), before, &[("CABLE__LOG__LEVEL", "debug")])
    }

    /// Runs the program with a token in the environment, unless that names a file of one.
    fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path());
        if !env.iter().any(|(name, _)| *name == "CABLE_TOKEN_FILE") {
            command.env("CABLE_TOKEN", &self.token);
        }
        command.envs(env.iter().copied());
        command.current_dir(self.dir.path()).args(arguments).output().unwrap()
    }

    /// Puts an article through a node.
    async fn put(&self, program: &Program) {
        let raw = Raw::at(&format!("http://{}", program.address)).await.with_token(&self.token);
        let body = json!({"blocks": [{"paragraph": {"spans": [{"text": TEXT}]}}]});
        let article = json!({"article": {"name": "articles/a", "headline": "A", "body": body}});
        raw.call("PutArticle", article).await.unwrap();
    }

    /// Returns the secrets: that of the token, its hash, and a line of the key.
    fn secrets(&self) -> Vec<String> {
        let stored = fs::read_to_string(self.path("store/credentials.toml")).unwrap();
        let hash = stored.lines().find_map(|line| line.strip_prefix("token_sha256 = ")).unwrap();
        let key = self.key.lines().nth(1).unwrap();
        vec![
            self.token.rsplit_once('_').unwrap().1.to_owned(),
            hash.trim_matches('"').to_owned(),
            key.to_owned(),
        ]
    }

    fn check(&self, place: &str, bytes: &[u8]) {
        for secret in self.secrets() {
            assert!(secret.len() >= 32, "{secret}");
            assert!(!contains(bytes, &secret), "{secret} is in {place}");
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Returns both outputs of a command that succeeds.
fn printed(output: Output) -> Vec<u8> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    [output.stdout, output.stderr].concat()
}

#[test]
fn printed_settings_and_help_name_files_and_show_nothing_of_them() {
    let place = Place::new();
    let token_file = place.path("token").display().to_string();
    let settings = place.path("cable.toml").display().to_string();
    for (arguments, expected) in [
        (&["config", "print", "--config", &settings][..], "node.key"),
        (&["config", "print", "--origin", "--config", &settings], "credentials.toml"),
        (&["config", "check", "--config", &settings], ""),
        (&["serve", "--help"], "--listen"),
        (&["article", "get", "--help"], "CABLE_TOKEN"),
        (
            &[
                "context",
                "add",
                "desk",
                "--endpoint",
                "http://127.0.0.1:1",
                "--replace",
                "--token-file",
                &token_file,
            ],
            "",
        ),
        (&["context", "ls"], "desk"),
    ] {
        for env in [&[("CABLE_TOKEN_FILE", &token_file[..])][..], &[]] {
            let bytes = printed(place.run(arguments, env));
            assert!(contains(&bytes, expected), "{}", String::from_utf8_lossy(&bytes));
            place.check(&arguments.join(" "), &bytes);
        }
    }
}

/// An editor is the only other program that the command line starts. It sees the command lines of all processes.
#[tokio::test(flavor = "multi_thread")]
async fn no_command_line_shows_a_secret() {
    let place = Place::new();
    let program = place.start("true");
    place.put(&program).await;
    let seen = place.path("seen");
    let editor = place.path("editor").display().to_string();
    // Processes may end while they are read.
    let script = format!("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >'{}'\n", seen.display());
    place.write("editor", &script);
    let editor = format!("sh {editor}");
    let (endpoint, token_file) =
        (format!("http://{}", program.address), place.path("token").display().to_string());
    for env in [vec![], vec![("CABLE_TOKEN_FILE", &token_file[..])]] {
        let env = [&[("EDITOR", &editor[..]), ("CABLE_ENDPOINTS", &endpoint)], &env[..]].concat();
        let bytes = printed(place.run(&["article", "edit", "a"], &env));
        place.check("the output", &bytes);
        let lines = fs::read(&seen).unwrap();
        for expected in ["article edit a", "serve --listen"] {
            assert!(contains(&lines, expected), "{}", String::from_utf8_lossy(&lines));
        }
        place.check("a command line", &lines);
        fs::remove_file(&seen).unwrap();
    }
    place.check("the log", program.lines_within(std::time::Duration::ZERO).join("\n").as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_shows_no_secret_and_no_content() {
    let place = Place::new();
    let (library, stopped) = (place.path("clock.so"), place.path("stopped"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/watching/stopped_clock.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.unwrap().success());
    let before = format!(
        "export LD_PRELOAD={} STOPPED_CLOCK={} RUST_BACKTRACE=full",
        library.display(),
        stopped.display()
    );
    let program = place.start(&before);
    place.put(&program).await;
    // These calls are in flight when the threads panic.
    let raw = Raw::at(&format!("http://{}", program.address)).await.with_token(&place.token);
    fs::write(&stopped, "").unwrap();
    let request = json!({"article": {"name": "articles/b", "headline": TEXT}});
    for _ in 0..8 {
        let (raw, request) = (raw.clone(), request.clone());
        tokio::spawn(async move { raw.call_lost("PutArticle", request).await });
    }
    let (code, lines) = program.wait_for_end();
    let text = lines.join("\n");
    assert_ne!(code, Some(0), "{text}");
    assert!(text.contains("panicked at") && text.contains("stack backtrace"), "{text}");
    place.check("the output of a crash", text.as_bytes());
    assert!(!text.contains(TEXT), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_what_is_restored_from_it_have_no_credential() {
    let place = Place::new();
    let program = place.start("true");
    place.put(&program).await;
    let store = place.path("store").display().to_string();
    let endpoint = format!("http://{}", program.address);
    let selected = [("--data", &store), ("--endpoint", &endpoint)];
    for (at, (option, value)) in selected.into_iter().enumerate() {
        let [backup, restored] =
            ["backup", "restored"].map(|name| place.path(&format!("{name}-{at}")).display().to_string());
        place.check("the output", &printed(place.run(&["backup", option, value, "--to", &backup], &[])));
        printed(place.run(&["restore", "--from", &backup, "--to", &restored], &[]));
        let mut files = vec![PathBuf::from(&backup)];
        files.extend(fs::read_dir(&restored).unwrap().map(|entry| entry.unwrap().path()));
        assert!(files.len() >= 2, "{files:?}");
        for file in files.iter().filter(|file| file.is_file()) {
            place.check(&file.display().to_string(), &fs::read(file).unwrap());
        }
        let credentials = CredentialFile::new(Path::new(&restored).join("credentials.toml"));
        assert!(!credentials.path().exists());
    }
}
