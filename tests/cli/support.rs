//! Runs of the program: its output, nodes that it serves, and followers that run until they are interrupted.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// A year in which no test runs.
pub(crate) const FAR: &str = "2999-01-01T00:00:00Z";

/// A `cable serve --demo` in a directory of its own. If a test fails, it is killed at the end.
pub(crate) struct Demo {
    pub(crate) process: Child,
    pub(crate) endpoint: String,
    /// The commands that the demo suggests, without the program's name.
    pub(crate) suggested: Vec<String>,
}

impl Demo {
    pub(crate) fn start(dir: &Path) -> Self {
        let line = "serve --demo --listen 127.0.0.1:0 --ops-listen off";
        let mut command = cable(dir);
        let command = command.args(line.split_whitespace()).env("TMPDIR", dir).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let suggested: Vec<String> = lines.filter_map(suggested_command).take(3).collect();
        let endpoint = suggested[0].rsplit(' ').next().unwrap().to_owned();
        Demo { process, endpoint, suggested }
    }

    /// Starts a node on an existing store.
    pub(crate) fn serve(dir: &Path, data: &str) -> Self {
        let line = format!("serve --data {data} --listen 127.0.0.1:0 --ops-listen off");
        let mut process = cable(dir).args(line.split_whitespace()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = |line: String| {
            let (_, address) = line.split_once("address=")?;
            Some(address.split_whitespace().next()?.to_owned())
        };
        let endpoint = format!("http://{}", log.find_map(address).unwrap());
        // The rest of its log is not used, and must not block it.
        std::thread::spawn(move || log.for_each(drop));
        Demo { process, endpoint, suggested: Vec::new() }
    }

    pub(crate) fn run(&self, dir: &Path, line: &str) -> Output {
        cable(dir).args(line.split_whitespace()).env("CABLE_ENDPOINTS", &self.endpoint).output().unwrap()
    }

    pub(crate) fn stop(mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _already_exited = self.process.kill();
    }
}

fn suggested_command(line: String) -> Option<String> {
    let command = line.strip_prefix("  ")?;
    Some(command.split_once(' ')?.1.to_owned())
}

/// Returns the program in a directory of its own, without settings from outside.
pub(crate) fn cable(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cable"));
    command.current_dir(dir).env_clear();
    command
}

pub(crate) fn run(dir: &Path, line: &str) -> Output {
    cable(dir).args(line.split_whitespace()).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Starts a command that runs until it is interrupted.
pub(crate) fn follow(demo: &Demo, dir: &Path, line: &str) -> Child {
    let mut command = cable(dir);
    command.args(line.split_whitespace()).env("CABLE_ENDPOINTS", &demo.endpoint);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn interrupt(follower: Child) -> Output {
    let pid = follower.id().to_string();
    wait_for_signal_handler(&pid);
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    follower.wait_with_output().unwrap()
}

/// Before the handler is installed, a signal would end the process silently.
pub(crate) fn wait_for_signal_handler(pid: &str) {
    for _ in 0..600 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the process never installed its handler");
}

/// Runs lines one after the other. Each has an exit code and the start of its output, on stdout or stderr.
pub(crate) fn check_lines(demo: &Demo, dir: &Path, lines: &[(&str, i32, &str)]) {
    for (line, exit_code, prefix) in lines {
        let output = demo.run(dir, line);
        assert_eq!(code(&output), *exit_code, "{line}: {}", stderr(&output));
        let text = stdout(&output) + &stderr(&output);
        assert!(text.starts_with(prefix), "{line}: {text}");
    }
}

/// Returns the lines of a feed that ends when it has caught up.
pub(crate) fn read_feed(demo: &Demo, dir: &Path, line: &str) -> Vec<serde_json::Value> {
    let output = demo.run(dir, &format!("feed watch --until-caught-up {line}"));
    assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn put_article(demo: &Demo, dir: &Path, id: &str, headline: &str) {
    let json =
        serde_json::json!({"name": format!("articles/{id}"), "headline": headline, "tags": ["tags/russia"]});
    fs::write(dir.join("article.json"), json.to_string()).unwrap();
    let output = demo.run(dir, "article put article.json");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

pub(crate) fn write_article(dir: &Path, id: &str, headline: &str, more: serde_json::Value) {
    let mut article = serde_json::json!({"name": format!("articles/{id}"), "headline": headline});
    article.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fs::write(dir.join(format!("{id}.json")), article.to_string()).unwrap();
}
