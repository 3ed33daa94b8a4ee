//! A file system that is full: a small tmpfs in namespaces of its own, filled by the program and by a file of another
//! one. Nothing replaces the disk here.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{PUBLISHING, is_serving, refusal, wait_for_health};
use crate::{
    connections::program::Program,
    dice::Rng,
    operations::page_with,
    raw::{Raw, request_bytes},
};

const MIB: u64 = 1 << 20;

/// The size of the file system.
const SIZE: u64 = 72 * MIB;

/// The reserve of the node: more than a checkpoint of the write-ahead log can add to the database at once.
const RESERVE: u64 = 20 * MIB;

/// A part of the file system that another program takes first. Once it is free again, there is more than the reserve.
const FOREIGN: u64 = 24 * MIB;

/// The namespaces in which the file system is mounted, for `unshare` and `nsenter`. A user without privileges needs a
/// user namespace; a machine that has none may allow root to mount without it.
const NAMESPACES: [(&str, &[&str]); 2] = [("-rm", &["-U", "--preserve-credentials", "-m"]), ("-m", &["-m"])];

/// A file system of its own. It is gone when the process that holds it ends, which is when its input ends.
struct Disk {
    dir: tempfile::TempDir,
    holder: Child,
    enter: &'static [&'static str],
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Without input, it ends by itself.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

impl Disk {
    /// Mounts a file system, or returns why this machine does not allow that.
    fn mount() -> Result<Disk, String> {
        let mut problems = Vec::new();
        for (unshare, enter) in NAMESPACES {
            let dir = tempfile::tempdir().unwrap();
            let mount = format!("mount -t tmpfs -o size={SIZE} disk {}", dir.path().display());
            let script = format!("{mount} && echo mounted && exec cat");
            let mut command = Command::new("unshare");
            command.args([unshare, "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut holder = match command.stderr(Stdio::piped()).spawn() {
                Ok(holder) => holder,
                Err(error) => return Err(format!("unshare: {error}")),
            };
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line == "mounted\n" {
                return Ok(Disk { dir, holder, enter });
            }
            let output = holder.wait_with_output().unwrap();
            problems.push(format!("unshare {unshare}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Err(problems.join("; "))
    }

    /// Returns a command that runs the program where the file system is mounted.
    fn enter(&self) -> String {
        format!("nsenter -t {} {}", self.holder.id(), self.enter.join(" "))
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn start(&self) -> Program {
        let reserve = RESERVE.to_string();
        let env =
            [("CABLE__STORE__RESERVE_BYTES", &reserve[..]), ("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0")];
        let before = format!("exec {} \"$0\" \"$@\"", self.enter());
        Program::start_serving_ops(&self.store(), &before, &env)
    }

    /// Runs a command of the program on the store.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string()]).args(self.enter);
        command.arg(env!("CARGO_BIN_EXE_cable")).args(arguments).arg("--data").arg(self.store());
        command.output().unwrap()
    }

    /// Returns the path at which this process reaches the file of the other program.
    fn foreign(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.path().strip_prefix("/").unwrap()).join("foreign")
    }

    fn free_bytes(&self) -> u64 {
        let space = rustix::fs::statvfs(self.foreign().parent().unwrap()).unwrap();
        space.f_bavail * space.f_frsize
    }

    /// Fills the file system up to its last byte.
    fn fill(&self) {
        let mut file = OpenOptions::new().append(true).open(self.foreign()).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Cuts the file of the other program, so that this much is free.
    fn free_up_to(&self, bytes: u64) {
        let file = OpenOptions::new().write(true).open(self.foreign()).unwrap();
        let missing = bytes - self.free_bytes();
        file.set_len(file.metadata().unwrap().len() - missing).unwrap();
        assert_eq!(self.free_bytes(), bytes);
    }
}

/// A node on the file system, and the articles that it must have.
struct Full {
    program: Option<Program>,
    disk: Disk,
    articles: BTreeSet<usize>,
}

/// Returns a text that hardly compresses, another one for each number.
fn text(number: usize) -> String {
    let mut rng = Rng::new(number as u64);
    std::iter::repeat_with(|| char::from(b'0' + rng.between(0, 75) as u8)).take(600_000).collect()
}

fn name(number: usize) -> String {
    format!("articles/a{number}")
}

impl Full {
    fn start(&mut self) {
        self.program = None;
        self.program = Some(self.disk.start());
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.program.as_ref().unwrap().address)
    }

    async fn raw(&self) -> Raw {
        Raw::at(&self.endpoint()).await
    }

    /// Puts an article. Returns the message of the refusal, which is always that of a full disk.
    async fn put(&mut self, number: usize) -> Result<(), String> {
        let paragraphs: Vec<Value> = text(number)
            .as_bytes()
            .chunks(5_000)
            .map(|part| json!({"paragraph": {"spans": [{"text": std::str::from_utf8(part).unwrap()}]}}))
            .collect();
        let article = json!({"name": name(number), "headline": "A", "body": {"blocks": paragraphs}});
        let request = request_bytes("PutArticle", json!({"article": article}));
        let sent = match self.raw().await.stream("PutArticle", request).await {
            Ok(mut responses) => responses.message().await.map(drop),
            Err(status) => Err(status),
        };
        let Err(status) = sent else {
            self.articles.insert(number);
            return Ok(());
        };
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(
            (status.code(), reason.as_deref()),
            (Code::ResourceExhausted, Some("STORE_FULL")),
            "{status:?}"
        );
        Err(status.message().to_owned())
    }

    async fn remove(&mut self, number: usize, reason: &str) -> Result<(), (Code, String)> {
        let request = json!({"name": name(number), "reason": reason});
        let done = self.raw().await.call("RemoveArticle", request).await;
        if done.is_ok() {
            self.articles.remove(&number);
        }
        done.map(drop).map_err(|refused| (refused.code, refused.reason))
    }

    /// Checks that the node serves every article that it must have, and none of the others.
    async fn check(&self, attempted: usize) {
        let raw = self.raw().await;
        for number in 0..attempted {
            let read = raw.call("GetArticle", json!({"name": name(number)})).await;
            assert_eq!(read.is_ok(), self.articles.contains(&number), "a{number}: {read:?}");
            let Ok(read) = read else { continue };
            let blocks = read["article"]["body"]["blocks"].as_array().unwrap();
            let parts = blocks.iter().map(|block| block["paragraph"]["spans"][0]["text"].as_str().unwrap());
            assert!(parts.collect::<String>() == text(number), "a{number} is another article");
        }
    }

    async fn check_full(&self) {
        wait_for_health(&self.endpoint(), PUBLISHING, false).await;
        for service in ["", "cable.v1.ContentService", "cable.v1.FeedService"] {
            assert!(is_serving(&self.endpoint(), service).await, "{service}");
        }
        let ops = self.program.as_ref().unwrap().ops_address.unwrap();
        page_with(ops, |page| {
            page.contains("<h1>Refusing writes</h1>") && page.contains("<code>disk_full</code>")
        })
        .await;
    }

    /// Stops the program by SIGKILL and starts it, which it refuses. Returns its last line.
    fn refused_start(&mut self) -> String {
        self.program = None;
        self.disk.fill();
        assert_eq!(self.disk.free_bytes(), 0);
        let output = self.disk.run(&["serve", "--listen", "127.0.0.1:0", "--ops-listen", "off"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text.lines().last().unwrap().to_owned()
    }
}

/// Reports that this machine cannot run the test, past the capture of the output. In CI that is a failure.
fn skip(problem: &str) {
    let message = format!("SKIPPED disk::full: no file system of its own can be mounted: {problem}");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{message}");
    // Unlike a macro, this is shown although the test passes.
    std::io::stderr().write_all(format!("\n{message}\n\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_refuses_writes_until_there_is_space_and_loses_nothing() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(problem) => return skip(&problem),
    };
    fs::write(disk.foreign(), vec![7; FOREIGN as usize]).unwrap();
    assert!(!disk.dir.path().join("foreign").exists(), "the file system is mounted only there");
    let mut node = Full { program: None, disk, articles: BTreeSet::new() };
    node.start();
    assert!(is_serving(&node.endpoint(), PUBLISHING).await);

    // The writes themselves fill the disk up to the reserve. Removals and kills use it.
    let mut next = 0;
    let message = loop {
        match node.put(next).await {
            Ok(()) => next += 1,
            Err(message) => break message,
        }
        assert!(next < 200, "{} bytes free", node.disk.free_bytes());
    };
    next += 1;
    assert!(next > 20, "{next} puts, {} bytes free", node.disk.free_bytes());
    assert!(message.contains(&format!("{RESERVE} reserved for removals; free space")), "{message}");
    node.check_full().await;
    node.check(next).await;
    node.remove(0, "REMOVAL_REASON_WITHDRAWN").await.unwrap();
    node.remove(1, "REMOVAL_REASON_KILLED").await.unwrap();
    node.check(next).await;

    // Another program takes the rest. A removal may find space in the files of the store, or is refused as a whole.
    node.disk.fill();
    node.put(next).await.unwrap_err();
    for (number, reason) in [(2, "REMOVAL_REASON_WITHDRAWN"), (3, "REMOVAL_REASON_KILLED")] {
        if let Err(refused) = node.remove(number, reason).await {
            assert_eq!(Err(refused), refusal(Code::ResourceExhausted, "STORE_FULL"));
        }
    }
    node.check_full().await;
    node.check(next + 1).await;
    // Without a free byte, a node cannot start. It changes nothing and names the cause.
    let refused = node.refused_start();
    let causes = ["No space left on device", "database or disk is full"];
    assert!(causes.iter().any(|cause| refused.contains(cause)), "{refused}");
    assert!(refused.contains("cannot open the store"), "{refused}");

    // A part of the reserve is free: the node starts, and kills.
    node.disk.free_up_to(6 * MIB);
    node.start();
    node.check_full().await;
    node.check(next + 1).await;
    node.put(next).await.unwrap_err();
    node.remove(4, "REMOVAL_REASON_KILLED").await.unwrap();
    node.check(next + 1).await;

    // Writes continue without a restart as soon as there is space.
    fs::remove_file(node.disk.foreign()).unwrap();
    assert!(node.disk.free_bytes() > RESERVE, "{} bytes free", node.disk.free_bytes());
    wait_for_health(&node.endpoint(), PUBLISHING, true).await;
    node.put(next).await.unwrap();
    let ops = node.program.as_ref().unwrap().ops_address.unwrap();
    page_with(ops, |page| !page.contains("<h1>Refusing writes</h1>")).await;
    node.check(next + 1).await;

    // The program is killed. Nothing that was acknowledged is lost.
    node.start();
    node.check(next + 1).await;
    node.program = None;
    let verified = node.disk.run(&["verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
