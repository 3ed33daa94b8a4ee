//! Output on a terminal: its formats, its width, and content that would control it.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Stdio,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::{Demo, FAR, cable, code, stderr, write_article};

/// The output of a command on a terminal, and its exit code.
struct Screen {
    stdout: String,
    stderr: String,
    code: i32,
}

/// A pseudo-terminal: the side of the user, and that of the program.
fn open_terminal(columns: u16) -> (File, File) {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let program = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&program, size).unwrap();
    (File::from(user), program)
}

/// Reads what a terminal shows, until the program has closed it.
fn read_terminal(mut user: File) -> String {
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // A closed terminal is an error here, not the end of a file.
    while let Ok(count @ 1..) = user.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

/// Runs a command whose output and errors go to terminals.
fn run_on_terminal(demo: &Demo, dir: &Path, line: &str) -> Screen {
    let ((out, stdout), (err, stderr)) = (open_terminal(80), open_terminal(80));
    let mut command = cable(dir);
    command.args(line.split_whitespace()).env("CABLE_ENDPOINTS", &demo.endpoint).stdin(Stdio::null());
    let mut process = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    // The command holds the program's sides of the terminals.
    drop(command);
    let errors = std::thread::spawn(move || read_terminal(err));
    let stdout = read_terminal(out);
    let code = process.wait().unwrap().code().unwrap();
    Screen { stdout, stderr: errors.join().unwrap(), code }
}

#[test]
fn every_command_works_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    write_article(dir.path(), "quay", "Quay reopens", serde_json::json!({"publishTime": FAR}));
    fs::write(
        dir.path().join("t.json"),
        r#"{"name": "t", "displayName": "T"}{"name": "u", "displayName": "U"}"#,
    )
    .unwrap();
    fs::write(dir.path().join("t.jsonl"), r#"{"tag": {"name": "tags/v", "displayName": "V"}}"#).unwrap();
    for (line, expected) in [
        ("article get station-lamp-23", "headline"),
        ("article get station-lamp-23 --view reference", "name"),
        ("article get station-lamp-23 --view basic", "headline"),
        ("article get station-lamp-23 --view full", "headline"),
        ("article get station-lamp-23 --body html", "<p>"),
        ("article get station-lamp-23 --body markdown", "Cape Desire"),
        ("article get station-lamp-23 --body blocks", "headline"),
        ("article get station-lamp-23 -o json", "{\n"),
        ("article get station-lamp-23 --body text -o json", "renderedBody"),
        ("article get station-lamp-23 murmansk-pilots-wait", "\n\nname"),
        ("article get --path /world/2026/11/station-lamp-23", "headline"),
        ("article ls", "HEADLINE"),
        ("article ls --view reference --limit 2", "HEADLINE"),
        ("article stream --tag russia", "HEADLINE"),
        ("article put quay.json", "articles/quay put: revision"),
        ("article put quay.json --dry-run", "articles/quay would be created"),
        ("article pending ls", "DUE"),
        ("article pending get quay", "headline"),
        ("article pending get quay --view basic", "headline"),
        ("article pending get quay --view reference", "name"),
        ("article pending rm quay", "articles/quay cancelled"),
        ("article diff quay.json", "+++ articles/quay"),
        ("author ls", "JOB"),
        ("author get leila-haddow", "displayName"),
        ("section ls", "TAGLINE"),
        ("section get world", "displayName"),
        ("tag ls", "KIND"),
        ("tag get russia port-averil", "\n\nname"),
        ("tag put t.json", "tags/u put"),
        ("tag rm t", "tags/t removed"),
        ("collection ls", "TITLE"),
        ("collection get front", "HEADLINE"),
        ("feed watch --snapshot --until-caught-up", "snapshot complete"),
        ("import jsonl t.jsonl", "written"),
        ("export", "{\"article\""),
        ("status", "content digest"),
        ("config print", "[server]"),
        ("bench get --calls 5 --warm-up 0s", "calls"),
    ] {
        let Screen { stdout, stderr, code } = run_on_terminal(&demo, dir.path(), line);
        assert_eq!(code, 0, "{line}: {stderr}");
        assert!(stdout.contains(expected), "{line}: {stdout}");
        assert!(!stdout.contains('\u{1b}'), "{line}: {stdout:?}");
    }
    let shown = run_on_terminal(&demo, dir.path(), "export");
    assert!(!shown.stderr.contains(['\u{1b}', '\r']), "progress among the records: {:?}", shown.stderr);
    let refused = run_on_terminal(&demo, dir.path(), "export --as binary");
    assert_eq!((refused.code, &*refused.stdout), (2, ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("--to"), "{}", refused.stderr);
}

/// Responds to two requests as the operations address of a node would. Returns its address.
fn serve_metrics() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for peer in listener.incoming().take(2) {
            let (mut peer, mut head) = (peer.unwrap(), [0; 4096]);
            let mut length = 0;
            while !head[..length].ends_with(b"\r\n\r\n") {
                length += peer.read(&mut head[length..]).unwrap();
            }
            peer.write_all(b"HTTP/1.0 200 OK\r\n\r\ncable_head_revision 42\n").unwrap();
        }
    });
    address
}

#[test]
fn a_frame_of_top_clears_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (user, terminal) = open_terminal(80);
    let mut command = cable(dir.path());
    command.args(["top", "--frames", "1", "--interval", "100ms", "--ops", &serve_metrics()]);
    let mut process = command.stdin(Stdio::null()).stdout(terminal).spawn().unwrap();
    drop(command);
    let shown = read_terminal(user);
    assert!(process.wait().unwrap().success(), "{shown}");
    assert!(shown.starts_with("\u{1b}[H\u{1b}[2Jready   head 42\n"), "{shown:?}");
    assert!(!shown.contains("\\u001b") && shown.lines().all(|line| line.chars().count() <= 87), "{shown:?}");
    let piped = cable(dir.path()).args(["top", "--interval", "100ms", "--ops", &serve_metrics()]).output();
    let piped = piped.unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"ready   head 42\n"), "{piped:?}");
    let refused = cable(dir.path()).args(["top", "--interval", "0s"]).output().unwrap();
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("at least 100ms"), "{}", stderr(&refused));
}

#[test]
fn paragraphs_are_wrapped_at_the_width_of_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let screen = run_on_terminal(&demo, dir.path(), "article get station-lamp-23");
    let (_, body) = screen.stdout.split_once("\n\n").unwrap();
    let longest = body.lines().filter(|line| line.contains(' ')).map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|width| (40..=80).contains(&width)), "{longest:?}: {body}");
}

/// An ESC sequence, the same in one character, and a directional override.
const CONTROLS: &str = "\u{1b}[2J \u{9b}2J \u{202e}";
const ESCAPED: &str = "\\u001b[2J \\u009b2J \\u202e";

#[test]
fn control_characters_of_arguments_and_files_are_shown_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    fs::write(dir.path().join("x.jsonl"), format!("{{\"tag\": {{\"name\": \"{CONTROLS}\"}}}}\n")).unwrap();
    fs::write(dir.path().join("x.json"), serde_json::json!({"name": "x", CONTROLS: 1}).to_string()).unwrap();
    fs::write(dir.path().join("x.md"), format!("---\n\"{}\": 1\n---\n", CONTROLS.replace('\u{1b}', "\\e")))
        .unwrap();
    let quoted = |part: &str| part.replace(' ', "_");
    for arguments in [
        vec!["article", "get", &quoted(CONTROLS)],
        vec!["article", "get", "x", &quoted(CONTROLS)],
        vec!["tag", "get", CONTROLS],
        vec!["article", "ls", "--tag", CONTROLS],
        vec!["article", "put", CONTROLS],
        vec!["article", "put", "x.json"],
        vec!["article", "put", "x.md"],
        vec!["import", "jsonl", "x.jsonl"],
        vec!["import", "wxr", CONTROLS],
        vec!["backup", "--data", CONTROLS, "--to", "copy"],
        vec!["config", "check", "--config", CONTROLS],
        vec!["feed", "watch", "--after", CONTROLS],
        vec!["article", "get", "--view", CONTROLS],
        vec![CONTROLS],
    ] {
        let ((shown, terminal), mut command) = (open_terminal(200), cable(dir.path()));
        command.args(&arguments).env("CABLE_ENDPOINTS", &demo.endpoint).stdin(Stdio::null());
        let stderr = terminal.try_clone().unwrap();
        let mut process = command.stdout(terminal).stderr(stderr).spawn().unwrap();
        drop(command);
        let shown = read_terminal(shown);
        assert_ne!(process.wait().unwrap().code(), Some(0), "{arguments:?}: {shown}");
        // Progress and the style of help use sequences of their own.
        assert!(!CONTROLS.split(' ').any(|part| shown.contains(part)), "{arguments:?}: {shown:?}");
        // Some messages omit the text.
        let is_shown = ESCAPED.split(' ').any(|part| shown.contains(part));
        assert!(is_shown || shown.contains("character"), "{arguments:?}: {shown:?}");
    }
}

#[test]
fn a_name_that_no_article_has_is_reported_with_the_near_one() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    for (line, expected) in [
        ("article ls --tag Russia", "no article has tags/Russia; did you mean tags/russia?\n"),
        ("article ls --any-tag rusia", "no article has tags/rusia; did you mean tags/russia?\n"),
        ("article stream --tag russia --tag nosuch", "no article has tags/nosuch\n"),
        ("article ls --section wrld", "no article has sections/wrld; did you mean sections/world?\n"),
        (
            "article ls --author Leila-Hadow",
            "no article has authors/Leila-Hadow; did you mean authors/leila-haddow?\n",
        ),
        ("article ls --language zz", "no articles match\n"),
        (
            "feed watch --any-tag Russia --until-caught-up",
            "no article has tags/Russia; did you mean tags/russia?\n",
        ),
        ("feed watch --section wrld --until-caught-up", "did you mean sections/world?\n"),
        ("mirror --any-tag Russia --once mirror.jsonl", "did you mean tags/russia?\n"),
    ] {
        let screen = run_on_terminal(&demo, dir.path(), line);
        assert_eq!(screen.code, 0, "{line}: {}", screen.stderr);
        assert!(screen.stderr.contains(expected), "{line}: {}", screen.stderr);
        let piped = demo.run(dir.path(), line);
        assert_eq!(code(&piped), 0, "{line}");
        let is_name = expected.contains("article has") || expected.contains("did you mean");
        assert_eq!(stderr(&piped).contains(expected), is_name, "{line}: {}", stderr(&piped));
    }
    let screen = run_on_terminal(&demo, dir.path(), "article ls --tag russia");
    assert_eq!(screen.stderr, "");
}
